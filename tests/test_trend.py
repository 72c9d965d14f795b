"""Breakouts: a price that leaves the channel of its last bars, told once a way out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rules.kernel.spike import LOGIT, NS
from rules.kernel.trend import TrendParams, TrendWatch, breakout_finding
from tests.worlds import market_terms

PARAMS = TrendParams(bar_secs=10, bars=6, beyond_logit=0.05, min_width_logit=0.02)


def feed(watch: TrendWatch, bids, *, start: int = 0, spread: int = 100):
    """Tell a watch one bid a second; return the breakouts."""
    told = (watch.update((start + n) * NS, bid, bid + spread) for n, bid in enumerate(bids))
    return [out for out in told if out is not None]


def waves(seconds: int, low: int = 4900, high: int = 5100) -> list[int]:
    """Go to and fro between two bids, a full turn every 20 seconds."""
    return [low if second // 10 % 2 else high for second in range(seconds)]


@pytest.mark.parametrize(
    ("bid", "direction", "beyond"), [(5400, "up", 0.12), (4600, "down", -0.12)]
)
def test_the_way_out_is_told_once_with_its_channel(bid, direction, beyond):
    watch = TrendWatch(PARAMS)

    (out,) = feed(watch, waves(80) + [bid] * 5)

    finding = breakout_finding(market_terms(0), out)
    told = dict(finding.facts)
    assert out.at == 80 * NS
    assert told["direction"] == direction
    assert (told["channel_low"], told["channel_high"]) == ("0.49500", "0.51500")
    assert out.beyond == pytest.approx(beyond, abs=0.005)
    assert finding.verdict == "OBSERVED"
    assert float(finding.strength) == pytest.approx(abs(beyond), abs=0.005)


@pytest.mark.parametrize("bid", [5100, 5200, 4800])
def test_inside_or_hardly_outside_is_none(bid):
    assert feed(TrendWatch(PARAMS), waves(80) + [bid] * 5) == []


def test_a_market_asleep_does_not_break_out():
    awake = feed(TrendWatch(replace(PARAMS, min_width_logit=0)), [5000] * 80 + [5400] * 5)
    asleep = feed(TrendWatch(PARAMS), [5000] * 80 + [5400] * 5)

    assert (len(awake), len(asleep)) == (1, 0)


def test_nothing_is_told_before_the_channel_is_full():
    assert feed(TrendWatch(PARAMS), waves(55) + [5400] * 4) == []


def test_a_second_way_out_needs_the_middle_in_between():
    watch = TrendWatch(replace(PARAMS, bars=30))
    feed(watch, waves(320))

    first = feed(watch, [5400] * 5, start=320)
    edge = feed(watch, [5090] * 10 + [5500] * 5, start=330)  # not back at the middle
    middle = feed(watch, [4950] * 10 + [5700] * 5, start=350)

    assert [len(told) for told in (first, edge, middle)] == [1, 0, 1]


def test_old_bars_leave_the_channel():
    watch = TrendWatch(PARAMS)
    spike_long_ago = waves(40) + [8000] * 2 + waves(120)

    (out,) = feed(watch, spike_long_ago + [5400] * 3)[-1:]

    assert out.high == 10_300  # of the waves, not of the spike


def test_bars_without_an_update_repeat_the_last_price():
    watch = TrendWatch(replace(PARAMS, min_width_logit=0))
    feed(watch, waves(30))

    (out,) = feed(watch, [5400], start=10_000)  # hours later: more quiet bars than the channel has

    assert out.low == out.high == 2 * 5100 + 100


def test_volume_can_be_asked_for():
    wants = replace(PARAMS, min_volume_ratio=2.0)
    silent, loud = TrendWatch(wants), TrendWatch(wants)
    for watch in (silent, loud):
        for second, bid in enumerate(waves(80)):
            watch.update(second * NS, bid, bid + 100)
            watch.trade(1_000_000)
        watch.update(80 * NS, 5100, 5200)
    loud.trade(25_000_000)

    assert feed(silent, [5400], start=81) == []
    (out,) = feed(loud, [5400], start=81)
    assert out.volume_ratio == pytest.approx(2.5, abs=0.3)


def test_a_breakout_is_told_of_while_it_is_new_and_outside():
    watch = TrendWatch(replace(PARAMS, hold_secs=30))
    (out,) = feed(watch, [*waves(80), 5400])

    assert watch.still(100 * NS) == out
    assert watch.still(111 * NS) is None  # old
    feed(watch, [5000], start=82)
    assert watch.still(100 * NS) is None  # back inside


def test_wide_and_one_sided_books_are_passed_over():
    watch = TrendWatch(PARAMS)
    feed(watch, waves(80))

    assert watch.update(80 * NS, 5400, 9000) is None
    assert watch.update(81 * NS, 0, 5400) is None
    assert watch.update(82 * NS, 5400, 10_000) is None
    assert watch.update(83 * NS, 5400, 5500) is not None


def test_the_channel_is_that_of_a_slow_obvious_count():
    rng = random.Random(6)
    watch = TrendWatch(replace(PARAMS, min_width_logit=0, beyond_logit=0))
    bars: dict[int, list[int]] = {}
    bid, told = 5000, 0
    for second in range(3000):
        bid = min(max(bid + rng.choice((-100, -50, 0, 0, 50, 100)), 1000), 9000)
        closed = sorted(bar for bar in bars if bar < second // 10)[-6:]
        bars.setdefault(second // 10, []).append(2 * bid + 100)
        out = watch.update(second * NS, bid, bid + 100)
        if out is not None:
            told += 1
            seen = [mid for bar in closed for mid in bars[bar]]
            # A bar begins with the price that the one before it ended with.
            seen += [bars[bar - 1][-1] for bar in closed if bar - 1 in bars]
            assert (out.low, out.high) == (min(seen), max(seen))
            assert out.beyond == pytest.approx(
                LOGIT[out.mid] - LOGIT[out.high if out.beyond > 0 else out.low]
            )
    assert told > 20
