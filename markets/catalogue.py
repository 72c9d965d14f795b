"""Storing what the venue lists: events, markets and outcomes, changed rows only, with history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F

from markets.conflicts import conflicts_of
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.listing import BadListing, EventTerms, MarketTerms
from markets.models import Event, Market, Outcome, TermsChange
from markets.problems import Problems
from markets.relation_changes import invalidate_changed
from markets.ticks import quarantine

Values = dict[str, Any]
Field = TermsChange.Field

_STATES = {
    None: Market.State.TRADABLE,
    "resolved": Market.State.RESOLVED,
    "closed": Market.State.CLOSED,
    "archived": Market.State.CLOSED,
    "placeholder": Market.State.PLACEHOLDER,
    "no_order_book": Market.State.PAUSED,
    "paused": Market.State.PAUSED,
}
_UNLISTED = Market.State.UNLISTED
_EVENT_FIELDS = ("title", "slug", "neg_risk", "augmented", "closed", "end_at", "tags")
_MARKET_FIELDS = (
    "event_id",
    "condition_id",
    "question",
    "label",
    "slug",
    "state",
    "tick_size",
    "min_size",
    "fee_rate",
    "fee_exponent",
    "payout",
    "liquidity",
    "volume",
    "end_at",
    "other",
    "leg_number",
    "conflict",
)
_WITH_HISTORY = {
    "question": Field.QUESTION,
    "state": Field.STATE,
    "tick_size": Field.TICK_SIZE,
    "min_size": Field.MIN_SIZE,
    "fee_rate": Field.FEE_RATE,
    "fee_exponent": Field.FEE_EXPONENT,
    "payout": Field.PAYOUT,
    "end_at": Field.END_AT,
}
MOST_TEXT = 300  # of a label or slug; a question may be longer
MOST_USD = Decimal(10) ** 17
CENT, RATE = Decimal("0.01"), Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows one write wrote. `unchanged` counts markets, `changes` rows of history.

    `refused` are markets that cannot be stored beside the others. `differing` are those of
    which something else than figures changed: what is known of them may not hold any more.
    """

    events: int = 0
    markets: int = 0
    outcomes: int = 0
    unchanged: int = 0
    changes: int = 0
    refused: tuple[BadListing, ...] = ()
    differing: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        return self.events + self.markets + self.outcomes


@transaction.atomic
def store(events: Iterable[EventTerms], *, seen_at: datetime) -> int:
    """Write what is new or different and return how many rows that were.

    What cannot be stored goes to the quarantine; relations that rested on what
    is different now are taken out of use, or nothing is written at all.
    """
    written = write(events, seen_at=seen_at)
    invalidate_changed(written.differing, at=seen_at)
    problems = Problems()
    for bad in written.refused:
        at = int(seen_at.timestamp()) * 10**9
        problems.note("gamma", "not_storable", at=at, subject=bad.market_id, detail=str(bad))
    quarantine(problems.drain())
    return written.rows


@transaction.atomic
def write(events: Iterable[EventTerms], *, seen_at: datetime) -> Written:
    """Write what is new or different, with its history.

    Rows are written in the order of their ids, so that two processes that
    write at once wait for each other instead of locking each other out.
    """
    placed = {event.event_id: _placed(event) for event in events}
    refused: list[BadListing] = []
    claimed: dict[str, str] = {}
    listed = {key: _unclaimed(placed[key], refused, claimed) for key in sorted(placed)}
    known = _known_events(listed)
    wanted = {key: _event_values(event, known.get(key)) for key, event in listed.items()}
    changed = [key for key, values in wanted.items() if values != known.get(key)]
    _upsert(Event, {key: wanted[key] for key in changed}, _EVENT_FIELDS, seen_at)
    whole_before = frozenset(key for key in known if listed[key].complete)
    markets = _write_markets(listed, old_events=whole_before, seen_at=seen_at)
    renamed = {market.market_id for key in changed for market in listed[key].markets}
    return replace(
        markets,
        events=len(changed),
        refused=tuple(refused),
        differing=markets.differing | renamed,
    )


