"""Spikes: real jumps found at few false alarms, and nothing else mistaken for one."""

from __future__ import annotations

import csv
import gzip
import lzma
import random
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import pytest

from rules.kernel.spike import NS, SpikeParams, SpikeWatch, spike_finding
from tests.jumps import at_false_alarms, by_fixed_threshold, planted_jumps, score, watched
from tests.resolved import shared
from tests.worlds import market_terms

DEEP = 10**9  # 1,000 shares
FREE_DEPTH = SpikeParams(min_depth_usd=0)


def a_watch(tick: int = 100, **changes) -> SpikeWatch:
    terms = market_terms(0, tick=tick, liquidity=Decimal(1000))
    return SpikeWatch(terms, SpikeParams(**changes))


def feed(watch: SpikeWatch, bids, *, start: int = 0, spread: int = 100, size: int = DEEP):
    """Tell a watch one bid a second; return the spikes."""
    times = range(start, start + len(bids))
    spikes = (
        watch.update(at * NS, bid, bid + spread, size, size)
        for at, bid in zip(times, bids, strict=True)
    )
    return [spike for spike in spikes if spike is not None]


def quiet(count: int, bid: int = 5000) -> list[int]:
    return [bid] * count


# --- the reference jumps -------------------------------------------------------------


@pytest.mark.parametrize("seed", [21, 22])
def test_most_jumps_are_found_at_one_false_alarm_in_10_000_updates(seed):
    jumps = planted_jumps(seed, markets=100)

    found = score(watched(jumps, FREE_DEPTH), jumps)

    assert found.false_alarms <= 1.4e-4  # about 60 of them: the rate is known to a fifth
    assert found.recall >= 0.80
    assert min(found.by_ramp) >= 0.6


def test_a_fixed_threshold_finds_far_less_of_the_same_jumps():
    jumps = planted_jumps(21, markets=100)

    _, fixed = at_false_alarms(
        1.2e-4, jumps, lambda least: by_fixed_threshold(jumps, least), 0.01, 0.4
    )

    assert score(watched(jumps, FREE_DEPTH), jumps).recall > fixed.recall + 0.2


def test_pauses_between_updates_count_as_updates_without_a_move():
    jumps = planted_jumps(23, markets=12)

    told = watched(jumps, FREE_DEPTH)

    assert sum(map(len, told)) > 20
    assert watched(jumps, FREE_DEPTH, only_changes=True) == told


def test_the_other_outcome_sees_the_same_spikes_the_other_way_round():
    jumps = planted_jumps(24, markets=8)
    for row, tick in zip(jumps.mids.tolist(), jumps.ticks, strict=True):
        own, other = a_watch(tick, min_depth_usd=0), a_watch(tick, min_depth_usd=0)
        for number, mid in enumerate(row):
            bid, ask = (mid - tick) // 2, (mid + tick) // 2
            spike = own.update(number * NS, bid, ask, DEEP, DEEP)
            mirror = other.update(number * NS, 10_000 - ask, 10_000 - bid, DEEP, DEEP)
            assert (spike is None) is (mirror is None)
            assert spike is None or spike.move == pytest.approx(-mirror.move)


# --- what is one ---------------------------------------------------------------------


@pytest.mark.parametrize(("after", "direction"), [(7000, "up"), (3000, "down")])
def test_a_jump_that_stands_is_told_with_its_numbers(after, direction):
    watch = a_watch()

    (spike,) = feed(watch, quiet(200) + quiet(3, after))

    terms = market_terms(0)
    finding = spike_finding(terms, spike)
    facts = dict(finding.facts)
    assert spike.at == 201 * NS  # the second update at the new price
    assert facts["direction"] == direction
    assert facts["before"] == "0.50500"
    assert facts["after"] == f"{(after + 50) / 10_000:.5f}"
    assert facts["seconds"] == "1.000"
    assert finding.verdict == "OBSERVED"
    assert finding.strength > 1
    assert (finding.legs, finding.profit, finding.cost) == ((), 0, 0)


def test_a_move_in_small_steps_is_told_from_where_it_began():
    watch = a_watch(tick=10)
    ramp = [5000 + 60 * step for step in range(1, 16)]

    (spike,) = feed(watch, quiet(200) + ramp + quiet(5, ramp[-1]), spread=10)

    assert spike.before == 2 * 5000 + 10
    assert spike.since == 200 * NS
    assert 2 <= spike.updates < 15


