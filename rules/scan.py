"""Offline detection: one snapshot in, one object of rows out (pure).

The object is a contract with outside tools (DESIGN section 5). No two rows spend
the same depth: where a relation and a basket want the same offers, the better one
takes them first and the other is worked out again on what is left.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial

from markets.fills import SIZE_ONE, left_after
from rules.data_quality import DataProblem
from rules.kernel.baskets import Seen, detect_event, detect_market, rank
from rules.kernel.finding import EventView, Finding, Limits, MarketView, NearMiss, usd
from rules.kernel.relations import (
    PAIRS,
    RELATION_TYPES,
    Relation,
    RelationType,
    TooManyStates,
    connected_sets,
    members_of,
)
from rules.snapshot import Snapshot
from rules.strict_yaml import Mark, Problem, Value, read_yaml

SCHEMA = 1

Taken = Mapping[str, int]  # 1e-6 shares of a token that other rows spend already


class BadRelations(Exception):
    """A relations file that cannot be understood; the text names every place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything a scan saw, in the order in which it is told."""

    opportunities: tuple[Finding, ...]
    near_misses: tuple[NearMiss, ...]
    problems: tuple[DataProblem, ...]


def scan(
    snapshot: Snapshot, *, relations: Sequence[Relation] = (), at: datetime, limits: Limits
) -> Scan:
    """Look at every event, market and set of relations of a snapshot."""
    problems = [*snapshot.problems]
    looks: list[Callable[[Taken], Seen]] = [
        *(partial(_look_at_event, event, at, limits) for event in snapshot.events),
        *(partial(_look_at_market, market, at, limits) for market in snapshot.singles),
    ]
    if relations:
        looks += _relation_looks(snapshot, relations, at, limits, problems)
    seen = [look({}) for look in looks]
    near = [miss for _, misses in seen for miss in misses]
    return Scan(
        opportunities=tuple(sorted(_jointly(looks, seen), key=rank)),
        near_misses=tuple(sorted(near, key=_near_order)),
        problems=tuple(sorted(set(problems), key=lambda problem: problem.order)),
    )


def _near_order(miss: NearMiss) -> tuple[Decimal, str, str, tuple[str, ...]]:
    return miss.gap_cents, miss.event_id or "", miss.kind, miss.market_ids


# --- depth is spent once -------------------------------------------------------------


def _jointly(looks: Sequence[Callable[[Taken], Seen]], seen: Sequence[Seen]) -> list[Finding]:
    """Return findings that can all be executed together, the best first served."""
    taken: Counter[str] = Counter()
    kept: list[Finding] = []
    ranked = sorted(
        (min(map(rank, findings)), number) for number, (findings, _) in enumerate(seen) if findings
    )
    for _, number in ranked:
        findings = seen[number][0]
        if any(leg.token_id in taken for finding in findings for leg in finding.legs):
            findings = _again(looks[number], findings, taken)
        for finding in findings:
            kept.append(finding)
            taken.update({leg.token_id: int(leg.size * SIZE_ONE) for leg in finding.legs})
    return kept


def _again(
    look: Callable[[Taken], Seen], before: tuple[Finding, ...], taken: Taken
) -> tuple[Finding, ...]:
    """Look again at what is left; offers that other rows took are no reason to report a block."""
    blocked_before = any(finding.verdict == "BLOCKED" for finding in before)
    findings = look(dict(taken))[0]
    return tuple(f for f in findings if blocked_before or f.verdict != "BLOCKED")


def _left(view: MarketView, taken: Taken) -> MarketView:
    if not any(token in taken for token in view.terms.token_ids):
        return view
    first, second = (
        left_after(ladder, taken.get(token, 0))
        for ladder, token in zip(view.asks, view.terms.token_ids, strict=True)
    )
    return replace(view, asks=(first, second))


def _look_at_event(event: EventView, at: datetime, limits: Limits, taken: Taken) -> Seen:
    markets = tuple(_left(market, taken) for market in event.markets)
    return detect_event(EventView(event.terms, markets), at=at, limits=limits)


def _look_at_market(market: MarketView, at: datetime, limits: Limits, taken: Taken) -> Seen:
    return detect_market(_left(market, taken), at=at, limits=limits)


# --- relations -----------------------------------------------------------------------


def _relation_looks(
    snapshot: Snapshot,
    relations: Sequence[Relation],
    at: datetime,
    limits: Limits,
    problems: list[DataProblem],
) -> list[Callable[[Taken], Seen]]:
    # Imported here because SciPy takes longer to import than a scan without relations runs.
    from rules.kernel.known import known_of
    from rules.kernel.lp import Contradiction, detect_relations
    from rules.kernel.near import near_miss_of
    from rules.kernel.program import SolverFailed

    views = snapshot.markets()

    def look(held: tuple[Relation, ...], taken: Taken) -> Seen:
        members = {m: _left(views[m], taken) for m in members_of(held) if m in views}
        try:
            findings = detect_relations(held, members, at=at, limits=limits)
            if findings:
                return findings, ()
            known = known_of(held, {pk: view.terms for pk, view in members.items()})
            gates = sorted({gate for relation in held for gate in relation.gates})
            miss = near_miss_of(known, members, gates=gates)
            return (), () if miss is None else (miss,)
        except TooManyStates:
            problems.append(DataProblem("too_many_states", _named(held)))
        except Contradiction:
            problems.append(DataProblem("contradictory_relations", _named(held)))
        except SolverFailed:
            problems.append(DataProblem("unsolved", _named(held)))
        return (), ()

    for member in members_of(relations):
        if member not in views:
            detail = "a relation speaks of it and no given object lists it"
            problems.append(DataProblem("missing_leg", detail, market_id=member))
    return [partial(look, held) for held in connected_sets(relations)]


def _named(relations: Iterable[Relation]) -> str:
    return f"relations between the markets {', '.join(members_of(relations))}"


class _Refused(Exception):
    """One relation that cannot be understood, and what to write instead."""

    def __init__(self, message: str, instead: str) -> None:
        super().__init__(message)
        self.message = message
        self.instead = instead


def read_relations(text: str, *, source: str) -> list[Relation]:
    """Read a relations file: a list of `{type, a, b, approved}` or `{type, members, approved}`.

    Raises `BadRelations` with every problem and its line and column.
    """
    document = read_yaml(text, source=source)
    items = document.value if document.value is not None else ()
    if not isinstance(items, tuple):
        message, instead = "expected a list of relations", "start each with `- type:`"
        document.problems.append(document.problem((), Mark(1, 1), message, instead))
        items = ()
    relations: list[Relation] = []
    for number, item in enumerate(items):
        try:
            relations.append(_relation(item))
        except _Refused as why:
            mark = document.values.get((number,), Mark(1, 1))
            problem = document.problem((number,), mark, why.message, why.instead)
            document.problems.append(problem)
    if document.problems:
        raise BadRelations(document.problems)
    return relations


def _relation(item: Value) -> Relation:
    if not isinstance(item, dict):
        example = "write {type: implies, a: ..., b: ..., approved: true}"
        raise _Refused("is not a relation", example)
    kind = next((each for each in RELATION_TYPES if each == item.get("type")), None)
    if kind is None:
        raise _Refused(f"unknown type {item.get('type')!r}", f"use {', '.join(RELATION_TYPES)}")
    approved = item.get("approved", False)
    if not isinstance(approved, bool):
        raise _Refused("approved must be true or false", "write approved: true")
    return Relation(kind, _members(kind, item), approved)


def _members(kind: RelationType, item: dict[str, Value]) -> tuple[str, ...]:
    listed = item.get("members", (item.get("a"), item.get("b")))
    members = tuple(map(_market_id, listed if isinstance(listed, tuple) else ()))
    if "" in members or len(members) < 2:
        raise _Refused("needs two or more markets", "give a and b, or members, as market ids")
    if len(set(members)) < len(members):
        raise _Refused("relates a market to itself", "name each market once")
    if kind in PAIRS and len(members) != 2:
        raise _Refused(f"{kind} is between two markets", "give a and b")
    return members


def _market_id(value: Value) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


# --- the object ----------------------------------------------------------------------


def as_object(seen: Scan) -> dict[str, object]:
    """Return the object that `scan --json` prints."""
    return {
        "schema": SCHEMA,
        "opportunities": [finding.row() for finding in seen.opportunities],
        "near_misses": [_near_miss(miss) for miss in seen.near_misses],
        "data_quality": [_problem(problem) for problem in seen.problems],
    }


def as_json(seen: Scan) -> str:
    return json.dumps(as_object(seen))


def _near_miss(miss: NearMiss) -> dict[str, object]:
    return {
        "event_id": miss.event_id,
        "market_ids": list(miss.market_ids),
        "kind": miss.kind,
        "gross_sum": usd(miss.gross_sum),
        "net_sum": usd(miss.net_sum),
        "gap_cents": float(miss.gap_cents),
        "blocked_by": list(miss.blocked_by),
    }


def _problem(problem: DataProblem) -> dict[str, object]:
    return {
        "event_id": problem.event_id,
        "market_id": problem.market_id,
        "token_id": problem.token_id,
        "problem": problem.problem,
        "detail": problem.detail,
    }


# --- for people ----------------------------------------------------------------------

_SHOWN = 20


def as_text(seen: Scan) -> str:
    """Return a short table of the same rows."""
    lines = [f"{len(seen.opportunities)} opportunities"]
    if seen.opportunities:
        lines.append(
            f"  {'verdict':<11}{'kind':<12}{'event':<10}{'legs':>4}{'cost':>14}"
            f"{'profit':>12}{'bps':>9}  blocked by"
        )
    lines += (_text_of(finding) for finding in seen.opportunities[:_SHOWN])
    lines += _more(len(seen.opportunities))
    lines.append(f"{len(seen.near_misses)} near misses")
    for miss in seen.near_misses[:_SHOWN]:
        subject = miss.event_id or ", ".join(miss.market_ids)
        why = f"  {', '.join(miss.blocked_by)}" if miss.blocked_by else ""
        lines.append(
            f"  {miss.kind:<12}{_plain(subject):<12} sum {miss.gross_sum:.4f}, "
            f"{miss.gap_cents:.2f} cents short{why}"
        )
    lines += _more(len(seen.near_misses))
    counts = Counter(problem.problem for problem in seen.problems)
    lines.append(f"{len(seen.problems)} data-quality notes")
    lines += (f"  {count:>6} {code}" for code, count in sorted(counts.items()))
    return "\n".join(lines)


def _text_of(finding: Finding) -> str:
    return (
        f"  {finding.verdict:<11}{finding.kind:<12}{_plain(finding.event_id or '-'):<10}"
        f"{len(finding.legs):>4}{finding.cost:>14.2f}{finding.profit:>12.2f}"
        f"{finding.edge_bps:>9.1f}  {', '.join(finding.blocked_by) or '-'}"
    )


def _more(count: int) -> list[str]:
    return [f"  ... and {count - _SHOWN} more (--json shows all)"] if count > _SHOWN else []


def _plain(text: str) -> str:
    """Return text from the venue without what could steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
