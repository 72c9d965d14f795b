"""Tops of book turned back into frames: what a price was, and when it was not known (pure)."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from markets.book import NO_ASK, NO_BID, PRICE_TEXT
from markets.fills import SIZE_ONE
from markets.frames import CLOSED, LEFT, Frame
from markets.past.listed import ListedEvent
from markets.past.value import Gap

CONN = 1  # all tops of a past come by one connection
NOMINAL = 1_000 * SIZE_ONE  # of a price without a size; its market is never tradable
UNKNOWN = -1  # in place of prices: the touch is not known from now on
TENTH = 10  # 1e-4 USD


class Top(NamedTuple):
    """The touch of a market's first outcome; `NO_BID`, `NO_ASK` for an empty side.

    Prices in 1e-4 USD, sizes in 1e-6 shares, `t` in unix ns.
    """

    t: int
    market_id: str
    bid: int
    ask: int
    bid_size: int
    ask_size: int

    @property
    def unknown(self) -> bool:
        """Say whether this is no touch but that none is known from now on."""
        return self.bid < 0


def unknown(t: int, market_id: str) -> Top:
    return Top(t, market_id, UNKNOWN, UNKNOWN, 0, 0)


def never_tradable(event: ListedEvent) -> ListedEvent:
    """Return an event of which only prices are known: nothing in it can be bought or added up.

    Its markets are paused, their fee is unknown and they exclude each other for nobody.
    """
    markets = tuple(
        dataclass_replace(
            market, fee=None, state="PAUSED" if market.state == "TRADABLE" else market.state
        )
        for market in event.markets
    )
    return dataclass_replace(event, markets=markets, neg_risk=False, augmented=False)


class Teller:
    """Writes tops as the venue's `book` messages. `ids` gives condition and tokens by market."""

    def __init__(self, ids: Mapping[str, tuple[str, str, str]]) -> None:
        self._ids = ids
        self._heads: dict[str, str] = {}

    def message(self, top: Top, t: int) -> str:
        head = self._heads.get(top.market_id) or self._head(top.market_id)
        bids = "" if top.bid == NO_BID else _level(top.bid, top.bid_size)
        asks = "" if top.ask == NO_ASK else _level(top.ask, top.ask_size)
        return f'{head}{t // 1_000_000}","bids":[{bids}],"asks":[{asks}]}}'

    def frame(self, top: Top) -> Frame:
        return Frame(top.t, "ws", self.message(top, top.t).encode(), CONN)

    def all_at(self, tops: Iterable[Top], t: int) -> Frame | None:
        """Return what was last known of many markets as one message; None for none."""
        told = [self.message(top, t) for top in tops]
        return Frame(t, "ws", f"[{','.join(told)}]".encode(), CONN) if told else None

    def _head(self, market_id: str) -> str:
        condition, token, _ = self._ids[market_id]
        head = (
            f'{{"event_type":"book","market":"{condition}","asset_id":"{token}",'
            '"hash":"","timestamp":"'
        )
        return self._heads.setdefault(market_id, head)


def _level(price: int, size: int) -> str:
    return f'{{"price":"{PRICE_TEXT[price]}","size":"{_size(size)}"}}'


@lru_cache(maxsize=8_192)
def _size(size: int) -> str:
    return f"{size / SIZE_ONE:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a gap begins or ends."""

    t: int
    begins: bool
    why: str


def _edges(gaps: Iterable[Gap]) -> list[_Edge]:
    found = [_Edge(gap.since, True, gap.why) for gap in gaps]
    return sorted([*found, *(_Edge(gap.until, False, gap.why) for gap in gaps)], key=_time)


class _Telling:
    """What has been told so far, and how frames go on from there."""

    def __init__(self, ids: Mapping[str, tuple[str, str, str]]) -> None:
        self._ids = ids
        self._teller = Teller(ids)
        self._tops: dict[str, Top] = {}
        self._pages: dict[str | None, Frame] = {}  # by request, which names the event
        self._blind = 0  # gaps of all markets that are open
        self._blind_at = 0  # when the newest of them began

    def take(self, item: _Edge | Frame | Top) -> Iterator[Frame]:
        if isinstance(item, Top):
            told = self._top(item)
            if self._blind == 0 or item.t > self._blind_at:  # not what midnight repeats in a gap
                yield told
        elif isinstance(item, Frame):
            self._pages[item.req] = item
            yield item
        else:
            self._blind += 1 if item.begins else -1
            self._blind_at = item.t if item.begins else self._blind_at
            yield from self._cut(item) if item.begins else self._again(item.t)

    def _top(self, top: Top) -> Frame:
        if not top.unknown:
            self._tops[top.market_id] = top
            return self._teller.frame(top)
        self._tops.pop(top.market_id, None)
        _, first, second = self._ids[top.market_id]
        return Frame(top.t, "ws", f"{first},{second}".encode(), CONN, LEFT)

    def as_known(self, t: int) -> Iterator[Frame]:
        for page in self._pages.values():
            yield replace(page, t=t)
        yield from self._again(t)

    def _cut(self, edge: _Edge) -> Iterator[Frame]:
        yield Frame(edge.t, "ws", edge.why.encode(), CONN, CLOSED)

    def _again(self, t: int) -> Iterator[Frame]:
        told = None if self._blind else self._teller.all_at(self._tops.values(), t)
        if told is not None:
            yield told


def with_breaks(tops: Iterable[Top], breaks: Sequence[tuple[str, Gap]]) -> Iterator[Top]:
    """Yield tops; where one market was not known, that too, and its last top again after it."""
    marks = [(gap.since, pk, True) for pk, gap in breaks]
    marks += [(gap.until, pk, False) for pk, gap in breaks]
    waiting = deque(sorted(marks))
    last: dict[str, Top] = {}
    for top in tops:
        while waiting and waiting[0][0] <= top.t:
            yield from _mark(*waiting.popleft(), last)
        last[top.market_id] = top
        yield top


def _mark(t: int, market_id: str, begins: bool, last: Mapping[str, Top]) -> Iterator[Top]:
    if market_id in last:
        yield unknown(t, market_id) if begins else last[market_id]._replace(t=t)


def told_frames(
    pages: Iterable[Frame],
    tops: Iterable[Top],
    gaps: Sequence[Gap],
    *,
    ids: Mapping[str, tuple[str, str, str]],
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Frame]:
    """Yield listings and tops, each in the order of its time; nothing is known inside a gap.

    What was known by `since` comes first, at that time. After a gap the tops of before are
    told again: what changed in it has a top of its own by then.
    """
    telling = _Telling(ids)
    waiting = since
    streams: list[Iterable[_Edge | Frame | Top]] = [_edges(gaps), pages, tops]
    for item in heapq.merge(*streams, key=_time):
        if until is not None and item.t >= until:
            break
        if waiting is not None and item.t >= waiting:
            yield from telling.as_known(waiting)
            waiting = None
        for frame in telling.take(item):
            if waiting is None:
                yield frame
    if waiting is not None:
        yield from telling.as_known(waiting)


def _time(item: _Edge | Frame | Top) -> int:
    return item.t
