"""A recorded hockey night as frames: 20 minutes, 6 markets, 358,112 rows of a market channel.

The recording (`../shared/data/ws`) has one row for each entry of a price_change
and one for each trade, in the order in which they were recorded. Two adjacent
mirrored rows are one message. It has no snapshots and no hashes.
"""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from markets.frames import Frame
from tests.wire_files import condition

MS = 1_000_000


class Row(NamedTuple):
    """One row as recorded; `type` is P (an entry of a price_change) or T (a trade)."""

    ts_ms: str
    token: int
    type: str
    side: str
    price: str
    size: str
    best_bid: str
    best_ask: str


class Said(NamedTuple):
    """A frame and what its message says, for outcome 0 of its market, in Decimal.

    `bid` and `ask` are the touch that the message states; None for a trade.
    """

    frame: Frame
    market: int
    ts_ms: int
    buys: bool
    price: Decimal
    size: Decimal
    bid: Decimal | None
    ask: Decimal | None


class Night:
    """The recording with its tokens, grouped into markets."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "nhl_2026-06-07_meta.json").read_text())
        self.tokens: list[str] = meta["tokens"]
        pairs = sorted(sorted(pair) for pair in meta["mirrored_pairs_inferred"])
        self.pairs = [(first, second) for first, second in pairs]
        self.side_of = {
            token: (market, outcome)
            for market, pair in enumerate(self.pairs)
            for outcome, token in enumerate(pair)
        }
        with lzma.open(folder / "nhl_2026-06-07_price_changes.csv.xz", "rt") as file:
            lines = csv.reader(file)
            next(lines)
            self.rows = [Row(at, int(token), *rest) for at, token, *rest in lines]

    def listing(self) -> Frame:
        """Return the event as Gamma would list it."""
        markets = [
            {
                "id": str(600 + number),
                "question": f"Market {number}?",
                "conditionId": condition(number),
                "outcomes": '["Yes", "No"]',
                "clobTokenIds": json.dumps([self.tokens[token] for token in pair]),
                "active": True,
                "closed": False,
                "acceptingOrders": True,
                "enableOrderBook": True,
                "orderPriceMinTickSize": 0.01,
                "orderMinSize": 5,
                "feesEnabled": True,
                "feeSchedule": {"rate": 0.03, "exponent": 1},
            }
            for number, pair in enumerate(self.pairs)
        ]
        event = {"id": "60", "title": "VGK @ CAR", "negRisk": False, "markets": markets}
        return Frame(int(self.rows[0].ts_ms) * MS, "gamma", json.dumps(event).encode())

    def opening(self, levels: Iterable[tuple[int, bool, Decimal]] = ()) -> Iterator[Frame]:
        """Return a snapshot of each market that holds these levels, each with one share.

        A level is (market, on the bid side, price), of outcome 0.
        """
        sides = [{True: set(), False: set()} for _ in self.pairs]
        for market, buys, price in levels:
            sides[market][buys].add(price)
        at = int(self.rows[0].ts_ms)
        for market, side in enumerate(sides):
            event = {
                "event_type": "book",
                "market": condition(market),
                "asset_id": self.tokens[self.pairs[market][0]],
                "timestamp": str(at),
                "bids": [{"price": f"{p}", "size": "1"} for p in sorted(side[True])],
                "asks": [{"price": f"{p}", "size": "1"} for p in sorted(side[False], reverse=True)],
            }
            yield Frame(at * MS, "ws", json.dumps(event).encode(), 1)

    def messages(self) -> Iterator[Said]:
        """Return every message in the recorded order, received in the order of its time."""
        received = 0
        rows = iter(self.rows)
        for row in rows:
            received = max(received + 1, int(row.ts_ms) * MS)
            if row.type == "T":
                yield self._said(row, received, self._trade(row))
                continue
            other = next(rows)
            if not self._mirrors(row, other):
                raise ValueError(f"{row} has no mirror but {other}")
            yield self._said(row, received, self._change(row, other))

    def _mirrors(self, row: Row, other: Row) -> bool:
        market, outcome = self.side_of[row.token]
        return (
            other.type == row.type == "P"
            and self.side_of[other.token] == (market, 1 - outcome)
            and {row.side, other.side} == {"BUY", "SELL"}
            and (row.ts_ms, row.size) == (other.ts_ms, other.size)
            and Decimal(row.price) + Decimal(other.price) == 1
            and Decimal(row.best_bid) + Decimal(other.best_ask) == 1
            and Decimal(row.best_ask) + Decimal(other.best_bid) == 1
        )

    def _said(self, row: Row, received: int, event: dict[str, object]) -> Said:
        market, outcome = self.side_of[row.token]
        event |= {"market": condition(market), "timestamp": row.ts_ms}
        price, bid, ask = Decimal(row.price), Decimal(row.best_bid), Decimal(row.best_ask)
        if outcome == 1:
            price, bid, ask = 1 - price, 1 - ask, 1 - bid
        trade = row.type == "T"
        return Said(
            frame=Frame(received, "ws", json.dumps(event).encode(), 1),
            market=market,
            ts_ms=int(row.ts_ms),
            buys=(row.side == "BUY") is (outcome == 0),
            price=price,
            size=Decimal(row.size),
            bid=None if trade else bid,
            ask=None if trade else ask,
        )

    def _change(self, *rows: Row) -> dict[str, object]:
        entries = [
            {
                "asset_id": self.tokens[row.token],
                "price": row.price,
                "size": row.size,
                "side": row.side,
                "best_bid": row.best_bid,
                "best_ask": row.best_ask,
            }
            for row in rows
        ]
        return {"event_type": "price_change", "price_changes": entries}

    def _trade(self, row: Row) -> dict[str, object]:
        return {
            "event_type": "last_trade_price",
            "asset_id": self.tokens[row.token],
            "price": row.price,
            "size": row.size,
            "side": row.side,
        }


def stated_before_told(messages: Iterable[Said]) -> set[tuple[int, bool, Decimal]]:
    """Return the levels that were there before the recording began, by its own word.

    The feed states them as best before it told of any order at them.
    """
    told: set[tuple[int, bool, Decimal]] = set()
    before: set[tuple[int, bool, Decimal]] = set()
    for said in messages:
        if said.bid is None or said.ask is None:
            continue
        told.add((said.market, said.buys, said.price))
        stated = {(said.market, True, said.bid), (said.market, False, said.ask)}
        before |= stated - told
        told |= stated
    return before
