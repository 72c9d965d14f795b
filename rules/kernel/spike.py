"""SPIKE_DETECT: a price that jumped and stayed (pure, O(1) per update).

`detection.md` 4.1: two-sided CUSUM of the moves of the mid in logit space, where two
cents at 0.03 and at 0.50 are not the same news. Moves are measured in standard
deviations that no single jump can inflate (winsorised) and no flat market can shrink
to nothing (a floor). A spike is a direction, not an arbitrage: it is OBSERVED.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import log, sqrt

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.listing import MarketTerms
from rules.kernel.finding import Finding
from rules.kernel.observed import mid_text, observed

KIND = "spike"
NS = 1_000_000_000
TWO = 2 * PRICE_ONE
# By bid + ask in 1e-4 USD: the logit of the mid, and how much a step of one such unit is there.
LOGIT = [0.0, *(log(mid / (TWO - mid)) for mid in range(1, TWO)), 0.0]
SLOPE = [0.0, *(TWO / (mid * (TWO - mid)) for mid in range(1, TWO)), 0.0]
UP, DOWN = 1, -1
QUIET_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class SpikeParams:
    """How a spike is told from noise (docs/rules.md has what was measured)."""

    threshold: float = 24.0  # of the CUSUM, in standard deviations
    drift: float = 0.5  # taken off at each update, in standard deviations
    variance_weight: float = 0.005  # of the newest move
    winsor: float = 9.0  # a squared move counts at most so many times the variance
    floor_ticks: float = 0.5  # least standard deviation: the mid moves in halves of a tick
    persist_updates: int = 2  # for which the move must stand, the first included
    refractory_updates: int = 50  # silence after a spike
    warmup_updates: int = 100  # silence at the start
    max_spread: int = 500  # 1e-4 USD
    min_depth_usd: float = 20.0  # behind each touch
    window_secs: float = 0.0  # how far back `pct_change_gt` looks
    pct_change_gt: float = 0.0  # least relative change of the mid in the window; 0: any
    min_liquidity: float = 0.0  # USD, as the venue states it for the market; 0: any
    idle_secs: float = 1.0  # a pause of so long counts as an update without a move; 0: none does
    hold_secs: float = 60.0  # how long a spike is told of


@dataclass(frozen=True, slots=True)
class Spike:
    """A jump of the mid. Prices are bid + ask in 1e-4 USD, moves in logit."""

    at: int  # unix ns
    since: int  # when the move began
    before: int
    after: int
    move: float
    deviation: float  # of one update
    score: float  # 1 at the threshold
    updates: int  # that the move took


class _Run:
    """One side's sum, and where it began to grow."""

    __slots__ = ("at", "mid", "number", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.at = self.mid = self.number = 0


class SpikeWatch:
    """One market's state. `last` is the newest spike."""

    __slots__ = (
        "_at",
        "_down",
        "_far",
        "_floor",
        "_idle",
        "_liquid",
        "_mid",
        "_min_depth",
        "_number",
        "_pending",
        "_quiet_until",
        "_score",
        "_seen",
        "_standing",
        "_up",
        "_variance",
        "_window",
        "last",
        "params",
    )

    def __init__(self, terms: MarketTerms, params: SpikeParams) -> None:
        self.params = params
        self._liquid = float(terms.liquidity) >= params.min_liquidity
        self._floor = 2 * terms.tick * params.floor_ticks  # in units of bid + ask
        self._idle = int(params.idle_secs * NS)
        self._min_depth = int(params.min_depth_usd * PRICE_ONE * SIZE_ONE)
        self._window = int(params.window_secs * NS) if params.pct_change_gt else 0
        self.restart()

    def restart(self) -> None:
        """Forget everything, as when the continuity of the book was lost."""
        self.last: Spike | None = None
        self._mid = 0  # no update yet
        self._at = 0
        self._variance = 0.0
        self._number = 0
        self._quiet_until = self.params.warmup_updates
        self._up, self._down = _Run(), _Run()
        self._pending = 0  # the side that crossed the threshold, if it still stands there
        self._standing = 0
        self._far = 0  # the mid farthest out since then
        self._score = 0.0  # the highest while it stands
        self._seen: deque[tuple[int, int]] = deque()

    def update(self, at: int, bid: int, ask: int, bid_size: int, ask_size: int) -> Spike | None:
        """Take a touch (1e-4 USD, 1e-6 shares) at a time (unix ns); return a new spike.

        A book that is one-sided, too wide or too thin is passed over: what the
        price did meanwhile counts once it can be believed again.
        """
        params = self.params
        if not 0 < bid < ask < PRICE_ONE or ask - bid > params.max_spread:
            return None
        if bid * bid_size < self._min_depth or (PRICE_ONE - ask) * ask_size < self._min_depth:
            return None
        mid, before = bid + ask, self._mid
        if self._pending and mid == before and at - self._at < self._idle:
            return None  # a look in between: only a pause shows that a move stands
        if before and self._idle and at - self._at >= 2 * self._idle:
            self._rest((at - self._at) // self._idle - 1)
        self._mid, self._at = mid, at
        self._number += 1
        if self._window:
            self._remember(at, mid)
        floor = self._floor * SLOPE[mid]
        if not before:
            self._variance = floor * floor
            return None
        step = LOGIT[mid] - LOGIT[before]
        variance = self._variance
        deviation = sqrt(variance)
        if deviation <= floor:
            variance, deviation = floor * floor, floor
        moved, up, down = step / deviation, self._up, self._down
        square, most = step * step, params.winsor * variance
        weight, first = params.variance_weight, 1.0 / self._number  # a plain mean at first
        self._variance += (weight if weight > first else first) * (
            (square if square < most else most) - self._variance
        )
        drift = params.drift
        if up.total == 0.0 and moved > drift:
            up.at, up.mid, up.number = at, before, self._number
        elif down.total == 0.0 and moved < -drift:
            down.at, down.mid, down.number = at, before, self._number
        rising, falling = up.total + moved - drift, down.total - moved - drift
        up.total = rising if rising > 0.0 else 0.0
        down.total = falling if falling > 0.0 else 0.0
        limit = self.limit(deviation, floor)
        if self._pending or rising > limit or falling > limit:
            return self._judge(at, deviation, limit)
        return None

    @property
    def waiting(self) -> bool:
        """Whether a move has to stand before it is told of: call `update` again after a pause."""
        return self._pending != 0

    def _rest(self, updates: int) -> None:
        """Take a pause for so many updates without a move."""
        self._number += updates
        self._variance *= (1.0 - self.params.variance_weight) ** updates
        if self._pending:
            self._standing += updates
            return
        rest = updates * self.params.drift
        self._up.total = max(0.0, self._up.total - rest)
        self._down.total = max(0.0, self._down.total - rest)

    def limit(self, deviation: float, floor: float) -> float:
        """Return the threshold at a volatility.

        A part of it where the floor stands in for the volatility: what moves there
        are single steps of the mid, which have no tail, so a part gives as few
        false alarms as the whole does elsewhere. In between it grows evenly.
        """
        if deviation >= floor + floor:
            return self.params.threshold
        above = deviation / floor - 1.0
        return self.params.threshold * (QUIET_SHARE + (1.0 - QUIET_SHARE) * above)

    def still(self, at: int) -> Spike | None:
        """Return the last spike while it is new; once the price is halfway back it is over."""
        spike = self.last
        if spike is None or at - spike.at > self.params.hold_secs * NS:
            return None
        if (LOGIT[self._mid] - LOGIT[spike.before]) / spike.move <= 0.5:
            self.last = None
        return self.last

    def _judge(self, at: int, deviation: float, limit: float) -> Spike | None:
        """Decide on a sum above its limit: it must stand there, or it was a bounce."""
        side = self._pending or (UP if self._up.total > limit else DOWN)
        run = self._up if side == UP else self._down
        if not self._pending or (self._mid - self._far) * side > 0:
            self._far = self._mid
        stood = self._standing >= self.params.persist_updates  # in a pause
        if not self._kept(run) or (run.total <= limit and not stood):
            self._clear()  # the way back is not a move of its own
            return None
        self._pending, self._standing = side, self._standing + 1
        self._score = max(self._score, run.total / limit)
        if self._standing < self.params.persist_updates or not self._moved_enough():
            return None
        quiet = self._number <= self._quiet_until or not self._liquid
        spike = self._spike(at, run, deviation)
        self._clear()
        if quiet:
            return None
        self._quiet_until = self._number + self.params.refractory_updates
        self.last = spike
        return spike

    def _kept(self, run: _Run) -> bool:
        """Say whether more than half of the move, where it was farthest out, still stands."""
        start, side = LOGIT[run.mid], UP if run is self._up else DOWN
        return (2 * (LOGIT[self._mid] - start) - (LOGIT[self._far] - start)) * side > 0

    def _spike(self, at: int, run: _Run, deviation: float) -> Spike:
        return Spike(
            at=at,
            since=run.at,
            before=run.mid,
            after=self._mid,
            move=LOGIT[self._mid] - LOGIT[run.mid],
            deviation=deviation,
            score=self._score,
            updates=self._number - run.number + 1,
        )

    def _clear(self) -> None:
        self._up.total = self._down.total = 0.0
        self._pending = self._standing = 0
        self._score = 0.0

    def _remember(self, at: int, mid: int) -> None:
        seen = self._seen
        seen.append((at, mid))
        while len(seen) > 1 and seen[1][0] <= at - self._window:
            seen.popleft()

    def _moved_enough(self) -> bool:
        """Apply the seed's gate: the relative change of the mid since the window began."""
        if not self._window:
            return True
        first = self._seen[0][1]
        return abs(self._mid - first) > self.params.pct_change_gt * first


def spike_finding(terms: MarketTerms, spike: Spike) -> Finding:
    """Return what is told of a spike; its strength is 1 at the threshold."""
    return observed(
        KIND,
        terms,
        strength=spike.score,
        facts={
            "direction": "up" if spike.move > 0 else "down",
            "before": mid_text(spike.before),
            "after": mid_text(spike.after),
            "move_logit": f"{spike.move:.4f}",
            "deviations": f"{abs(spike.move) / spike.deviation:.1f}",
            "score": f"{spike.score:.2f}",
            "updates": str(spike.updates),
            "seconds": f"{(spike.at - spike.since) / NS:.3f}",
        },
    )
