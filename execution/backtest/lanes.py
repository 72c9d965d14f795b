"""Orders of signals on their way at one latency: the same paper venue as the desk's (pure).

A lane has footprints of its own, so that what one latency takes is still there for the
others. Nothing here looks at a book before an order has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush

from execution.backtest.terms import FillTerms
from execution.backtest.trades import LegResult, Trade
from execution.matching import Order, lowest_limit
from execution.paper import MS, PaperBroker, ladder_of
from execution.tickets import Key, Report, Ticket
from markets.books import Books
from markets.fills import FREE, Fee, fee_charged, shares, usd_price
from markets.frames import moment
from markets.listing import MarketTerms

BUY, SELL = 0, 1
AGAIN_NS = 1_000 * MS


@dataclass(frozen=True, slots=True)
class Wanted:
    """One purchase: the market, the outcome, at most so much at no more than the limit."""

    terms: MarketTerms
    outcome: int
    size: int  # 1e-6 shares
    limit: int  # 1e-4 USD


class Watched:
    """The orders under way, by market and by the time at which they are looked at anyway."""

    def __init__(self) -> None:
        self._orders: dict[Key, tuple[int, bytes, int]] = {}  # number, market, due (unix ns)
        self._of_market: dict[bytes, set[Key]] = {}
        self._dues: list[tuple[int, Key]] = []  # a heap; those that are put off or gone too
        self._added = 0

    @property
    def markets(self) -> Collection[bytes]:
        return self._of_market.keys()

    def add(self, key: Key, market: bytes, due: int) -> None:
        self._added += 1
        self._orders[key] = self._added, market, due
        self._of_market.setdefault(market, set()).add(key)
        heappush(self._dues, (due, key))

    def drop(self, key: Key) -> None:
        _, market, _ = self._orders.pop(key)
        keys = self._of_market[market]
        keys.discard(key)
        if not keys:
            del self._of_market[market]

    def first_due(self) -> int:
        """Return the first time at which one is due (unix ns; far away if none is)."""
        while self._dues and not self._is_due(*self._dues[0]):
            heappop(self._dues)
        return self._dues[0][0] if self._dues else 2**63

    def concerned(self, at: int, market: bytes | None) -> list[Key]:
        """Return what to look at, in the order of its coming; `market` as for `on_frame`."""
        if market == b"":
            return list(self._orders)
        keys = set(self._of_market.get(market, ())) if market else set()
        while self._dues and self._dues[0][0] <= at:
            due, key = heappop(self._dues)
            if self._is_due(due, key):
                keys.add(key)
        return sorted(keys, key=self._orders.__getitem__)

    def put_off(self, keys: Iterable[Key], at: int) -> None:
        """Look again at what waits for a book that can be trusted: on news, or in a while."""
        for key in keys:
            number, market, due = self._orders.get(key, (0, b"", 2**63))
            if due <= at:
                self._orders[key] = number, market, at + AGAIN_NS
                heappush(self._dues, (at + AGAIN_NS, key))

    def _is_due(self, due: int, key: Key) -> bool:
        return key in self._orders and self._orders[key][2] == due


class Lane:
    """All orders at one latency, and the trades they came to."""

    def __init__(self, books: Books, terms: FillTerms, latency_ms: int) -> None:
        self.terms = terms
        self.latency_ms = latency_ms
        self.trades: list[Trade] = []
        self.broker = PaperBroker(books, terms=terms.venue(latency_ms), started=0)
        self._later: list[tuple[int, int, Ticket]] = []  # when to send, in turn
        self._waiting: dict[int, int] = {}  # answers still to come, by number of the trade
        self._wanted: dict[int, tuple[Wanted, ...]] = {}
        self._bets: dict[int, Trade] = {}
        self._sent = 0
        self._watched = Watched()
        self.wakes_at = 0  # unix ns: until then only news of the markets of orders matter

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._later)

    @property
    def markets(self) -> Collection[bytes]:
        """Return where orders are under way (condition ids)."""
        return self._watched.markets

    @property
    def holds_bets(self) -> bool:
        return bool(self._bets)

    def order(self, trade: Trade, wanted: tuple[Wanted, ...], *, at: int) -> None:
        """Send the purchases of a signal, decided at a time."""
        number = len(self.trades)
        trade.legs = [
            LegResult(w.terms.market_id, w.terms.token_ids[w.outcome], w.outcome, w.size)
            for w in wanted
        ]
        self.trades.append(trade)
        self._wanted[number] = wanted
        self._waiting[number] = len(wanted)
        latency = self.terms.drawn(trade.key)
        delay = self.latency_ms if latency is None else latency
        deadline = moment(at + (delay + self.terms.patience_ms) * MS)
        tickets = []
        for place, each in enumerate(wanted):
            order = Order(
                side="BUY",
                size=each.size,
                limit=each.limit,
                tick=each.terms.tick,
                min_size=each.terms.min_size,
                fee=self._fee(each.terms),
            )
            key = (number, place + 1, BUY)
            tickets.append(_ticket(key, each, order, place=place, deadline=deadline, ms=latency))
        self._send(tickets, at=at)

    def _send(self, tickets: list[Ticket], *, at: int) -> None:
        """Hand orders to the venue; remember when it has to look at them at the latest."""
        quiet = self.terms.quiet_ms * MS
        for ticket in tickets:
            latency = self.latency_ms if ticket.latency_ms is None else ticket.latency_ms
            arrives_at = at + (latency + self.terms.leg_gap_ms * ticket.place) * MS
            self._watched.add(ticket.key, ticket.condition_id.encode(), arrives_at + quiet)
        self.broker.accept(tickets)
        self._plan()

    def _plan(self) -> None:
        """Work out which time to wait for."""
        later = self._later[0][0] if self._later else 2**63
        self.wakes_at = min(self._watched.first_due(), later)

    def _fee(self, terms: MarketTerms) -> Fee:
        fee = terms.fee or FREE
        if self.terms.fee_factor == 1:
            return fee
        return Fee(fee.rate * self.terms.fee_factor, fee.exponent)

    def on_frame(self, at: int, market: bytes | None = None) -> None:
        """Let a frame's time come: send what is due, and take in what the venue answered.

        `market` is what the frame speaks of (condition id); empty: nobody knows, None: nothing.
        """
        while self._later and self._later[0][0] <= at:
            _, _, ticket = heappop(self._later)
            deadline = moment(at) + timedelta(milliseconds=self.latency_ms + self.terms.patience_ms)
            self._send([replace(ticket, deadline=deadline)], at=at)
        keys = self._watched.concerned(at, market)
        self.broker.on_frame(at, keys)
        reports = self.broker.reports
        while reports:
            self._answered(reports.popleft(), at)
        self._watched.put_off(keys, at)
        if keys or self._later:
            self._plan()

    def _answered(self, report: Report, at: int) -> None:
        number, place, side = report.ticket.key
        self.broker.forget(report.ticket.key)
        self._watched.drop(report.ticket.key)
        trade = self.trades[number]
        leg = trade.legs[place - 1]
        if side == BUY:
            leg.take_purchase(report.result)
        else:
            leg.take_sale(report.result)
        self._waiting[number] -= 1
        if self._waiting[number]:
            return
        del self._waiting[number]
        if side == BUY:
            self._bought(number, trade, at)
        else:
            self._end(number, trade, at)

    def _bought(self, number: int, trade: Trade, at: int) -> None:
        """Say what becomes of what was bought, now that all legs are answered."""
        if not any(leg.bought for leg in trade.legs):
            self._end(number, trade, at)
        elif trade.sort == "bet":
            self._bets[number] = trade
        elif trade.sort == "direction":
            self._sell(number, {1: trade.legs[0].bought}, at=at + self.terms.hold_s * 1_000 * MS)
        elif loose := trade.excess():
            self._sell(number, loose, at=at + self.terms.unwind_ms * MS)
        else:
            self._end(number, trade, at)

    def _sell(self, number: int, sizes: Mapping[int, int], *, at: int) -> None:
        self._waiting[number] = len(sizes)
        for place, size in sizes.items():
            each = self._wanted[number][place - 1]
            order = self._sale(each, size)
            ticket = _ticket((number, place, SELL), each, order, place=0, deadline=moment(at))
            self._sent += 1
            heappush(self._later, (at, self._sent, ticket))

    def _sale(self, each: Wanted, size: int) -> Order:
        tick = each.terms.tick
        return Order("SELL", size, lowest_limit(tick), tick, 0, self._fee(each.terms))

    def _end(self, number: int, trade: Trade, at: int) -> None:
        trade.ended_at = at
        trade.plan = None  # it is large, and done with
        del self._wanted[number]

    def resolve(self, payouts: Callable[[str], Decimal | None], *, at: int) -> None:
        """Settle bets whose market the venue has resolved (`payouts`: of outcome 0, or None)."""
        for number, trade in list(self._bets.items()):
            leg = trade.legs[0]
            payout = payouts(leg.market_id)
            if payout is None:
                continue
            trade.settled = shares(leg.bought) * (payout if leg.outcome == 0 else 1 - payout)
            del self._bets[number]
            self._end(number, trade, at)

    def finish(self, *, at: int) -> None:
        """Close everything at the end of the data: what no book came for has failed."""
        for number in sorted({*self._waiting, *self._bets}):
            trade = self.trades[number]
            for leg in trade.legs:
                if not leg.bought and not leg.failed:
                    leg.failed = "NO_BOOK"
            if trade.sort == "basket":
                trade.excess()  # what is loose and was not sold is worth nothing here
            else:
                self._mark(number, trade)
            trade.open_at_end = True
            self._end(number, trade, at)
        self._waiting, self._bets, self._later = {}, {}, []

    def _mark(self, number: int, trade: Trade) -> None:
        """Value what is still held at the best bid that was last known, less its fee."""
        leg, each = trade.legs[0], self._wanted[number][0]
        book = self.broker.books.by_market.get(each.terms.condition_id)
        held = leg.bought - leg.sold
        bids = ladder_of(book, leg.outcome, "SELL") if book is not None else ()
        if bids and held > 0:
            best = bids[0][0]
            fee = fee_charged(best, held, fee=self._fee(each.terms))
            trade.settled = shares(held) * usd_price(best) - fee


def _ticket(
    key: tuple[int, int, int],
    each: Wanted,
    order: Order,
    *,
    place: int,
    deadline: datetime,
    ms: int | None = None,
) -> Ticket:
    return Ticket(
        key=key,
        token_id=each.terms.token_ids[each.outcome],
        market_id=each.terms.market_id,
        condition_id=each.terms.condition_id,
        outcome=each.outcome,
        order=order,
        place=place,
        epoch=None,
        deadline=deadline,
        latency_ms=ms,
    )