def unlist(market_ids: Sequence[str], *, at: datetime) -> int:
    """Note that the venue does not list these any more; return how many that is news of."""
    listed = Market.objects.filter(pk__in=market_ids).exclude(state=_UNLISTED)
    with transaction.atomic():
        stored = list(listed.order_by("id").values_list("id", "event_id", "state"))
        _keep_history(
            [_change(pk, event, at, Field.STATE, state, _UNLISTED) for pk, event, state in stored]
        )
        return listed.update(state=_UNLISTED, seen_at=at)


def known_conditions(conditions: Iterable[str]) -> dict[str, str]:
    """Return the market id of each condition that is stored under Gamma's own id."""
    stored = Market.objects.filter(condition_id__in=list(conditions))
    own = stored.exclude(condition_id=F("id")).order_by("id")
    return dict(own.values_list("condition_id", "id"))


@transaction.atomic
def settle(payouts: Mapping[str, Decimal | None], *, at: datetime) -> int:
    """Store what the first outcome of markets paid; None is no result. Return how many are news."""
    open_still = Market.objects.filter(pk__in=payouts).exclude(state=Market.State.RESOLVED)
    news = [market for market in open_still.order_by("id") if payouts[market.pk] is not None]
    history = []
    for market in news:
        payout, resolved = payouts[market.pk], Market.State.RESOLVED
        history += [
            _change(market.pk, market.event_id, at, Field.STATE, market.state, resolved),
            _change(market.pk, market.event_id, at, Field.PAYOUT, "", _shown(payout)),
        ]
        market.payout, market.state, market.seen_at = payout, resolved, at
    Market.objects.bulk_update(news, ["payout", "state", "seen_at"], batch_size=500)
    _keep_history(history)
    return len(news)


def _placed(event: EventTerms) -> EventTerms:
    """Give every market an event: one that came alone is one of its own."""
    if all(market.event_id for market in event.markets):
        return event
    markets = (replace(m, event_id=m.event_id or event.event_id) for m in event.markets)
    return replace(event, markets=tuple(markets))


def _unclaimed(event: EventTerms, refused: list[BadListing], claimed: dict[str, str]) -> EventTerms:
    """Leave out markets with a token of another one. `claimed` has the market ids by token."""
    kept = []
    for market in event.markets:
        owners = {claimed.setdefault(token, market.market_id) for token in market.token_ids}
        if owners == {market.market_id}:
            kept.append(market)
        else:
            reason = "another market has one of them"
            refused.append(BadListing("clobTokenIds", reason, market_id=market.market_id))
    if len(kept) == len(event.markets):
        return event
    return replace(event, markets=tuple(kept), complete=False)


def _usd(value: Decimal) -> Decimal:
    return min(max(value, -MOST_USD), MOST_USD).quantize(CENT)


# --- events ----------------------------------------------------------------


def _known_events(listed: Mapping[str, EventTerms]) -> dict[str, Values]:
    rows = Event.objects.filter(pk__in=listed).values_list("id", *_EVENT_FIELDS)
    return {pk: dict(zip(_EVENT_FIELDS, values, strict=True)) for pk, *values in rows}


def _event_values(event: EventTerms, known: Values | None) -> Values:
    values: Values = {
        "title": event.title,
        "slug": event.slug[:MOST_TEXT],
        "neg_risk": event.neg_risk,
        "augmented": event.augmented,
        "closed": event.closed,
        "end_at": event.end_at,
        "tags": list(event.tags),
    }
    if event.complete or known is None:
        return values
    # A market's own copy of its event knows less: it takes nothing away.
    flags = {name: known[name] or values[name] for name in ("neg_risk", "augmented", "tags")}
    return {**values, **flags}


# --- markets ---------------------------------------------------------------


def _write_markets(
    listed: Mapping[str, EventTerms], *, old_events: frozenset[str], seen_at: datetime
) -> Written:
    terms = {market.market_id: market for event in listed.values() for market in event.markets}
    known = _known_markets(terms)
    wanted = _wanted_markets(listed, known)
    changed = {pk: wanted[pk] for pk in sorted(wanted) if wanted[pk] != known.get(pk)}
    _upsert(Market, changed, _MARKET_FIELDS, seen_at)
    gone = _missing_legs(listed)
    history = [
        *(each for pk in changed for each in _history(pk, known.get(pk), changed[pk], seen_at)),
        *_leg_history(changed, known, old_events, seen_at),
        *_write_gone(gone, seen_at),
    ]
    outcomes = _write_outcomes(terms, history, seen_at)
    _keep_history(history)
    return Written(
        markets=len(changed) + len(gone),
        outcomes=outcomes,
        unchanged=len(terms) - len(changed),
        changes=len(history),
        differing=_differing(changed, known, gone, history),
    )


