"""Figures that take minutes, for the notes: `python -m tests.figures spike` (or lp, endgame).

What is asserted in the suite is a smaller version of each.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from rules.kernel.cross import detect_related, related_sets
from rules.kernel.endgame import BANDS, BUCKET_NAMES, History
from rules.kernel.finding import Limits
from rules.kernel.spike import SpikeParams
from tests.jumps import (
    Jumps,
    at_false_alarms,
    by_fixed_threshold,
    planted_jumps,
    score,
    watched,
)
from tests.related import (
    RATES,
    bracket_markets,
    bracket_relations,
    by_id,
    quoted,
    rel,
    touches,
)
from tests.resolved import games, resolved_events
from tests.worlds import fee

AT = datetime(2026, 6, 1, tzinfo=UTC)
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def spike() -> None:
    """Recall of 900 jumps in 300 markets x 6,000 ticks at one false alarm in 10,000 updates."""
    for fine, name in ((0.5, "both tick sizes"), (0.0, "ticks of 1 cent"), (1.0, "0.1 cent")):
        for seed in (11, 12, 13):
            jumps = planted_jumps(seed, markets=300, fine=fine)
            params = SpikeParams(min_depth_usd=0)
            start = time.process_time()
            alarms = watched(jumps, params)
            each = (time.process_time() - start) / jumps.mids.size * 1e6
            say(f"{name}, seed {seed}: default {score(alarms, jumps)}, {each:.2f} us each")
            rules = {
                "cusum": _cusum(jumps, {}),
                "cusum, floor of a whole tick": _cusum(jumps, {"floor_ticks": 1.0}),
                "fixed threshold": lambda cents, jumps=jumps: by_fixed_threshold(
                    jumps, cents / 100
                ),
            }
            for rule, alarms_at in rules.items():
                threshold, found = at_false_alarms(1e-4, jumps, alarms_at, 1.0, 40.0)
                say(f"    {rule} at {threshold:.1f}: {found}")


def _cusum(jumps: Jumps, changes: dict) -> Callable:
    return lambda threshold: watched(
        jumps, SpikeParams(threshold=threshold, min_depth_usd=0, **changes)
    )


def lp() -> None:
    """Times of the look at related markets: 100 legs, 20 levels each, and a bracket."""
    cases = {
        "ladder of 50 markets": lambda rng: _ladder(rng, 50),
        "exclusive set of 100 markets": lambda rng: _set(rng, "exclusive", 100),
        "union of 49 candidates": lambda rng: _set(rng, "union", 50),
        "tree of 50 markets": lambda rng: _tree(rng, 50),
        "8 buckets, 8 thresholds": _buckets,
        "16-team bracket (64 markets)": lambda rng: (
            bracket_relations(4),
            bracket_markets(4, rng, noise=0.03),
        ),
    }
    for name, case in cases.items():
        looked, tested, paid = _times(case, rounds=40)
        quantiles = statistics.quantiles(looked, n=20)
        say(
            f"{name}: look p50 {statistics.median(looked):.1f} ms, p95 {quantiles[18]:.1f} ms, "
            f"test p50 {statistics.median(tested):.0f} us, {paid} of {len(looked)} paid"
        )


def _times(case: Callable, *, rounds: int) -> tuple[list[float], list[float], int]:
    looked, tested, paid = [], [], 0
    for seed in range(rounds):
        relations, markets = case(random.Random(seed))
        views = by_id(*markets)
        terms = {name: view.terms for name, view in views.items()}
        (related,) = related_sets(relations, terms, refused=[])
        seen = touches(related.members, views)
        related.could_pay(seen)
        start = time.process_time()
        related.could_pay(seen)
        tested.append((time.process_time() - start) * 1e6)
        start = time.process_time()
        finding = detect_related(related, views, at=AT, limits=ALL)
        looked.append((time.process_time() - start) * 1e3)
        paid += finding is not None
    return looked, tested, paid


def _quotes(rng: random.Random, chances):
    return [
        quoted(n, chance + rng.gauss(0, 0.015), rng, levels=20, fee=fee(rng.choice(RATES)))
        for n, chance in enumerate(chances)
    ]


def _ladder(rng: random.Random, count: int):
    markets = _quotes(rng, sorted(rng.uniform(0.25, 0.75) for _ in range(count)))
    return [rel("ladder", *by_id(*markets))], markets


def _set(rng: random.Random, kind: str, count: int):
    markets = _quotes(rng, [1 / count] * count)
    return [rel(kind, *by_id(*markets))], markets


def _tree(rng: random.Random, count: int):
    """Relate each market to an earlier one, with chances that allow it but for the noise."""
    chances, related = [0.5], []
    for number in range(1, count):
        kind = rng.choice(("implies", "exclusive", "exhaustive", "complement"))
        parent = rng.randrange(number)
        p = chances[parent]
        least, most = {
            "implies": (p, 0.75),
            "exclusive": (0.25, 1 - p),
            "exhaustive": (1 - p, 0.75),
            "complement": (1 - p, 1 - p),
        }[kind]
        chances.append(rng.uniform(least, most))
        related.append((kind, parent, number))
    markets = _quotes(rng, chances)
    names = list(by_id(*markets))
    return [rel(kind, names[a], names[b]) for kind, a, b in related], markets


def _buckets(rng: random.Random):
    chances = [1 / 8] * 8 + [n / 8 for n in range(7, 0, -1)]
    markets = _quotes(rng, chances)
    names = list(by_id(*markets))
    buckets, thresholds = names[:8], names[8:]
    unions = [rel("union", t, *buckets[n + 1 :]) for n, t in enumerate(thresholds)]
    return [rel("exclusive", *buckets), rel("exhaustive", *buckets), *unions], markets


def endgame() -> None:
    """What became of near-certain prices in the shared files, and what it takes to bet on them."""
    known = History.of([*resolved_events(), *games()])
    say("category, time left, price of the side: events, won, lower bound; needed at that price")
    for (category, bucket, band), record in sorted(known.cells.items()):
        price = BANDS[band]
        needed = math.ceil(math.log(0.05) / math.log(price / 10_000))
        say(
            f"{category}, {BUCKET_NAMES[bucket]}, {price / 100:.1f} c and up: {record.events}, "
            f"{record.won:.1f}, {record.lower_bound(0.95):.3f}; {needed}"
        )


FIGURES = {"spike": spike, "lp": lp, "endgame": endgame}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        say(f"--- {name}")
        FIGURES[name]()