def test_two_cents_are_news_at_three_cents_and_none_at_fifty():
    low, middle = a_watch(tick=10), a_watch(tick=100)
    rng = random.Random(4)
    noise = [10 * (rng.random() < 0.1) for _ in range(600)]
    low_price, middle_price = 300, 5000

    lows = [low_price + n for n in noise] + quiet(5, low_price + 200)
    middles = [middle_price + 10 * n for n in noise] + quiet(5, middle_price + 200)

    assert len(feed(low, lows, spread=10)) == 1
    assert feed(middle, middles) == []


def test_one_jump_does_not_hide_the_next():
    watch = a_watch()

    spikes = feed(watch, quiet(200) + quiet(100, 7000) + quiet(100, 5000))

    assert [spike.move > 0 for spike in spikes] == [True, False]
    first, then = spikes
    # A squared move counts nine variances at most: the deviation cannot leap.
    assert then.deviation < first.deviation * 1.5


# --- what is none --------------------------------------------------------------------


def test_a_flat_market_that_flickers_by_a_tick_is_silent():
    rng = random.Random(1)
    flicker = [5000 + 100 * (rng.random() < 0.02) for _ in range(20_000)]

    assert feed(a_watch(), flicker) == []


def test_a_flat_market_in_steps_of_a_thousandth_is_silent():
    rng = random.Random(2)
    flicker = [9800 + rng.choice((0, 0, 0, 0, 10, -10)) for _ in range(20_000)]

    assert feed(a_watch(tick=10), flicker, spread=10) == []


@pytest.mark.parametrize("excursion", [6500, 9000, 1000])
def test_a_bounce_is_no_spike_and_neither_is_the_way_back(excursion):
    bounces = [*quiet(200), excursion, *quiet(100), excursion, *quiet(100)]

    assert feed(a_watch(), bounces) == []


def test_a_bounce_that_comes_back_a_tick_short_is_no_spike():
    for back in (5010, 4990):
        bounce = [*quiet(200, 5000), 7400 if back > 5000 else 2600, *quiet(20, back)]

        assert feed(a_watch(tick=10), bounce, spread=20) == []