_FIGURES = frozenset({"liquidity", "volume"})


def _differing(
    changed: Mapping[str, Values],
    known: Mapping[str, Values],
    gone: Iterable[tuple[str, str, str, str]],
    history: Iterable[TermsChange],
) -> frozenset[str]:
    """Return the markets that are new, gone or of which more than figures has changed."""
    told = {
        pk
        for pk, values in changed.items()
        if pk not in known
        or any(known[pk][name] != value for name, value in values.items() if name not in _FIGURES)
    }
    swapped = {each.market_id for each in history if each.field == Field.OUTCOMES}
    return frozenset(told | swapped | {pk for _, pk, _, _ in gone})


def _known_markets(ids: Iterable[str]) -> dict[str, Values]:
    rows = Market.objects.filter(pk__in=ids).values_list("id", *_MARKET_FIELDS)
    return {pk: dict(zip(_MARKET_FIELDS, values, strict=True)) for pk, *values in rows}


def _wanted_markets(
    listed: Mapping[str, EventTerms], known: Mapping[str, Values]
) -> dict[str, Values]:
    wanted = {}
    for event in listed.values():
        conflicts = conflicts_of(event)
        for market in event.markets:
            values = _market_values(market, conflict=conflicts.get(market.market_id, ""))
            before = known.get(market.market_id)
            if before is not None:
                values |= _kept_result(values, before)
                values |= {} if event.complete else _better_known(event, market, before)
            wanted[market.market_id] = values
    return wanted


def _kept_result(values: Values, before: Values) -> Values:
    """Return a result that is known, where the venue says closed and does not repeat it."""
    if before["payout"] is None or values["state"] != Market.State.CLOSED:
        return {}
    return {"state": before["state"], "payout": before["payout"]}


def _better_known(event: EventTerms, market: MarketTerms, before: Values) -> Values:
    """Return what an object without the whole event cannot change."""
    kept: Values = {"conflict": before["conflict"]}
    if event.event_id in (market.market_id, market.neg_risk_id) and before["event_id"]:
        kept["event_id"] = before["event_id"]  # it named no event at all
    return kept


def _market_values(market: MarketTerms, *, conflict: str) -> Values:
    fee = market.fee
    return {
        "event_id": market.event_id,
        "condition_id": market.condition_id,
        "question": market.question,
        "label": market.label[:MOST_TEXT],
        "slug": market.slug[:MOST_TEXT],
        "state": _STATES[market.untradable],
        "tick_size": Decimal(market.tick) / PRICE_ONE,
        "min_size": min(Decimal(market.min_size) / SIZE_ONE, Decimal(10) ** 12),
        "fee_rate": None if fee is None else fee.rate.quantize(RATE),
        "fee_exponent": 1 if fee is None else fee.exponent,
        "payout": market.payout,
        "liquidity": _usd(market.liquidity),
        "volume": _usd(market.volume),
        "end_at": market.end_at,
        "other": market.secondary,
        "leg_number": market.leg_number,
        "conflict": conflict,
    }


def _upsert(
    model: type[Event] | type[Market],
    rows: Mapping[str, Values],
    fields: tuple[str, ...],
    seen_at: datetime,
) -> None:
    names = ["event" if name == "event_id" else name for name in fields]
    manager: Any = model._default_manager  # one type for both models
    manager.bulk_create(
        [model(pk=pk, seen_at=seen_at, **values) for pk, values in rows.items()],
        batch_size=500,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=[*names, "seen_at"],
    )


def _missing_legs(listed: Mapping[str, EventTerms]) -> list[tuple[str, str, str, str]]:
    """Return (event, market, label, state) of open legs that their whole event does not list."""
    whole = {key: event for key, event in listed.items() if event.complete and event.markets}
    told = {market.market_id for event in whole.values() for market in event.markets}
    # States are sorted out here: SQLite would go through all markets of a state instead.
    rows = Market.objects.filter(event_id__in=whole).order_by("id")
    return [
        (event_id or "", pk, label, state)
        for event_id, pk, label, state in rows.values_list("event_id", "id", "label", "state")
        if pk not in told and state in Market.UNFINISHED
    ]


