"""What is likely: hidden probabilities that keep the logic of an event at every step.

Exclusive outcomes always add up to one and the rungs of a ladder never cross, so quotes set
around them leave nothing to take.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod

SURE = 0.97


def phi(x: float) -> float:
    """Give the standard normal distribution function."""
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


class Latent(ABC):
    """Probabilities `p` of outcome 0 for the open markets of one event."""

    p: list[float]

    @abstractmethod
    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Move a little; `scale` 1 is an ordinary day, `now` is unix ns."""

    @abstractmethod
    def jump(self, rng: random.Random) -> None:
        """Move as news does."""

    def outcomes(self, rng: random.Random) -> list[bool]:
        """Draw what comes true. One draw for all, so that what implies another brings it along."""
        draw = rng.random()
        return [draw < chance for chance in self.p]


class Simplex(Latent):
    """Exactly one of them is true."""

    def __init__(self, p: list[float], *, floor: float) -> None:
        self.p = p
        self._floor = floor
        self._free = list(range(len(p)))

    def fix(self, index: int) -> None:
        """Keep one leg's probability as it is from now on."""
        self._free.remove(index)

    def outcomes(self, rng: random.Random) -> list[bool]:
        """Draw the one that comes true."""
        winner = rng.choices(range(len(self.p)), self.p)[0]
        return [index == winner for index in range(len(self.p))]

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Shift some mass between two legs."""
        giver, taker = rng.sample(self._free, 2)
        room = self.p[giver] - self._floor
        mass = min(abs(rng.gauss(0.0, 0.06)) * scale, 0.5) * min(room, self.p[taker])
        self.p[giver] -= mass
        self.p[taker] += mass

    def jump(self, rng: random.Random) -> None:
        """Give one leg a large part of what the others have above the floor."""
        winner = rng.choice(self._free)
        share = rng.uniform(0.15, 0.45)
        taken = 0.0
        for index in self._free:
            if index != winner:
                part = share * (self.p[index] - self._floor)
                self.p[index] -= part
                taken += part
        self.p[winner] += taken


class Independent(Latent):
    """Questions without any logic between them."""

    def __init__(self, p: list[float], *, floor: float) -> None:
        self._floor = floor
        self._x = [math.log(value / (1.0 - value)) for value in p]
        self.p = p

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Walk one of them, in logit."""
        self._move(rng.randrange(len(self.p)), rng.gauss(0.0, 0.04) * scale)

    def jump(self, rng: random.Random) -> None:
        """Move one of them by half a logit or more."""
        self._move(rng.randrange(len(self.p)), rng.choice((-1, 1)) * rng.uniform(0.4, 1.2))

    def _move(self, index: int, by: float) -> None:
        self._x[index] = max(-3.5, min(3.5, self._x[index] + by))
        self.p[index] = _clip(_logistic(self._x[index]), self._floor)


class ByDate(Latent):
    """Cumulative dates of one hazard: each rung implies every later one."""

    def __init__(self, rungs: int, rng: random.Random, *, floor: float) -> None:
        self._floor = floor
        self._times = [0.6 + index for index in range(rungs)]
        self._x = rng.uniform(-2.2, -0.7)
        self._spread()

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Walk the hazard."""
        self._shift(rng.gauss(0.0, 0.03) * scale)

    def jump(self, rng: random.Random) -> None:
        """Make it suddenly more or less likely."""
        self._shift(rng.choice((-1, 1)) * rng.uniform(0.3, 0.8))

    def extend(self, rungs: int) -> None:
        """Add later dates."""
        self._times += [self._times[-1] + 1 + step for step in range(rungs)]
        self._spread()

    def _shift(self, by: float) -> None:
        self._x = max(-3.0, min(0.3, self._x + by))
        self._spread()

    def _spread(self) -> None:
        rate = math.exp(self._x)
        self.p = [_clip(1.0 - math.exp(-rate * at), self._floor) for at in self._times]


class Above(Latent):
    """Thresholds of one price: each rung is implied by every higher one."""

    def __init__(self, rungs: int, rng: random.Random, *, floor: float) -> None:
        self._floor = floor
        self._strikes = [index - (rungs - 1) / 2 for index in range(rungs)]
        self._price = rng.uniform(-1.0, 1.0)
        self._spread()

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Walk the price."""
        self._shift(rng.gauss(0.0, 0.05) * scale)

    def jump(self, rng: random.Random) -> None:
        """Move the price by up to a strike and a half."""
        self._shift(rng.choice((-1, 1)) * rng.uniform(0.5, 1.5))

    def _shift(self, by: float) -> None:
        self._price = max(-4.0, min(4.0, self._price + by))
        self._spread()

    def _spread(self) -> None:
        self.p = [_clip(phi((self._price - strike) / 1.3), self._floor) for strike in self._strikes]


