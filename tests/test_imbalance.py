"""Tilted books: told when one side outweighs the other and stays so, and never for thin books."""

from __future__ import annotations

import random

import pytest

from rules.kernel.imbalance import NS, ImbalanceParams, ImbalanceWatch, imbalance_finding
from tests.worlds import ladder, market_terms

PARAMS = ImbalanceParams(min_depth_usd=100)


def side(price: float, size: float, *, step: float, levels: int = 5):
    return ladder(*((price + step * n, size) for n in range(levels)))


def feed(watch: ImbalanceWatch, seconds, bid_size: float, ask_size: float, *, ask: float = 0.51):
    """Tell a watch a book of five levels each, one a second; return the tilts."""
    bids, asks = side(0.50, bid_size, step=-0.01), side(ask, ask_size, step=0.01)
    tilts = (watch.update(at * NS, bids, asks) for at in seconds)
    return [tilt for tilt in tilts if tilt is not None]


@pytest.mark.parametrize(
    ("bid_size", "ask_size", "direction", "value"),
    [(900, 100, "up", "+0.800"), (100, 900, "down", "-0.800")],
)
def test_a_tilt_that_stays_is_told_once_with_its_numbers(bid_size, ask_size, direction, value):
    (tilt,) = feed(ImbalanceWatch(PARAMS), range(60), bid_size, ask_size)

    finding = imbalance_finding(market_terms(0), tilt)
    told = dict(finding.facts)
    assert tilt.at == 3 * NS
    assert (told["direction"], told["imbalance"]) == (direction, value)
    assert (told["mid"], told["seconds"]) == ("0.50500", "3.000")
    assert finding.verdict == "OBSERVED"
    assert float(finding.strength) == 0.8


@pytest.mark.parametrize(("bid_size", "ask_size"), [(750, 250), (250, 750), (500, 500)])
def test_a_smaller_tilt_is_none(bid_size, ask_size):
    assert feed(ImbalanceWatch(PARAMS), range(60), bid_size, ask_size) == []


def test_only_the_best_levels_count():
    bids = (*side(0.50, 100, step=-0.01), *ladder((0.40, 100_000)))
    watch = ImbalanceWatch(PARAMS)

    tilts = [watch.update(at * NS, bids, side(0.51, 100, step=0.01)) for at in range(10)]

    assert tilts == [None] * 10


def test_a_tilt_that_comes_and_goes_is_none():
    watch = ImbalanceWatch(PARAMS)

    for second in range(60):
        heavy = 900 if second % 3 else 100
        assert feed(watch, [second], heavy, 100) == []


def test_it_is_told_again_only_after_it_was_gone():
    watch = ImbalanceWatch(PARAMS)
    first = feed(watch, range(10), 900, 100)

    softer = feed(watch, range(10, 20), 700, 300)  # 0.4: less, not gone
    again = feed(watch, range(20, 30), 900, 100)
    gone = feed(watch, range(30, 40), 500, 500)
    anew = feed(watch, range(40, 50), 900, 100)

    assert [len(told) for told in (first, softer, again, gone, anew)] == [1, 0, 0, 0, 1]
    assert watch.current == anew[0]


def test_the_other_side_is_another_tilt():
    watch = ImbalanceWatch(PARAMS)

    told = feed(watch, range(10), 900, 100) + feed(watch, range(10, 20), 100, 900)

    assert [tilt.value > 0 for tilt in told] == [True, False]


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ((), side(0.51, 900, step=0.01)),  # nobody buys
        (side(0.50, 900, step=-0.01), ()),  # nobody sells
        (side(0.50, 900, step=-0.01), side(0.56, 100, step=0.01)),  # too wide
        (side(0.50, 9, step=-0.01), side(0.51, 1, step=0.01)),  # too thin
        (side(0.52, 900, step=-0.01), side(0.51, 100, step=0.01)),  # crossed
    ],
)
def test_a_book_that_cannot_be_believed_is_passed_over_and_ends_what_was_there(bids, asks):
    watch = ImbalanceWatch(PARAMS)
    feed(watch, range(10), 900, 100)

    told = [watch.update(at * NS, bids, asks) for at in range(10, 20)]

    assert told == [None] * 10
    assert watch.current is None


def test_the_other_outcome_sees_the_opposite():
    rng = random.Random(8)
    own, other = ImbalanceWatch(PARAMS), ImbalanceWatch(PARAMS)
    seen = 0
    for at in range(400):
        if at % 8 == 0:
            sizes = rng.choice(((900, 100), (100, 900), (300, 300)))
        bids, asks = side(0.50, sizes[0], step=-0.01), side(0.51, sizes[1], step=0.01)
        mirrored_bids = tuple((10_000 - price, size) for price, size in asks)
        mirrored_asks = tuple((10_000 - price, size) for price, size in bids)
        tilt = own.update(at * NS, bids, asks)
        mirror = other.update(at * NS, mirrored_bids, mirrored_asks)
        assert (tilt is None) is (mirror is None)
        if tilt is not None:
            seen += 1
            assert tilt.value == -mirror.value
    assert seen > 10
