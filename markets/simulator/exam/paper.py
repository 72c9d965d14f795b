"""The exam paper: which cases, how many of each, and in what order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from markets.simulator.exam import bracket, decoys, feed_traps, related, single, watched
from markets.simulator.exam.cases import Case
from markets.simulator.exam.studio import Studio
from markets.simulator.stage import SECOND

START = 1_781_000_040 * SECOND
TRIES = 40  # at drawing one case; some draws leave no room for what is to be planted

Maker = Callable[[Studio], Case | None]

# Each with its weight: how many of a hundred or so cases it makes.
MAKERS: tuple[tuple[Maker, float], ...] = (
    (single.yes_basket, 14),
    (single.no_basket, 11),
    (single.fee_free, 2),
    (single.squared_fee, 1.5),
    (single.unequal_depth, 4),
    (single.thin_top_deep, 4),
    (single.least_size, 1.5),
    (single.augmented_no, 1.5),
    (single.paused_leg_no, 1.5),
    (single.bounded_no, 2),
    (single.bounded_yes, 1),
    (single.many_snapshots, 1.5),
    *((maker, 1.6) for maker in related.RELATED),
    (related.dates, 3),
    (related.void_label, 1.2),
    (related.double_use, 1.6),
    (bracket.bracket, 0.1),
    (decoys.gross_not_net, 2.5),
    (decoys.free_but_short, 1.5),
    (decoys.odd_fee, 1.5),
    (decoys.thin_top, 2),
    (decoys.unequal_but_short, 1.5),
    (decoys.below_min_size, 1.5),
    (decoys.empty_leg, 1.5),
    (decoys.not_exhaustive, 1.5),
    (decoys.outcome_added, 1.5),
    (decoys.plain_group, 1.5),
    (decoys.frozen_after_end, 1.5),
    (decoys.not_accepting, 1.5),
    (decoys.swapped, 1.2),
    (decoys.other_cut_off, 1.2),
    (decoys.other_source, 1.2),
    (decoys.short_buckets, 1.2),
    (decoys.unlisted_candidate, 1.2),
    (decoys.bracket_in_order, 0.1),
    (feed_traps.stale_leg, 1.5),
    (feed_traps.late_mirror, 1.2),
    (feed_traps.crossed_book, 1.5),
    (feed_traps.muddled_frames, 2),
    (feed_traps.flicker, 1.5),
    (feed_traps.bait, 1.2),
    (watched.jump, 1),
    (watched.no_jump, 1.2),
    (watched.endgame, 0.8),
    (watched.endgame_unknown, 1.2),
)


class NoRoom(Exception):
    """A case could not be drawn, however often it was tried."""


def paper(*, seed: int, cases: int) -> Iterator[Case]:
    """Draw an exam; the same seed and size give the same cases, byte for byte.

    Every kind of case comes up once before any comes up again.
    """
    rng = random.Random(f"{seed}:paper")
    makers = [maker for maker, _ in MAKERS]
    order = [*makers, *rng.choices(makers, [weight for _, weight in MAKERS], k=cases)]
    for number, maker in enumerate(order[:cases]):
        yield draw(maker, seed=seed, number=number)


def draw(maker: Maker, *, seed: int, number: int) -> Case:
    """Draw one case of a kind; raise `NoRoom` if its seed leaves none."""
    for attempt in range(TRIES):
        case = maker(Studio(seed=seed, number=number, start=START, attempt=attempt))
        if case is not None:
            return case
    raise NoRoom(f"case {number} of seed {seed}: {getattr(maker, '__name__', maker)}")