def test_looks_within_a_second_do_not_make_a_move_stand():
    watch = a_watch()
    feed(watch, quiet(200))
    jump = [watch.update(200 * NS + ms * NS // 1000, 7000, 7100, DEEP, DEEP) for ms in (0, 60, 120)]

    assert jump == [None] * 3
    assert watch.waiting
    assert watch.update(201 * NS, 7000, 7100, DEEP, DEEP) is not None


def test_nothing_is_told_while_warming_up_or_soon_after_a_spike():
    early = feed(a_watch(), quiet(50) + quiet(100, 7000))
    zigzag = [price for step in range(6) for price in quiet(5, 5000 if step % 2 else 7000)]
    one = feed(a_watch(), quiet(200) + zigzag)

    assert early == []
    assert len(one) == 1


def test_the_warm_up_is_counted_from_the_first_price_whatever_the_clock_says():
    watch = a_watch()
    now = 1_780_000_000

    assert feed(watch, quiet(50) + quiet(30, 7000), start=now) == []


def test_a_spike_that_went_back_is_over_even_if_the_price_returns():
    watch = a_watch()
    (spike,) = feed(watch, quiet(200) + quiet(3, 7000))
    assert watch.still(203 * NS) == spike

    feed(watch, quiet(1), start=204)
    gone = watch.still(204 * NS)
    feed(watch, quiet(1, 7000), start=205)

    assert gone is None
    assert watch.still(205 * NS) is None


def test_books_that_cannot_be_believed_are_passed_over_and_what_they_hid_counts_after():
    watch = a_watch()
    feed(watch, quiet(200))

    wide = feed(watch, quiet(20, 2000), start=200, spread=5000)
    thin = feed(watch, quiet(20, 7000), start=220, size=10**6)  # 1 share
    one_sided = [watch.update(at * NS, 0, 7100, DEEP, DEEP) for at in range(240, 250)]
    back = feed(watch, quiet(3, 7000), start=250)

    assert wide == thin == []
    assert one_sided == [None] * 10
    (spike,) = back
    assert spike.after - spike.before == 4000


def test_after_a_restart_the_first_price_is_no_move():
    watch = a_watch()
    feed(watch, quiet(200))

    watch.restart()

    assert feed(watch, quiet(300, 7000), start=300) == []


# --- the seed's parameters -----------------------------------------------------------


def test_a_relative_change_within_the_window_is_a_further_gate():
    jump = quiet(200) + quiet(40, 5800)  # 15.8 %

    free = feed(a_watch(), jump)
    loose = feed(a_watch(window_secs=10, pct_change_gt=0.15), jump)
    strict = feed(a_watch(window_secs=10, pct_change_gt=0.17), jump)

    assert free == loose
    assert len(free) == 1
    assert strict == []


def test_a_market_of_little_liquidity_is_passed_over():
    jump = quiet(200) + quiet(5, 7000)

    assert feed(a_watch(min_liquidity=1000), jump)
    assert feed(a_watch(min_liquidity=1001), jump) == []


# --- how long it is told -------------------------------------------------------------


def test_a_spike_is_told_of_until_it_is_old_or_half_undone():
    watch = a_watch(hold_secs=30)
    (spike,) = feed(watch, quiet(200) + quiet(3, 7000))

    assert watch.still(230 * NS) == spike
    assert watch.still(232 * NS) is None  # old
    feed(watch, [5900], start=203)
    assert watch.still(204 * NS) is None  # more than half undone


def test_a_watch_waits_for_the_move_to_stand():
    watch = a_watch()
    feed(watch, quiet(200))
    before = watch.waiting

    assert watch.update(200 * NS, 7000, 7100, DEEP, DEEP) is None
    assert (before, watch.waiting) == (False, True)
    assert watch.update(201 * NS, 7000, 7100, DEEP, DEEP) is not None
    assert not watch.waiting


def test_alarms_do_not_depend_on_what_comes_later():
    jumps = planted_jumps(25, markets=4)
    whole = watched(jumps, FREE_DEPTH)

    for cut in (1500, 3100, 4700):
        early = planted_jumps(25, markets=4)
        early = type(early)(early.mids[:, :cut], early.ticks, early.planted)
        assert watched(early, FREE_DEPTH) == [[t for t in row if t < cut] for row in whole]
    assert all(a < b for row in whole for a, b in pairwise(row))


# --- over what really happened -------------------------------------------------------


def test_a_real_final_spikes_on_its_goals_and_on_both_outcomes_alike():
    """20 minutes of 6 markets: tokens 2n and 2n + 1 are the two sides of one book."""
    spikes = {token: [] for token in range(12)}
    watches = {token: a_watch(min_depth_usd=0) for token in spikes}
    with lzma.open(shared("ws/nhl_2026-06-07_price_changes.csv.xz"), "rt") as file:
        for row in csv.DictReader(file):
            if row["type"] != "P" or not row["best_bid"]:
                continue
            token, at = int(row["token"]), int(row["ts_ms"]) * 1_000_000
            bid, ask = (round(float(row[side]) * 10_000) for side in ("best_bid", "best_ask"))
            spike = watches[token].update(at, bid, ask, DEEP, DEEP)
            if spike is not None:
                spikes[token].append(spike)

    told = sum(map(len, spikes.values()))
    assert 10 <= told <= 60
    for token in range(0, 12, 2):
        here, there = (
            [(round(s.at / NS / 2), s.move > 0) for s in spikes[t]] for t in (token, token + 1)
        )
        assert [(at, not up) for at, up in here] == there
    goal = max((s for each in spikes.values() for s in each), key=lambda s: abs(s.move))
    together = {t for t, each in spikes.items() if any(abs(s.at - goal.at) < 5 * NS for s in each)}
    assert len(together) >= 6  # at least three markets of the game


def test_real_quiet_quotes_spike_less_than_once_in_2_000_updates():
    watches: dict[str, SpikeWatch] = {}
    told = updates = 0
    path = shared("us_quotes/quotes_2026-08-13_1200-1800_nonsports.csv.gz")
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if not row["bid"] or not row["ask"]:
                continue
            watch = watches.setdefault(
                row["slug"], a_watch(min_depth_usd=0, idle_secs=123, warmup_updates=30)
            )
            at = int(datetime.fromisoformat(row["ts"]).timestamp()) * NS
            bid, ask = (round(float(row[side]) * 10_000) for side in ("bid", "ask"))
            told += watch.update(at, bid, ask, DEEP, DEEP) is not None
            updates += 1

    assert updates > 100_000
    assert 0 < told < updates / 2_000
