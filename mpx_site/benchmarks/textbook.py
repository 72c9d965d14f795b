"""The yardstick: the same job done the way a textbook would.

`json` for decoding, one sorted list of levels per token and side, the best
price read from its end, and every rule summed over all legs of the event on
each message.
"""

from __future__ import annotations

import json
from bisect import bisect_left

from markets.listing import EventTerms

Levels = list[list[float]]  # [price, size], ascending


class Textbook:
    """Follows frames like the pipeline does and counts the baskets that pay at the touch."""

    def __init__(self, events: tuple[EventTerms, ...]) -> None:
        self.books: dict[str, dict[str, Levels]] = {}
        self.event_of: dict[str, EventTerms] = {}
        self.found = 0
        for event in events:
            for market in event.markets:
                self.event_of[market.condition_id] = event
                for token in market.token_ids:
                    self.books[token] = {"BUY": [], "SELL": []}

    def feed(self, body: bytes) -> None:
        decoded = json.loads(body)
        for message in decoded if isinstance(decoded, list) else [decoded]:
            if message["event_type"] == "book":
                self._replace(message)
            elif message["event_type"] == "price_change":
                self._change(message)
            else:
                continue
            self._evaluate(self.event_of[message["market"]])

    def scan(self, events: tuple[EventTerms, ...]) -> None:
        for event in events:
            self._evaluate(event)

    def _replace(self, message: dict[str, list[dict[str, str]]]) -> None:
        book = self.books[str(message["asset_id"])]
        for side, name in (("BUY", "bids"), ("SELL", "asks")):
            book[side] = sorted([float(row["price"]), float(row["size"])] for row in message[name])

    def _change(self, message: dict[str, list[dict[str, str]]]) -> None:
        for change in message["price_changes"]:
            levels = self.books[change["asset_id"]][change["side"]]
            price, size = float(change["price"]), float(change["size"])
            place = bisect_left(levels, [price, 0.0])
            known = place < len(levels) and levels[place][0] == price
            if size == 0:
                if known:
                    del levels[place]
            elif known:
                levels[place][1] = size
            else:
                levels.insert(place, [price, size])

    def _evaluate(self, event: EventTerms) -> None:
        yes = no = 0.0
        for market in event.markets:
            rate = float(market.fee.rate) if market.fee else 0.0
            asks = self.books[market.token_ids[0]]["SELL"]
            other = self.books[market.token_ids[1]]["SELL"]
            yes += _cost(asks[0][0], rate) if asks else 1.0
            no += max(0.0, 1.0 - _cost(other[0][0], rate)) if other else 0.0
        if yes < 1.0 or no > 1.0:
            self.found += 1


def _cost(price: float, rate: float) -> float:
    return price + rate * price * (1.0 - price)
