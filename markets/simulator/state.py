"""What the venue knows: the open markets of an event, their books, and what they may quote."""

from __future__ import annotations

from typing import Literal

from markets.fills import PRICE_ONE
from markets.simulator.catalogue import EventSpec, MarketSpec
from markets.simulator.ladder import Book
from markets.simulator.latent import Latent
from markets.simulator.truth import USD, buy_cost, no_gain, yes_cost

TieKind = Literal["equivalent", "ladder"]
Shape = Literal["exclusive", "ladder", "free"]
TICK_DECIMALS = {100: 2, 10: 3, 1: 4}


class LiveMarket:
    """A market that trades. `median` is its typical level in 1e-6 shares, `depth` its levels."""

    __slots__ = ("book", "depth", "loose", "median", "paused", "pull", "quiet", "seen", "spec",
                 "volume", "winner")  # fmt: skip

    def __init__(
        self, spec: MarketSpec, book: Book, *, loose: float, median: float, depth: int, pull: float,
        quiet: bool, volume: float,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.book = book
        self.loose = loose  # its spread against the usual one
        self.median = median
        self.depth = depth
        self.pull = pull  # its share of the event's activity
        self.quiet = quiet  # nobody ever touches it
        self.volume = volume  # USD
        self.paused = False
        self.winner: int | None = None  # the outcome that won; None once resolved: half each
        self.seen = (0, PRICE_ONE)  # the touch that was last looked at for mispricings

    @property
    def touch(self) -> tuple[int, int]:
        """Best bid and ask of outcome 0."""
        return self.book.best_bid, self.book.best_ask

    def price_text(self, price: int) -> str:
        """Write a trade price with all the decimals of the tick, as the venue does."""
        return f"{price / PRICE_ONE:.{TICK_DECIMALS[self.spec.tick]}f}"


class LiveEvent:
    """An event with its open markets, in the order of `latent.p`."""

    def __init__(
        self, spec: EventSpec, legs: list[LiveMarket], latent: Latent, *, tempo: float
    ) -> None:
        self.spec = spec
        self.legs = legs
        self.latent = latent
        self.tempo = tempo  # actions per second on an ordinary day
        self.mood = 1.0  # the volatility regime it is in
        self.mood_until = 0
        self.cause: str | None = None  # the family of the plant or jump that holds it
        self.ends = 0  # when that one will have let go of it and it is rested, unix ns
        self.windows: dict[str, int] = {}  # kinds now open: their place in the truth log
        self.ties: list[Tie] = []
        self.conn = 0
        self.halted = False  # past its end, no orders
        self.resolved_at: int | None = None  # unix ns; None: not yet

    @property
    def shape(self) -> Shape:
        """What its markets have to do with each other."""
        if self.spec.neg_risk_id:
            return "exclusive"
        return "ladder" if self.spec.kind.endswith("ladder") else "free"

    @property
    def resolved(self) -> bool:
        """Whether it is over."""
        return self.resolved_at is not None

    @property
    def idle(self) -> bool:
        """Whether nothing special is going on in it."""
        return self.cause is None and not self.halted

    @property
    def kin(self) -> list[LiveEvent]:
        """The events that this one is tied to."""
        return [end for tie in self.ties for end in (tie.first, tie.second) if end is not self]

    @property
    def rate(self) -> int:
        """The taker fee of all its markets, in 1e-4."""
        return self.spec.category.rate

    def targets(self, index: int) -> tuple[int, int]:
        """Where a maker quotes now: outside the hidden probability, by the spread of its band."""
        chance, leg = self.latent.p[index], self.legs[index]
        tick = leg.spec.tick
        half = max(tick, leg.loose * (800 * chance * (1.0 - chance) + 20)) / 2
        bid = int((chance * PRICE_ONE - half) // tick) * tick
        ask = -int(-(chance * PRICE_ONE + half) // tick) * tick
        return max(bid, tick), min(ask, PRICE_ONE - tick)

    def may_ask(self, index: int, price: int) -> bool:
        """Whether an ask there leaves nothing to take, even without fees."""
        if self.shape == "exclusive":
            rest = sum(leg.book.best_ask for at, leg in enumerate(self.legs) if at != index)
            return rest + price > PRICE_ONE
        tied = (leg for tie in self.ties for leg in tie.stronger(self))
        return all(leg.book.best_bid <= price for leg in (*self._stronger(index), *tied))

    def may_bid(self, index: int, price: int) -> bool:
        """Whether a bid there leaves nothing to take, even without fees."""
        if self.shape == "exclusive":
            rest = sum(leg.book.best_bid for at, leg in enumerate(self.legs) if at != index)
            return rest + price < PRICE_ONE
        tied = (leg for tie in self.ties for leg in tie.weaker(self))
        return all(price <= leg.book.best_ask for leg in (*self._weaker(index), *tied))

    def _stronger(self, index: int) -> list[LiveMarket]:
        """The rungs that imply this one: earlier dates, higher thresholds."""
        if self.shape != "ladder":
            return []
        early = self.spec.kind == "date_ladder"
        return self.legs[:index] if early else self.legs[index + 1 :]

    def _weaker(self, index: int) -> list[LiveMarket]:
        if self.shape != "ladder":
            return []
        early = self.spec.kind == "date_ladder"
        return self.legs[index + 1 :] if early else self.legs[:index]

    def mispriced(self) -> dict[str, tuple[str, ...]]:
        """What could be taken at the touch after fees right now: kind to the tokens to buy."""
        if self.shape == "exclusive":
            return self._baskets()
        return self._implied() if self.shape == "ladder" else {}

    def _baskets(self) -> dict[str, tuple[str, ...]]:
        asks = [leg.book.best_ask for leg in self.legs]
        bids = [leg.book.best_bid for leg in self.legs if not leg.paused]
        found: dict[str, tuple[str, ...]] = {}
        if sum(asks) < PRICE_ONE and yes_cost(asks, self.rate) < USD and self._exhaustive():
            found["yes_basket"] = self.tokens(0)
        if sum(bids) > PRICE_ONE and no_gain(bids, self.rate) > USD:
            found["no_basket"] = self.tokens(1)
        return found

    def _exhaustive(self) -> bool:
        return self.spec.kind != "augmented" and all(
            leg.book.asks.keys and not leg.paused for leg in self.legs
        )

    def _implied(self) -> dict[str, tuple[str, ...]]:
        for index, leg in enumerate(self.legs):
            for weaker in self._weaker(index):
                if pays(leg, weaker, self.rate):
                    return {"implies": (leg.spec.token_ids[1], weaker.spec.token_ids[0])}
        return {}

    def tokens(self, outcome: int) -> tuple[str, ...]:
        """The tokens of one outcome over all open markets."""
        return tuple(leg.spec.token_ids[outcome] for leg in self.legs)


class Tie:
    """Two events of one category about one thing.

    "equivalent": both ask the same question. "ladder": each market of the first implies each of
    the second. `window` is the place in the truth log of what can be taken between them now.
    """

    __slots__ = ("first", "kind", "second", "window")

    def __init__(self, kind: TieKind, first: LiveEvent, second: LiveEvent) -> None:
        self.kind = kind
        self.first = first
        self.second = second
        self.window: int | None = None

    def cut(self) -> None:
        """Let each event go its own way."""
        self.first.ties.remove(self)
        self.second.ties.remove(self)

    def weaker(self, event: LiveEvent) -> list[LiveMarket]:
        """The markets of the other event that are implied by those of this one."""
        if event is self.first:
            return self.second.legs
        return self.first.legs if self.kind == "equivalent" else []

    def stronger(self, event: LiveEvent) -> list[LiveMarket]:
        """The markets of the other event that imply those of this one."""
        if event is self.second:
            return self.first.legs
        return self.second.legs if self.kind == "equivalent" else []

    def mispriced(self) -> tuple[str, ...]:
        """The tokens to buy of what could be taken after fees right now; empty: nothing."""
        for event in (self.first, self.second):
            for leg in event.legs:
                for weaker in self.weaker(event):
                    if pays(leg, weaker, event.rate):
                        return leg.spec.token_ids[1], weaker.spec.token_ids[0]
        return ()


def tie(kind: TieKind, first: LiveEvent, second: LiveEvent) -> None:
    """Tie two events, so that neither is quoted against the other."""
    bond = Tie(kind, first, second)
    first.ties.append(bond)
    second.ties.append(bond)


def pays(strong: LiveMarket, weak: LiveMarket, rate: int) -> bool:
    """Whether one share of "not the first" and one of the second cost less than they pay."""
    bid, ask = strong.book.best_bid, weak.book.best_ask
    return bid > ask and buy_cost(PRICE_ONE - bid, rate) + buy_cost(ask, rate) < USD