class UpDown(Latent):
    """Up or down by the end of a round: the nearer the end, the surer."""

    def __init__(self, *, opens: int, closes: int, floor: float) -> None:
        self._opens = opens
        self._closes = closes
        self._floor = floor
        self._lead = 0.0
        self.p = [0.5]

    def outcomes(self, rng: random.Random) -> list[bool]:
        """Up wins a tie."""
        return [self._lead >= 0.0]

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Walk the lead of the price over where the round began."""
        self._shift(rng.gauss(0.0, 0.05) * scale, now)

    def jump(self, rng: random.Random) -> None:
        """Move the lead at once; the next step prices it in time."""
        self._shift(rng.choice((-1, 1)) * rng.uniform(0.2, 0.6), self._opens)

    def _shift(self, by: float, now: int) -> None:
        self._lead += by
        left = max(self._closes - max(now, self._opens), 10**9) / (self._closes - self._opens)
        self.p = [_clip(phi(self._lead / (0.6 * math.sqrt(left))), self._floor)]


class Common:
    """Probabilities that two events have in common: whatever moves one of them moves both."""

    def __init__(self, whole: Latent) -> None:
        self._whole = whole
        self._parts: list[Part] = []
        self._draw: float | None = None  # once one of the events is over

    def part(self, places: slice) -> Part:
        """Give the probabilities of one event."""
        part = Part(self, places)
        self._parts.append(part)
        self._tell()
        return part

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Move a little."""
        if self._draw is None:
            self._whole.step(rng, scale=scale, now=now)
            self._tell()

    def jump(self, rng: random.Random) -> None:
        """Move as news does."""
        if self._draw is None:
            self._whole.jump(rng)
            self._tell()

    def draw(self, rng: random.Random) -> float:
        """Draw once for all, so that no event contradicts how the other one ended."""
        if self._draw is None:
            self._draw = rng.random()
        return self._draw

    def assure(self, first: int) -> None:
        """Let it be known that everything from a place on is as good as true."""
        self._whole.p = [chance if at < first else SURE for at, chance in enumerate(self._whole.p)]
        self._tell()

    def _tell(self) -> None:
        for part in self._parts:
            part.p = self._whole.p[part.places]


class Part(Latent):
    """What one of the events that share probabilities has of them."""

    def __init__(self, common: Common, places: slice) -> None:
        self._common = common
        self.places = places
        self.p = []

    def step(self, rng: random.Random, *, scale: float, now: int) -> None:
        """Move a little, and all that is shared with it."""
        self._common.step(rng, scale=scale, now=now)

    def jump(self, rng: random.Random) -> None:
        """Move as news does, and all that is shared with it."""
        self._common.jump(rng)

    def outcomes(self, rng: random.Random) -> list[bool]:
        """Tell what comes true by the one draw that is shared."""
        draw = self._common.draw(rng)
        won = [draw < chance for chance in self.p]
        if won[-1]:
            self._common.assure(self.places.stop)
        return won


def _clip(value: float, floor: float) -> float:
    return max(floor, min(1.0 - floor, value))


def split_one(count: int, rng: random.Random, *, floor: float) -> list[float]:
    """Split probability one over `count` outcomes, each at least `floor`, long tails included."""
    weights = [rng.expovariate(1.0) ** rng.choice((1.0, 1.6)) + 0.02 for _ in range(count)]
    room = 1.0 - floor * count
    total = sum(weights)
    return [floor + room * weight / total for weight in weights]
