"""Ladders in the questions: by an earlier date implies by a later, more implies less (pure).

Markets are put together by everything their questions share but the date, or the bound.
A step is proposed only where nothing that is known of the two contradicts it: what is
suppressed is returned with the reason, so that it can be counted and looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial

from markets.question_numbers import Bound
from markets.questions import Reading, Wording
from markets.related import Method, Proposal, Suppressed
from markets.resolution import Check, Read, cutoff_day, misdated, same_resolution

SAME_END = timedelta(hours=36)  # of bounds on the same day
SAME_GAME = timedelta(hours=1)  # of bounds on the same game
STOPPING = ("source", "zone", "wording")  # aspects of which a difference suppresses


@dataclass(frozen=True, slots=True)
class Ladders:
    proposed: tuple[Proposal, ...]
    suppressed: tuple[Suppressed, ...]


def find_ladders(markets: Iterable[Read]) -> Ladders:
    """Return the date ladders, threshold ladders and ranges of all markets."""
    listed = list(markets)
    found = [
        *_date_ladders(listed),
        *_threshold_ladders(listed),
        *_ranges(listed),
    ]
    return Ladders(
        tuple(each for each in found if isinstance(each, Proposal)),
        tuple(each for each in found if isinstance(each, Suppressed)),
    )


Found = Iterator[Proposal | Suppressed]
Key = Hashable | None  # None: not of this kind


def _groups(markets: Sequence[Read], key_of: Callable[[Read], Key]) -> Iterator[list[Read]]:
    groups: dict[Hashable, list[Read]] = defaultdict(list)
    for market in markets:
        key = key_of(market)
        if key is not None:
            groups[key].append(market)
    return (group for group in groups.values() if len(group) > 1)


# --- dates -----------------------------------------------------------------------


def _date_ladders(markets: Sequence[Read]) -> Found:
    for group in _groups(markets, _date_key):
        rungs: list[Read] = []
        for market in sorted(group, key=_by_deadline):
            if misdated(*market):
                yield Suppressed(_ids([market]), "date ladder", _misdated(market))
            else:
                rungs.append(market)
        yield from _chains("date ladder", rungs, _date_step)


def _date_key(market: Read) -> Key:
    wording, reading = market
    if reading.deadline is None or not _says_of_what(wording, reading):
        return None
    event = "" if reading.names else wording.event_id
    return (reading.words, reading.bounds, reading.numbers, reading.negated, reading.sides,
            reading.deadline.clock, event)  # fmt: skip


def _by_deadline(market: Read) -> tuple[object, ...]:
    wording, reading = market
    day = reading.deadline.last.toordinal() if reading.deadline else 0
    # Not happening by the later date implies not by the earlier: the ladder runs backwards.
    return (-day if reading.negated else day, wording.event_id, wording.market_id)


def _date_step(a: Read, b: Read) -> str:
    """Return why one date does not lead to the next; empty: it does."""
    same = a[1].deadline and b[1].deadline and a[1].deadline.last == b[1].deadline.last
    return "the same date twice" if same else ""


def _misdated(market: Read) -> str:
    return "no end date" if market[0].end_at is None else "date in the text against the end date"


# --- bounds ----------------------------------------------------------------------


def _threshold_ladders(markets: Sequence[Read]) -> Found:
    for group in _groups(markets, _threshold_key):
        rungs = sorted(group, key=_by_bound)
        if rungs[0][1].negated:
            rungs.reverse()
        yield from _chains("threshold ladder", rungs, _threshold_step)


def _threshold_key(market: Read) -> Key:
    wording, reading = market
    bound = _one_bound(wording, reading)
    if bound is None or bound.side not in ("above", "below"):
        return None
    return (bound.side, bound.unit, _subject(wording, reading))


def _subject(wording: Wording, reading: Reading) -> Hashable:
    """Return everything but the bound, and the event where it alone tells what is asked about."""
    event = wording.event_id if _needs_event(reading) else ""
    ends = wording.end_at if reading.sides or not reading.whens else None
    times = tuple((when.role, when.first, when.last, when.clock) for when in reading.whens)
    return (reading.words, times, reading.zone, reading.numbers, reading.negated, reading.mode,
            reading.sides, event, ends)  # fmt: skip


def _one_bound(wording: Wording, reading: Reading) -> Bound | None:
    if len(reading.bounds) != 1 or not _says_of_what(wording, reading):
        return None
    return reading.bounds[0]


def _by_bound(market: Read) -> tuple[object, ...]:
    """Sort the strictest first: above 3 before 3 or more, and that before above 2."""
    wording, reading = market
    bound = reading.bounds[0]
    edge = -bound.edge if bound.side == "above" else bound.edge
    return (edge, bound.inclusive, wording.event_id, wording.market_id)


def _threshold_step(a: Read, b: Read) -> str:
    if a[1].bounds == b[1].bounds:
        return "the same bound twice"
    return _apart(a[0], b[0], game=bool(a[1].sides))


def _apart(a: Wording, b: Wording, *, game: bool) -> str:
    """Say that two bounds are not of the same time; empty: they are."""
    if a.end_at is None or b.end_at is None:
        return "no end date"
    apart = abs(a.end_at - b.end_at) > (SAME_GAME if game else SAME_END)
    return "end dates differ" if apart else ""


# --- ranges and bounds ------------------------------------------------------------


def _ranges(markets: Sequence[Read]) -> Found:
    """Relate each range to the nearest bounds on the same thing."""
    for group in _groups(markets, _range_key):
        ranges = [each for each in group if each[1].bounds[0].side == "between"]
        bounds = [each for each in group if each[1].bounds[0].side in ("above", "below")]
        for range_ in ranges:
            for type_, nearest in _nearest(range_, bounds):
                yield from _range_step(type_, range_, nearest)


def _range_key(market: Read) -> Key:
    wording, reading = market
    bound = _one_bound(wording, reading)
    if bound is None or reading.negated or reading.sides:
        return None
    return (bound.unit, _subject(wording, reading))


def _nearest(range_: Read, bounds: Sequence[Read]) -> Iterator[tuple[str, Read]]:
    """Yield the nearest bounds that a range keeps, and the nearest that it breaks."""
    reading = range_[1].bounds[0]
    low, high = reading.low, reading.high
    if low is None or high is None:
        return
    for side, inner, outer in (("above", low, high), ("below", high, low)):
        sign = 1 if side == "above" else -1
        mine = [each for each in bounds if each[1].bounds[0].side == side]
        kept = [each for each in mine if _holds_at(each, inner)]
        broken = [each for each in mine if not _holds_at(each, outer)]
        distance = partial(_distance, sign=sign)
        if kept:
            yield "implies", max(kept, key=distance)
        if broken:
            yield "exclusive", min(broken, key=distance)


def _distance(market: Read, *, sign: int) -> tuple[Decimal, str]:
    return sign * market[1].bounds[0].edge, market[0].market_id


def _holds_at(market: Read, value: Decimal) -> bool:
    bound = market[1].bounds[0]
    if value == bound.edge:
        return bound.inclusive
    return value > bound.edge if bound.side == "above" else value < bound.edge


def _range_step(type_: str, a: Read, b: Read) -> Found:
    ids = _ids([a, b])
    if type_ == "exclusive" and _exclude_each_other(a, b):
        return  # the venue says so
    reason = _apart(a[0], b[0], game=False) or _contradiction(a, b)
    if reason:
        yield Suppressed(ids, "range", reason)
    elif type_ == "implies":
        yield Proposal("implies", ids, "range", doubts=_doubts([a, b]))
    else:
        yield Proposal("exclusive", ids, "range", doubts=_doubts([a, b]))


# --- chains ------------------------------------------------------------------------


def _chains(method: Method, rungs: Sequence[Read], step: Callable[[Read, Read], str]) -> Found:
    """Cut rungs, strictest first, into chains of steps that nothing contradicts.

    A rung that says the same as the one before stays out: that is for matching to find.
    """
    chain: list[Read] = []
    for rung in rungs:
        if not chain:
            chain = [rung]
            continue
        why = step(chain[-1], rung)
        if why.startswith("the same"):
            continue
        why = why or _contradiction(chain[-1], rung)
        if why:
            yield Suppressed(_ids([chain[-1], rung]), method, why)
            yield from _ladder(method, chain)
            chain = []
        chain.append(rung)
    yield from _ladder(method, chain)


def _ladder(method: Method, chain: Sequence[Read]) -> Found:
    if len(chain) > 1:
        yield Proposal("ladder", _ids(chain), method, doubts=_doubts(chain))


def _contradiction(a: Read, b: Read) -> str:
    """Return what is known of two markets that speaks against one implying the other."""
    if _exclude_each_other(a, b):
        return "at most one of their event can be true"
    if a[0].payout == 1 and b[0].payout == 0:
        return "settled against it"
    if a[1].mode != b[1].mode:
        return "touch or close"
    if _opens_too_late(a, b):
        return "opened after the other had ended"
    different = [each for each in same_resolution((a, b), ordered=True) if _stops(each)]
    return ", ".join(f"{each.aspect} differs" for each in different)


def _exclude_each_other(a: Read, b: Read) -> bool:
    return a[0].neg_risk and bool(a[0].event_id) and a[0].event_id == b[0].event_id


def _opens_too_late(a: Read, b: Read) -> bool:
    """Say that what makes the first true may lie before the second even opened."""
    opened, last = b[0].opened_at, cutoff_day(*a)
    return opened is not None and last is not None and opened.date() > last


def _stops(check: Check) -> bool:
    return check.aspect in STOPPING and check.verdict == "different"


def _doubts(chain: Sequence[Read]) -> tuple[str, ...]:
    checks = same_resolution(chain, ordered=True)
    doubts = [f"{each.aspect} {each.verdict}" for each in checks if each.verdict != "same"]
    if len({wording.event_id for wording, _ in chain}) > 1:
        doubts.append("of several events")
    return tuple(doubts)


def _says_of_what(wording: Wording, reading: Reading) -> bool:
    """Say whether it is known what a question is about: by the names in it, or by its event."""
    if not reading.words:
        return False
    return bool(wording.event_id) or not (reading.is_relative or not reading.names)


def _needs_event(reading: Reading) -> bool:
    """Say whether the same words are asked of other things too: each game, the next briefing."""
    return bool(reading.sides) or reading.is_relative or not reading.names


def _ids(chain: Iterable[Read]) -> tuple[str, ...]:
    return tuple(wording.market_id for wording, _ in chain)
