"""One case in the making: its own events and clock, and all that it sends in the venue's words."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import cast

import msgspec

from markets.fills import PRICE_ONE, Ladder, mirrored
from markets.frames import Frame
from markets.simulator import topics, wire
from markets.simulator.catalogue import EventSpec, Kind, MarketSpec, slug_of
from markets.simulator.exam.cases import Case, Charge, Check, Json, Quoted, Stake
from markets.simulator.gamma import event_object, moment
from markets.simulator.ladder import Book, Edit
from markets.simulator.latent import Independent, Latent, Simplex
from markets.simulator.quoting import opening_edits, post, requote, rewrite, stir
from markets.simulator.stage import MS, SECOND
from markets.simulator.state import LiveEvent, LiveMarket
from markets.simulator.topics import Category

DELAY_MS = 12  # from the venue's clock to ours
CATEGORIES = (
    topics.CRYPTO,
    topics.SPORTS,
    topics.ECONOMICS,
    topics.WEATHER,
    topics.POLITICS,
    topics.GEOPOLITICS,
)
CHARGED = CATEGORIES[:-1]


@dataclass(frozen=True, slots=True)
class Seat:
    """One outcome of one market, as something to buy."""

    event: LiveEvent
    index: int
    outcome: int

    @property
    def market(self) -> LiveMarket:
        return self.event.legs[self.index]

    @property
    def ask(self) -> int:
        """The best price that it can be bought at."""
        book = self.market.book
        return PRICE_ONE - book.best_bid if self.outcome else book.best_ask

    def edit(self, price: int, size: int) -> Edit:
        """The order that offers it: selling YES, or bidding for YES and so selling NO."""
        return bool(self.outcome), PRICE_ONE - price if self.outcome else price, size


class Studio:
    """Draws everything from one seed; `now` is receive time in unix ns."""

    def __init__(self, *, seed: int, number: int, start: int, attempt: int = 0) -> None:
        self.rng = random.Random(f"{seed}:case:{number}:{attempt}")
        self.number = number
        self.now = start + self.rng.randrange(8_000) * MS
        self.conn = 10 * number + 1
        self.listed: dict[str, Json] = {}  # listing fields that differ, by market or event id
        self.hidden: set[str] = set()  # markets that the catalogue does not show
        self.charges: dict[str, Charge] = {}
        self.frames: list[Frame] = []
        self.quoted: list[Quoted] = []
        self._pages: list[Json] = []
        self._begun = start
        self._events = 0
        self._markets = 0

    # --- what is listed ------------------------------------------------------------------

    def event(
        self, kind: Kind, chances: Sequence[float], *, tick: int | None = None,
        category: Category | None = None, hours: int | None = None, settled: int = 0,
        placeholders: int = 0, exponent: int = 1, depth: int | None = None,
        median: float | None = None,
    ) -> LiveEvent:  # fmt: skip
        """Draw an event whose open markets have these chances, with a full book for each."""
        tick = tick or (100 if min(chances) > 0.02 and self.rng.random() < 0.4 else 10)
        spec = self._spec(
            kind, len(chances), tick=tick, category=category or self.rng.choice(CATEGORIES),
            hours=hours or 24 * self.rng.choice((2, 5, 9, 20, 40, 60)), settled=settled,
            placeholders=placeholders,
        )  # fmt: skip
        open_specs = [each for each in spec.markets if not (each.settled or each.placeholder)]
        legs = [self._market(spec, each, depth=depth, median=median) for each in open_specs]
        event = LiveEvent(spec, legs, _latent(spec, chances, tick), tempo=1.0)
        event.conn = self.conn
        charge = Charge(Decimal(spec.category.rate).scaleb(-4), exponent)
        for index, leg in enumerate(legs):
            bid, ask = event.targets(index)
            leg.book.apply(opening_edits(leg, bid, ask, self.rng), ms=leg.book.ms)
            leg.seen = leg.touch
            self.charges[leg.spec.market_id] = charge
        if exponent != 1:
            self._restate_fee(event, exponent)
        return event

    def _restate_fee(self, event: LiveEvent, exponent: int) -> None:
        category = event.spec.category
        schedule = {"exponent": exponent, "rate": category.rate / PRICE_ONE, "takerOnly": True}
        for leg in event.legs:
            self.listed.setdefault(leg.spec.market_id, {})["feeSchedule"] = schedule

    def _spec(
        self, kind: Kind, count: int, *, tick: int, category: Category, hours: int, settled: int,
        placeholders: int,
    ) -> EventSpec:  # fmt: skip
        self._events += 1
        event_id = str(1_000_000 + 100 * self.number + self._events)
        title = f"Exam {self.number}, question {self._events}?"
        group = self._hex()[:-2] + "00" if kind in ("neg_risk", "augmented") else None
        total = count + settled + placeholders
        markets = tuple(
            self._market_spec(number, event_id, group, tick, settled=count <= number < count
                              + settled, placeholder=number >= count + settled)
            for number in range(total)
        )  # fmt: skip
        now = moment(self._begun)
        return EventSpec(
            kind=kind, event_id=event_id, title=title, slug=slug_of(title), source="",
            description=title, category=category, neg_risk_id=group, starts_at=None,
            listed_at=now - timedelta(days=60), end_at=now + timedelta(hours=hours),
            markets=markets,
        )  # fmt: skip

    def _market_spec(
        self, number: int, event_id: str, group: str | None, tick: int, *, settled: bool,
        placeholder: bool,
    ) -> MarketSpec:  # fmt: skip
        self._markets += 1
        question = f"Exam {self.number}, event {event_id}, outcome {number}?"
        return MarketSpec(
            market_id=str(10_000_000 + 1_000 * self.number + self._markets), question=question,
            slug=slug_of(question), condition_id=self._hex(),
            question_id=f"{group[:-2]}{number:02x}" if group else self._hex(),
            token_ids=(self._token(), self._token()), outcomes=("Yes", "No"),
            label=f"Outcome {number}", tick=tick, request_id=self._hex() if group else "",
            settled=settled, placeholder=placeholder,
        )  # fmt: skip

    def _token(self) -> str:
        return str(self.rng.randrange(10**76, 2**256))

    def _hex(self) -> str:
        return f"0x{self.rng.getrandbits(256):064x}"

    def _market(
        self, spec: EventSpec, market: MarketSpec, *, depth: int | None, median: float | None
    ) -> LiveMarket:
        book = Book(
            condition_id=market.condition_id, token_ids=market.token_ids, tick=market.tick,
            neg_risk=spec.neg_risk_id is not None, ms=self._begun // MS - 60_000,
        )  # fmt: skip
        return LiveMarket(
            market, book, loose=self.rng.uniform(0.4, 1.2), median=median
            or self.rng.uniform(15, 150), depth=depth or self.rng.randrange(4, 10), pull=1.0,
            quiet=False, volume=self.rng.uniform(5e3, 5e5),
        )  # fmt: skip

    def add_market(self, event: LiveEvent, chance: float) -> LiveEvent:
        """Return the event with one more outcome, whose book is not shown yet."""
        spec = event.spec
        fresh = self._market_spec(
            len(spec.markets), spec.event_id, spec.neg_risk_id, spec.markets[0].tick,
            settled=False, placeholder=False,
        )  # fmt: skip
        spec = replace(spec, markets=(*spec.markets, fresh))
        leg = self._market(spec, fresh, depth=5, median=80)
        grown = LiveEvent(
            spec, [*event.legs, leg], Independent([*event.latent.p, chance], floor=0.01), tempo=1.0
        )
        grown.conn = event.conn
        bid, ask = grown.targets(len(event.legs))
        leg.book.apply(opening_edits(leg, bid, ask, self.rng), ms=leg.book.ms)
        self.charges[fresh.market_id] = self.charges[spec.markets[0].market_id]
        return grown

    # --- what is sent --------------------------------------------------------------------

    def wait(self, low_ms: float, high_ms: float | None = None) -> None:
        """Let time pass, drawn between two bounds where there are two."""
        span = low_ms if high_ms is None else self.rng.uniform(low_ms, high_ms)
        self.now += int(span * MS)

    @property
    def _ms(self) -> int:
        return self.now // MS - DELAY_MS

    def open(self, *events: LiveEvent, listed_only: bool = False) -> None:
        """List events from the start and show their books."""
        self._pages += [self.listing(event) for event in events]
        if listed_only:
            return
        self.now += SECOND
        for event in events:
            self.show(event)
            self.wait(1, 20)

    def listing(self, event: LiveEvent) -> Json:
        """Give an event as the catalogue would, with all that differs in this case."""
        page = event_object(event, now=self.now)
        shown = [
            market | self.listed.get(str(market["id"]), {})
            for market in markets_of(page)
            if str(market["id"]) not in self.hidden
        ]
        return page | {"markets": shown} | self.listed.get(event.spec.event_id, {})

    def publish(self, event: LiveEvent) -> None:
        """Answer a catalogue request about an event whose listing changed."""
        body = msgspec.json.encode({"events": [self.listing(event)]})
        req = f"/events/keyset?limit=100&id={event.spec.event_id}"
        self.frames.append(Frame(self.now, "gamma", body, req=req))
        self.now += MS

    def show(self, event: LiveEvent, *, conns: Mapping[int, int] | None = None) -> None:
        """Answer a subscription: all books of an event, per connection of its legs."""
        by_conn: dict[int, list[str]] = {}
        for index, leg in enumerate(event.legs):
            texts = by_conn.setdefault((conns or {}).get(index, event.conn), [])
            texts += [wire.book_text(leg.book, outcome) for outcome in (0, 1)]
            self._note(leg)
        for conn, texts in by_conn.items():
            self.send([wire.array(texts)], conn=conn)

    def send(self, bodies: Sequence[bytes], *, conn: int | None = None) -> None:
        """Deliver messages back to back on the case's connection, or another."""
        for body in bodies:
            self.frames.append(Frame(self.now, "ws", body, self.conn if conn is None else conn))
            self.now += 1_000

    def say(self, req: str, body: bytes, *, conn: int) -> None:
        """Tell of a connection itself."""
        self.frames.append(Frame(self.now, "ws", body, conn, req))
        self.now += 1_000

    def change(
        self, event: LiveEvent, index: int, edits: list[Edit], *, conn: int | None = None
    ) -> list[bytes]:
        """Change levels of one market and send what the venue sends of it; return that too."""
        leg = event.legs[index]
        bodies = post(leg, edits, ms=self._ms, rng=self.rng)
        self._note(leg)
        self.send(bodies, conn=conn)
        return bodies

    def silently(self, event: LiveEvent, index: int, edits: list[Edit]) -> list[bytes]:
        """Change levels of one market; return the messages that are still to be sent."""
        return post(event.legs[index], edits, ms=self._ms, rng=self.rng)

    def rewrite(self, event: LiveEvent, index: int, edits: list[Edit]) -> list[bytes]:
        """Change levels; return the message that shows the whole book of each outcome."""
        leg = event.legs[index]
        bodies = rewrite(leg, edits, ms=self._ms, rng=self.rng)
        self._note(leg)
        return bodies

    def anew(self, event: LiveEvent, index: int) -> list[Edit]:
        """Withdraw a whole book and quote it where its hidden chance is now."""
        leg, (bid, ask) = event.legs[index], event.targets(index)
        fresh = {edit[:2]: edit for edit in opening_edits(leg, bid, ask, self.rng)}
        gone: list[Edit] = [
            (is_bid, price, 0)
            for is_bid in (True, False)
            for price, _ in leg.book.side(is_bid).levels()
            if (is_bid, price) not in fresh
        ]
        return gone + list(fresh.values())

    def stir(self, *events: LiveEvent, times: int, gap_ms: float = 120) -> None:
        """Let depth behind the touch change some times, over some events."""
        for _ in range(times):
            event = self.rng.choice(events)
            index = self.rng.randrange(len(event.legs))
            edit = stir(event.legs[index], self.rng, touch=False)
            if edit is not None:
                self.change(event, index, [edit])
            self.wait(0.3 * gap_ms, 1.7 * gap_ms)

    def move(self, event: LiveEvent, *, times: int) -> None:
        """Let hidden chances and with them quotes move, never to where something can be taken."""
        for _ in range(times):
            event.latent.step(self.rng, scale=1.0, now=self.now)
            index = self.rng.randrange(len(event.legs))
            edits = requote(event, index, self.rng)
            if edits:
                self.change(event, index, edits)
            self.wait(40, 200)

    def _note(self, leg: LiveMarket) -> None:
        asks: Ladder = tuple(leg.book.asks.levels())
        no_asks = mirrored(tuple(leg.book.bids.levels()))
        self.quoted.append(Quoted(self.now, leg.spec.market_id, (asks, no_asks)))

    # --- what comes of it ----------------------------------------------------------------

    def case(
        self, family: str, *, stakes: Sequence[Stake] = (), relations: Sequence[Json] = (),
        trap: bool = False, check: Check = "p1", capital: int | None = None,
        jumps: Sequence[tuple[str, int]] = (), bait: Sequence[Frame] = (),
    ) -> Case:  # fmt: skip
        """Close the case."""
        return Case(
            number=self.number, family=family, trap=trap, check=check, pages=tuple(self._pages),
            relations=tuple(relations), frames=tuple(self.frames), quoted=tuple(self.quoted),
            stakes=tuple(stakes), charges=self.charges, capital=capital, jumps=tuple(jumps),
            bait=tuple(bait),
        )  # fmt: skip


def markets_of(page: Json) -> list[Json]:
    """Give the markets of a listed event."""
    return cast(list[Json], page["markets"])


def _latent(spec: EventSpec, chances: Sequence[float], tick: int) -> Latent:
    floor = 1.5 * tick / PRICE_ONE
    if spec.neg_risk_id:
        return Simplex(list(chances), floor=min(floor, min(chances)))
    return Independent(list(chances), floor=floor)
