"""The long shelf: many markets that are listed and have a book, but in which nothing happens.

Everything about a market follows from its number, so that 100,000 of them cost no memory, and a
second look shows exactly what the first did, except for what `churn` changed in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import msgspec

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator import topics
from markets.simulator.gamma import Json, moment
from markets.simulator.ladder import Book, Edit
from markets.simulator.shelf_places import BLOCK, SPANS, Places, digest

MIDS = (3_400, 2_600, 2_000, 1_200, 600, 2_000, 3_500, 5_000, 6_200, 1_500)  # 1e-4 USD, in a block
PLACEHOLDER_AT, SETTLED_AT = 4, 3  # legs of some neg-risk groups
CHURN = ("renamed", "resolved", "tick", "fee", "min_size", "outcomes", "paused")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a market since it was listed. None: as it was."""

    question: str | None = None
    outcomes: tuple[str, str] | None = None
    tick: int | None = None  # 1e-4 USD
    rate: float | None = None
    min_size: int | None = None  # shares
    winner: int | None = None
    paused: bool = False


UNCHANGED = Change()


class Shelf(Places):
    """Lists `count` markets (rounded up to whole blocks). `start` is unix ns."""

    def __init__(self, *, seed: int, count: int, start: int, template: Json) -> None:
        super().__init__(seed=seed, count=count)
        self.revision = 0  # grows with every churn
        self._start = moment(start)
        self._ms = start // 10**6
        self._event_head = {key: template[key] for key in template if key not in _EVENT_OWN}
        first = msgspec.convert(template["markets"], list[dict[str, object]])[0]
        self._market_head = {key: first[key] for key in first if key not in _MARKET_OWN}
        self._changes: dict[int, Change] = {}

    # --- what they are ----------------------------------------------------

    def change(self, at: int) -> Change:
        """Give what became of a market."""
        return self._changes.get(at, UNCHANGED)

    def closed(self, at: int) -> bool:
        """Whether a market is resolved: some legs were from the beginning."""
        return self._settled(at) or self.change(at).winner is not None

    def event_closed(self, number: int) -> bool:
        """Whether all markets of an event are resolved."""
        return all(self.closed(at) for at in self.legs(number))

    def winner(self, at: int) -> int | None:
        """Give the outcome that won; None: not resolved."""
        return 1 if self._settled(at) else self.change(at).winner

    def _settled(self, at: int) -> bool:
        return at % BLOCK == SETTLED_AT and at // BLOCK % 10 == 6

    def augmented(self, number: int) -> bool:
        """Whether an event is a neg-risk group with a placeholder."""
        return number % len(SPANS) == 0 and number // len(SPANS) % 10 == 3

    def placeholder(self, at: int) -> bool:
        """Whether a market only keeps a place for "Other"."""
        return at % BLOCK == PLACEHOLDER_AT and self.augmented(self.event_of(at))

    def tick(self, at: int) -> int:
        """Give the tick in 1e-4 USD."""
        return self.change(at).tick or (100, 10)[at // BLOCK % 2]

    def question(self, at: int) -> str:
        """Give a market's question as it reads now."""
        return self.change(at).question or self._asked(at)

    def _asked(self, at: int) -> str:
        template, _ = topics.QUESTIONS[at % len(topics.QUESTIONS)]
        pick = at // len(topics.QUESTIONS)
        return template.format(
            country=topics.COUNTRIES[pick % len(topics.COUNTRIES)],
            other=topics.COUNTRIES[(pick + 1) % len(topics.COUNTRIES)],
            club=topics.CLUBS[pick % len(topics.CLUBS)], lab=topics.LABS[pick % len(topics.LABS)],
            city=topics.CITIES[pick % len(topics.CITIES)],
            date=f"{self._start + timedelta(days=pick % 300 + 2):%B %-d, %Y}",
        ).replace("?", f" (no. {at})?")  # fmt: skip

    def outcomes(self, at: int) -> tuple[str, str]:
        """Give the labels of both outcomes."""
        return self.change(at).outcomes or ("Yes", "No")

    def rate(self, at: int) -> float:
        """Give the taker fee's rate; 0: no fee."""
        changed = self.change(at).rate
        return (0.04, 0.05, 0.07, 0.0)[at // BLOCK % 4] if changed is None else changed

    def min_size(self, at: int) -> int:
        """Give the minimum order in shares."""
        return self.change(at).min_size or 5

    def trades(self, at: int) -> bool:
        """Whether orders are taken."""
        return not (self.closed(at) or self.change(at).paused)

    # --- what is answered -------------------------------------------------

    def market(self, at: int, *, with_event: bool = True) -> Json:
        """Give a Gamma market object; `with_event`: also what it says of its event."""
        fee, group = self.rate(at), self.neg_risk_id(at)
        events = {"events": [self._event(self.event_of(at))]} if with_event else {}
        return {
            **self._market_head,
            "id": str(self.market_id(at)),
            "question": self.question(at),
            "description": f"A simulated market that never moves: {self._asked(at)}",
            "conditionId": self.gamma_condition(at),
            "slug": self.slug(at),
            **self._dates(at),
            "outcomes": json.dumps(self.outcomes(at)),
            **self._prices(at),
            "volume": str(self.volume(at)),
            "volumeNum": self.volume(at),
            "liquidity": str(self.liquidity(at)),
            "liquidityNum": self.liquidity(at),
            "active": not self.placeholder(at),
            "closed": self.closed(at),
            "acceptingOrders": self.trades(at),
            "groupItemTitle": f"Candidate {at % BLOCK}" if at % BLOCK < SPANS[1][1] else "",
            "groupItemThreshold": str(at % BLOCK),
            **self._terms(at),
            "questionID": f"{group[:-2]}{at % BLOCK:02x}" if group else self._question_id(at),
            **({"negRisk": True, "negRiskMarketID": group} if group else {"negRisk": False}),
            "negRiskOther": self.placeholder(at),
            "feesEnabled": bool(fee),
            **(_schedule(fee) if fee else {"feeType": None}),
            **events,
        }

    def event(self, number: int) -> Json:
        """Give a Gamma event object with its markets."""
        markets = [self.market(at, with_event=False) for at in self.legs(number)]
        return {**self._event(number), "markets": markets}

    def book(self, at: int) -> Book | None:
        """Give the book of a market; None: it has none (any more)."""
        if self.closed(at) or self.placeholder(at):
            return None
        mid = self._mid(at)
        book = Book(
            condition_id=self.condition_id(at), token_ids=self.token_ids(at), tick=self.tick(at),
            neg_risk=self.neg_risk_id(at) is not None, ms=self._ms - at % 10**6,
        )  # fmt: skip
        edits: list[Edit] = []
        for step in range(1, 6):
            size = (20 + (at * 7 + step * 13) % 400) * SIZE_ONE
            edits += [(True, mid - 100 * step, size), (False, mid + 100 * step, size)]
        book.apply([edit for edit in edits if 0 < edit[1] < PRICE_ONE], ms=book.ms)
        book.last_trade = f"{mid / PRICE_ONE:g}"
        return book

    def volume(self, at: int) -> float:
        """Give what was traded so far, in USD."""
        return float((at * 7_919) % 1_000_003)

    def liquidity(self, at: int) -> float:
        """Give what rests in the book, in USD."""
        return 0.0 if self.closed(at) else float((at * 104_729) % 50_021)

    def _mid(self, at: int) -> int:
        """Give the middle of a book. What a group's resolved legs leave goes to its first one."""
        if at % BLOCK:
            return MIDS[at % BLOCK]
        return MIDS[0] + sum(MIDS[leg % BLOCK] for leg in self.legs(self.event_of(at))[1:]
                             if self.closed(leg))  # fmt: skip

    def _question_id(self, at: int) -> str:
        return f"0x{digest(f'{self.seed}:question:{at}').hex()}"

    def _dates(self, at: int) -> Json:
        end = self._start + timedelta(days=at // len(topics.QUESTIONS) % 300 + 2)
        closed = {"closedTime": f"{self._start:%Y-%m-%d %H:%M:%S}+00"} if self.closed(at) else {}
        return {"endDate": f"{end:%Y-%m-%dT00:00:00Z}", "endDateIso": f"{end:%Y-%m-%d}", **closed}

    def _prices(self, at: int) -> Json:
        if self.placeholder(at):
            return {}
        winner = self.winner(at)
        if winner is not None:
            paid = ["0", "1"] if winner else ["1", "0"]
            return {"outcomePrices": json.dumps(paid), "umaResolutionStatus": "resolved"}
        mid = self._mid(at)
        prices = [f"{mid / PRICE_ONE:g}", f"{(PRICE_ONE - mid) / PRICE_ONE:g}"]
        return {"outcomePrices": json.dumps(prices), "bestBid": (mid - 100) / PRICE_ONE,
                "bestAsk": (mid + 100) / PRICE_ONE, "spread": 0.02}  # fmt: skip

    def _terms(self, at: int) -> Json:
        tokens = self.token_ids(at)
        ids: Json = {"clobTokenIds": json.dumps(tokens), "version": "v1"}
        if self.is_v2(at):
            ids = {"clobTokenIds": None, "positionIds": list(tokens), "version": "v2"}
        return {"orderPriceMinTickSize": self.tick(at) / PRICE_ONE,
                "orderMinSize": self.min_size(at), **ids}  # fmt: skip

    def _event(self, number: int) -> Json:
        legs = self.legs(number)
        group = self.neg_risk_id(legs[0])
        return {
            **self._event_head,
            "id": str(self.event_id(number)),
            "ticker": f"shelf-event-{number}",
            "slug": f"shelf-event-{number}",
            "description": f"Simulated markets that never move, no. {number}",
            "title": f"Shelf event {number}" if len(legs) > 1 else self._asked(legs[0]),
            **self._dates(legs[0]),
            "closed": self.event_closed(number),
            "volume": sum(self.volume(at) for at in legs),
            "liquidity": sum(self.liquidity(at) for at in legs),
            "negRisk": group is not None,
            "enableNegRisk": group is not None,
            **({"negRiskMarketID": group} if group else {}),
            "negRiskAugmented": self.augmented(number),
        }

    # --- what changes -----------------------------------------------------

    def churn(self, percent: float) -> dict[str, list[str]]:
        """Change so many percent of the open markets, in every way in turn, and list a few new.

        Gives the Gamma ids of what changed, by kind.
        """
        self.revision += 1
        told: dict[str, list[str]] = {kind: [] for kind in CHURN}
        for turn, at in enumerate(self._drawn(int(self.count * percent / 100))):
            kind = CHURN[turn % len(CHURN)]
            self._changes[at] = _changed(self, at, kind)
            told[kind].append(str(self.market_id(at)))
        told["new"] = self._extend(int(self.count * percent / 1_000))
        return told

    def _drawn(self, count: int) -> Iterator[int]:
        """Spread the markets to change over the whole shelf."""
        able = [at for at in range(self.count) if at not in self._changes and self.trades(at)]
        able = [at for at in able if not self.placeholder(at)]
        step = max(1, len(able) // count) if count else 1
        yield from able[::step][:count]

    def _extend(self, count: int) -> list[str]:
        first = self.count
        self.count += -(-count // BLOCK) * BLOCK
        return [str(self.market_id(at)) for at in range(first, self.count)]


def _changed(shelf: Shelf, at: int, kind: str) -> Change:
    old = shelf.change(at)
    table = {
        "renamed": replace(old, question=f"{shelf.question(at)} [updated]"),
        "resolved": replace(old, winner=1 if shelf.neg_risk_id(at) else at % 2),
        "tick": replace(old, tick=10 if shelf.tick(at) == 100 else 1),
        "fee": replace(old, rate=0.03),
        "min_size": replace(old, min_size=15),
        "outcomes": replace(old, outcomes=(f"Home {at}", f"Away {at}")),
        "paused": replace(old, paused=True),
    }
    return table[kind]


def _schedule(rate: float) -> Json:
    schedule = {"exponent": 1, "rate": rate, "takerOnly": True, "rebateRate": 0.25}
    return {"feeType": "general_fees", "feeSchedule": schedule}


# What is never copied from the template, because it may be absent here.
_EVENT_OWN = frozenset({"markets", "series", "seriesSlug", "negRiskMarketID", "closedTime"})
_MARKET_OWN = frozenset(
    {"outcomePrices", "bestBid", "bestAsk", "spread", "feeSchedule", "closedTime", "events",
     "negRiskMarketID", "umaResolutionStatus", "eventStartTime"}
)  # fmt: skip