def _write_gone(gone: list[tuple[str, str, str, str]], seen_at: datetime) -> Iterable[TermsChange]:
    """Trade no leg that its event does not list; the next full sync asks for it by id."""
    Market.objects.filter(pk__in=[pk for _, pk, _, _ in gone]).update(
        state=_UNLISTED, seen_at=seen_at
    )
    for event_id, pk, label, state in gone:
        yield _change(pk, event_id, seen_at, Field.LEG, label or pk, "")
        yield _change(pk, event_id, seen_at, Field.STATE, state, _UNLISTED)


# --- outcomes --------------------------------------------------------------


def _write_outcomes(
    markets: Mapping[str, MarketTerms], history: list[TermsChange], seen_at: datetime
) -> int:
    """Rewrite the pairs that differ: a token may change its side, label or market."""
    stored = _known_outcomes(markets)
    differing = {
        pk: pair
        for pk, market in sorted(markets.items())
        if (pair := _pair(market)) != stored.get(pk)
    }
    moved = [token for pair in differing.values() for token, _ in pair]
    Outcome.objects.filter(market_id__in=[pk for pk in differing if pk in stored]).delete()
    Outcome.objects.filter(token_id__in=moved).delete()
    Outcome.objects.bulk_create(
        [
            Outcome(token_id=token, market_id=pk, index=index, label=label)
            for pk, pair in differing.items()
            for index, (token, label) in enumerate(pair)
        ],
        batch_size=500,
    )
    history += (
        _change(pk, None, seen_at, Field.OUTCOMES, _named(stored[pk]), _named(pair))
        for pk, pair in differing.items()
        if pk in stored
    )
    return 2 * len(differing)


def _known_outcomes(markets: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    rows = Outcome.objects.filter(market_id__in=markets).order_by("market_id", "index")
    found: dict[str, list[tuple[str, str]]] = {}
    for pk, token, label in rows.values_list("market_id", "token_id", "label"):
        found.setdefault(pk, []).append((token, label))
    return found


def _pair(market: MarketTerms) -> list[tuple[str, str]]:
    labels = (label[:MOST_TEXT] for label in market.outcomes)
    return list(zip(market.token_ids, labels, strict=True))


def _named(pair: list[tuple[str, str]]) -> str:
    return ", ".join(f"{label} = {token}" for token, label in pair)


# --- history ---------------------------------------------------------------


def _history(pk: str, before: Values | None, after: Values, at: datetime) -> Iterable[TermsChange]:
    if before is None:
        return
    for name, field in _WITH_HISTORY.items():
        if before[name] != after[name]:
            event_id = after["event_id"]
            yield _change(pk, event_id, at, field, _shown(before[name]), _shown(after[name]))


def _leg_history(
    changed: Mapping[str, Values],
    known: Mapping[str, Values],
    old_events: frozenset[str],
    at: datetime,
) -> Iterable[TermsChange]:
    """Tell what was added to, renamed in or moved out of an event.

    `old_events` were known and are told of whole: what is new there was added.
    """
    for pk, after in changed.items():
        before, event_id = known.get(pk), after["event_id"]
        old, new = _leg_name(pk, before), _leg_name(pk, after)
        if before is not None and before["event_id"] == event_id:
            back = before["state"] == _UNLISTED
            if back or old != new:
                yield _change(pk, event_id, at, Field.LEG, "" if back else old, new)
            continue
        if before is not None and before["event_id"]:
            yield _change(pk, before["event_id"], at, Field.LEG, old, "")
        if event_id in old_events:
            yield _change(pk, event_id, at, Field.LEG, "", new)


def _leg_name(pk: str, values: Values | None) -> str:
    return str(values["label"]) if values and values["label"] else pk


def _change(
    pk: str, event_id: str | None, at: datetime, field: Field, old: str, new: str
) -> TermsChange:
    return TermsChange(market_id=pk, event_id=event_id, at=at, field=field, old=old, new=new)


def _keep_history(changes: Sequence[TermsChange]) -> None:
    TermsChange.objects.bulk_create(changes, batch_size=500)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.isoformat() if isinstance(value, datetime) else str(value)
