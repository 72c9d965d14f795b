"""TREND_BREAKOUT: a price leaves the channel of its last bars (pure, O(1) on average).

Donchian's channel on the mid: the highest and lowest of the last so many closed bars.
Bars are of equal time; one without an update repeats the last mid. The width of the
channel and the way out of it are measured in logit, so that they mean the same at
0.05 and at 0.50. OBSERVED: a direction, no arbitrage.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from markets.fills import PRICE_ONE
from markets.listing import MarketTerms
from rules.kernel.finding import Finding
from rules.kernel.observed import mid_text, observed
from rules.kernel.spike import LOGIT, NS

KIND = "breakout"


@dataclass(frozen=True, slots=True)
class TrendParams:
    """Which channel, and how far out counts (docs/rules.md)."""

    bar_secs: float = 60.0
    bars: int = 60  # in the channel
    beyond_logit: float = 0.05  # outside the channel by at least this
    min_width_logit: float = 0.02  # a channel narrower than this is a market asleep
    min_volume_ratio: float = 0.0  # of this bar's shares to the mean of the channel's; 0: any
    max_spread: int = 300  # 1e-4 USD
    hold_secs: float = 300.0  # how long a breakout is told of


@dataclass(frozen=True, slots=True)
class Breakout:
    """A way out of the channel. Prices are bid + ask in 1e-4 USD."""

    at: int  # unix ns
    mid: int
    low: int
    high: int
    beyond: float  # in logit, negative downwards
    volume_ratio: float  # 0 where no trades are told


class _Extreme:
    """The largest of the last so many values (of their negatives: the smallest)."""

    __slots__ = ("_kept", "_span")

    def __init__(self, span: int) -> None:
        self._span = span
        self._kept: deque[tuple[int, int]] = deque()  # number, value; values falling

    def add(self, number: int, value: int) -> None:
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((number, value))
        while kept[0][0] <= number - self._span:
            kept.popleft()

    @property
    def value(self) -> int:
        return self._kept[0][1]


class TrendWatch:
    """One market's channel and its bar in the making; `last` is the newest breakout."""

    __slots__ = (
        "_bar",
        "_closed",
        "_high",
        "_highest",
        "_low",
        "_lowest",
        "_mid",
        "_side",
        "_size",
        "_traded",
        "_volumes",
        "last",
        "params",
    )

    def __init__(self, params: TrendParams) -> None:
        self.params = params
        self._size = int(params.bar_secs * NS)
        self.restart()

    def restart(self) -> None:
        """Forget everything, as when the continuity of the book was lost."""
        self.last: Breakout | None = None
        self._bar = -1  # number of the bar in the making; none yet
        self._closed = 0
        self._mid = self._high = self._low = 0
        self._highest, self._lowest = _Extreme(self.params.bars), _Extreme(self.params.bars)
        self._side = 0  # where the price left the channel and has not come back to its middle
        self._traded = 0
        self._volumes: deque[int] = deque([0], maxlen=self.params.bars)

    def trade(self, size: int) -> None:
        """Count a trade (1e-6 shares) into the bar in the making."""
        self._traded += size

    def update(self, at: int, bid: int, ask: int) -> Breakout | None:
        """Take a touch (1e-4 USD) at a time (unix ns); return a new breakout."""
        if not 0 < bid < ask < PRICE_ONE or ask - bid > self.params.max_spread:
            return None
        mid, bar = bid + ask, at // self._size
        if self._bar < 0:
            self._bar, self._mid, self._high, self._low = bar, mid, mid, mid
        elif bar > self._bar:
            self._close(bar - self._bar)
            self._bar = bar
        self._mid = mid
        self._high, self._low = max(self._high, mid), min(self._low, mid)
        return self._judge(at, mid) if self._closed >= self.params.bars else None

    def still(self, at: int) -> Breakout | None:
        """Return the last breakout while it is new and the price is out of its channel."""
        out = self.last
        if out is None or at - out.at > self.params.hold_secs * NS:
            return None
        return None if out.low <= self._mid <= out.high else out

    def _close(self, bars: int) -> None:
        """Close the bar in the making, and those after it in which nothing came."""
        self._add(self._closed, self._high, self._low, self._traded)
        quiet = min(bars - 1, self.params.bars)
        for number in range(1, quiet + 1):
            self._add(self._closed + number, self._mid, self._mid, 0)
        self._closed += quiet + 1
        self._high = self._low = self._mid
        self._traded = 0

    def _add(self, number: int, high: int, low: int, traded: int) -> None:
        self._highest.add(number, high)
        self._lowest.add(number, -low)
        self._volumes.append(traded)

    def _judge(self, at: int, mid: int) -> Breakout | None:
        high, low = self._highest.value, -self._lowest.value
        x, top, bottom = LOGIT[mid], LOGIT[high], LOGIT[low]
        beyond = x - top if x > top else min(x - bottom, 0.0)
        side = (beyond > 0) - (beyond < 0)
        if side == 0:
            middle = (top + bottom) / 2
            if (x - middle) * self._side <= 0:
                self._side = 0
            return None
        wide = top - bottom >= self.params.min_width_logit
        if side == self._side or not wide or abs(beyond) < self.params.beyond_logit:
            return None
        ratio = self._volume_ratio()
        if ratio < self.params.min_volume_ratio:
            return None
        self._side = side
        self.last = Breakout(at, mid, low, high, beyond, ratio)
        return self.last

    def _volume_ratio(self) -> float:
        usual = sum(self._volumes) / len(self._volumes)
        return self._traded / usual if usual else 0.0


def breakout_finding(terms: MarketTerms, out: Breakout) -> Finding:
    """Return what is told of a breakout; its strength is how far out it is, in logit."""
    return observed(
        KIND,
        terms,
        strength=abs(out.beyond),
        facts={
            "direction": "up" if out.beyond > 0 else "down",
            "mid": mid_text(out.mid),
            "channel_low": mid_text(out.low),
            "channel_high": mid_text(out.high),
            "beyond_logit": f"{out.beyond:+.4f}",
            "volume_ratio": f"{out.volume_ratio:.2f}",
        },
    )
