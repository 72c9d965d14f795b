"""What the venue says of stored markets, as values: for comparing, and as evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markets.models import Market, Outcome
from markets.questions import Wording
from markets.texts import chunks

UNIVERSE = (Market.State.TRADABLE, Market.State.PAUSED)  # markets worth relating

Evidence = dict[str, Any]  # plain data: what the venue said of a market at one time

_FIELDS = (
    "id",
    "question",
    "label",
    "event_id",
    "event__title",
    "event__neg_risk",
    "end_at",
    "payout",
    "text__rules",
    "text__source",
    "text__opened_at",
)
_LABEL = ("market_id", "index", "label")


@dataclass(frozen=True, slots=True)
class Stated:
    """Everything the venue states of a market that a decision about it rests on."""

    wording: Wording
    evidence: Evidence


def all_wordings() -> list[Wording]:
    """Return the wordings of every market that can still be traded, ordered by id."""
    rows = Market.objects.filter(state__in=UNIVERSE).order_by("id").values_list(*_FIELDS)
    labels = Outcome.objects.filter(market__state__in=UNIVERSE).values_list(*_LABEL)
    by_market = _labels(labels.iterator(chunk_size=2_000))
    return [_wording(row, by_market) for row in rows.iterator(chunk_size=2_000)]


def stated_of(market_ids: Iterable[str]) -> dict[str, Stated]:
    """Return what is stated of these markets, by id; unknown ids are left out."""
    found: dict[str, Stated] = {}
    for ids in chunks(dict.fromkeys(market_ids)):
        rows = list(Market.objects.filter(pk__in=ids).values_list(*_FIELDS, "conflict"))
        labels = _labels(Outcome.objects.filter(market__in=ids).values_list(*_LABEL))
        sets = _event_sets({row[3] for row in rows if row[3]})
        for *fields, conflict in rows:
            wording = _wording(fields, labels)
            evidence = _evidence(wording, conflict, sets.get(wording.event_id, ""))
            found[wording.market_id] = Stated(wording, evidence)
    return found


def fingerprint(members: Iterable[tuple[str, int, Evidence]]) -> str:
    """Return sha256 over (market, outcome, evidence) of the members of a relation, in order."""
    return _sha256([list(member) for member in members])


def _evidence(wording: Wording, conflict: str, event_set: str) -> Evidence:
    return {
        "question": wording.question,
        "label": wording.label,
        "outcomes": list(wording.outcomes),
        "rules": wording.rules,
        "source": wording.source,
        "ends": wording.end_at.isoformat() if wording.end_at else "",
        "listed": wording.opened_at.isoformat() if wording.opened_at else "",
        "event": wording.event_id,
        "event_title": wording.event_title,
        "event_set": event_set,
        "conflict": conflict,
    }


def _event_sets(event_ids: Iterable[str]) -> dict[str, str]:
    """Return a hash of each event's set of outcomes: which they are, and whether they exclude."""
    rows = (
        Market.objects.filter(event_id__in=event_ids)
        .exclude(state=Market.State.UNLISTED)
        .order_by("id")
        .values_list("event_id", "id", "label", "event__neg_risk", "event__augmented")
    )
    sets: dict[str, list[Any]] = {}
    for event_id, *listed in rows:
        sets.setdefault(str(event_id), []).append(listed)
    return {event_id: _sha256(listed) for event_id, listed in sets.items()}


def _sha256(data: object) -> str:
    body = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


def _labels(rows: Iterable[tuple[str, int, str]]) -> dict[str, dict[int, str]]:
    labels: dict[str, dict[int, str]] = {}
    for market_id, index, label in rows:
        labels.setdefault(market_id, {})[index] = label
    return labels


def _wording(row: Sequence[Any], labels: Mapping[str, Mapping[int, str]]) -> Wording:
    pk, question, label, event_id, title, neg_risk, end_at, payout, rules, source, opened_at = row
    outcomes = labels.get(pk, {})
    return Wording(
        market_id=pk,
        question=question,
        outcomes=(outcomes.get(0, "Yes"), outcomes.get(1, "No")),
        label=label,
        event_id=event_id or "",
        event_title=title or "",
        end_at=end_at,
        rules=rules or "",
        source=source or "",
        neg_risk=bool(neg_risk),
        payout=payout,
        opened_at=opened_at,
    )
