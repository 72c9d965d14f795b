"""What is watched without being an arbitrage: prices that jump, and ends that are near."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markets.fills import PRICE_ONE
from markets.simulator import topics
from markets.simulator.exam.cases import Case
from markets.simulator.exam.studio import Studio
from markets.simulator.ladder import Edit
from markets.simulator.quoting import clear_beyond
from markets.simulator.state import LiveEvent

DEEP = 400 * 10**6  # shares behind each touch
# Updates around what happens. Spikes are only told after a warm-up of 100 updates; where the
# touch stays as it is a second counts as one.
BEFORE, AFTER = 130, 12

# What became of near-certain outcomes, as the desk would have counted it: category, time left,
# least price of the band (1e-4 USD), events, won. Weather has a past, the economy next to none.
HISTORY = tuple(
    (category, bucket, band, events, won)
    for category, events, won in (("weather", 9_000, 8_999.0), ("economics", 25, 25.0))
    for bucket in ("6 hours", "1 day")
    for band in (9_500, 9_700, 9_800)
)


def jump(studio: Studio) -> Case | None:
    """A price that jumps or runs up within a second, and stays."""
    steps = studio.rng.choice((1, 1, 5))
    size = studio.rng.uniform(0.7, 1.1) * studio.rng.choice((-1, 1))
    event, path = _quiet(studio)
    path += [path[-1] + size * (step + 1) / steps for step in range(steps)]
    path += [path[-1]] * AFTER
    times = _trade(studio, event, path)
    if times is None:
        return None
    at = (event.legs[0].spec.market_id, times[BEFORE])
    return studio.case("jump", jumps=[at])


def no_jump(studio: Studio) -> Case | None:
    """A price that bounces for one update, or stands still but for single ticks."""
    event, path = _quiet(studio, still=studio.rng.random() < 0.5)
    if studio.rng.random() < 0.5:
        size = studio.rng.uniform(0.5, 1.1) * studio.rng.choice((-1, 1))
        path += [path[-1] + size]
    path += [path[BEFORE - 1]] * AFTER
    if _trade(studio, event, path) is None:
        return None
    return studio.case("no_jump", trap=True, check="spike")


def _quiet(studio: Studio, *, still: bool = False) -> tuple[LiveEvent, list[float]]:
    """Draw a market and the logits that it is quoted around before anything happens."""
    level = studio.rng.uniform(-1.2, 1.2)
    event = studio.event("binary", [1 / (1 + math.exp(-level))], tick=10, depth=4, median=200)
    path, sigma = [level], 0.0 if still else studio.rng.uniform(0.002, 0.01)
    while len(path) < BEFORE:
        path.append(path[-1] + studio.rng.gauss(0, sigma))
    return event, path


def _trade(studio: Studio, event: LiveEvent, path: Sequence[float]) -> list[int] | None:
    """Quote along a path, slowly before it happens and then fast; return the receive times."""
    studio.open(event)
    times = []
    for number, logit in enumerate(path):
        chance = PRICE_ONE / (1 + math.exp(-logit))
        bid = int(chance // 10) * 10 - 10 * (studio.rng.random() < 0.1)
        if not 200 < bid < 9_700:
            return None
        studio.wait(*((700, 1_300) if number < BEFORE else (50, 150)))
        times.append(studio.now)
        studio.change(event, 0, _touch(event, bid, bid + 20))
    for _ in range(4):
        studio.wait(700)
        studio.stir(event, times=1, gap_ms=1)
    return times


def _touch(event: LiveEvent, bid: int, ask: int) -> list[Edit]:
    """Move the touch, withdrawing what stands in between."""
    book = event.legs[0].book
    better = [(True, price, 0) for price, _ in book.bids.levels() if price > bid]
    better += [(False, price, 0) for price, _ in book.asks.levels() if price < ask]
    met = clear_beyond(book.bids, ask) + clear_beyond(book.asks, bid)
    gone = {edit[:2]: edit for edit in [*better, *met]}
    fresh: list[Edit] = [(True, bid, DEEP), (False, ask, DEEP)]
    return list((gone | {edit[:2]: edit for edit in fresh}).values())


def endgame(studio: Studio) -> Case | None:
    """A near-certain outcome hours before its end, with thousands like it on record."""
    return _near_its_end(studio, topics.WEATHER) and studio.case("endgame", check="endgame")


def endgame_unknown(studio: Studio) -> Case | None:
    """The same with two dozen on record: far too few to say anything."""
    case = _near_its_end(studio, topics.ECONOMICS)
    return case and studio.case("endgame_unknown", trap=True, check="endgame")


def _near_its_end(studio: Studio, category: topics.Category) -> Case:
    chance = studio.rng.uniform(0.955, 0.975)
    event = studio.event("binary", [chance], tick=10, category=category, hours=12, depth=5,
                         median=200)  # fmt: skip
    studio.open(event)
    for _ in range(20):  # every event has its turn within ten seconds
        studio.stir(event, times=1)
        studio.wait(700)
    return studio.case("endgame")
