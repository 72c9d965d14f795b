"""What is known of a finding at its moment, and what becomes of it: by hand, and on the venue."""

from __future__ import annotations

import asyncio
import math
from functools import cache

import pytest

from markets.frames import CLOSED, Frame
from markets.recording import Recording
from markets.simulator.world import World, frames
from rules.ml.checks import changed_by_future
from rules.ml.features import FEATURES, FEATURES_SHA, KINDS, NAMES, TRENDS, Moment, vector
from rules.ml.pulse import Pulse
from rules.ml.samples import Labels
from signals.live import Live
from signals.samples import Pass, Sampler, Told
from signals.sources import Clock, Paced
from signals.writer import Batch, Writer
from tests import live_cast
from tests import wire_files as wire
from tests.feed_cast import DUTCH, SECOND, Hand

LATENCY = 250
LEGS = (0, 1, 2)
LAST = LEGS[-1]
AT_ONCE = DUTCH + "dedupe: {persist_ms: 0}\n"
FAST = Labels(latency_ms=LATENCY, hold_s=1.0)


class Desk(Hand):
    """Three outcomes that cost 90 cents together; everything is sampled at first sight."""

    def __init__(self, labels: Labels = FAST) -> None:
        super().__init__(AT_ONCE)
        self.sampler = Sampler(self.pipeline, labels)
        self.told: list[Told] = []
        self.list(wire.event([wire.market(number) for number in LEGS]))
        for number in LEGS[:2]:
            self.show(number, 0.28, 0.30)
            self.wait(10)

    def feed(self, ch, body, req=None, conn=None):
        frame = Frame(self.now, ch, body, conn, req)
        changes = list(self.pipeline.feed(frame).changes)
        self.sampler.on_frame(frame.t)
        self.told += self.sampler.on_changes(changes)
        self.changes += changes
        return changes

    def open(self) -> Told:
        """Let the third leg complete the basket."""
        self.show(LAST, 0.28, 0.30)
        [told] = self.told
        return told

    def pass_on(self, ms: int) -> None:
        """Let time pass with a frame about nothing."""
        self.wait(ms)
        self.feed("ws", b"[]")

    def outcome(self) -> bool:
        [sample] = self.sampler.take()
        return sample.filled


# --- features ------------------------------------------------------------------------


def value(told: Told, name: str) -> float:
    return told.vector[NAMES.index(name)]


def test_features_are_those_of_the_moment() -> None:
    desk = Desk()
    told = desk.open()

    assert len(told.vector) == len(FEATURES)
    assert (value(told, "legs"), value(told, "kind")) == (3, KINDS.index("yes_basket"))
    assert (value(told, "profit_usd"), value(told, "cost_usd")) == (10, 90)
    assert value(told, "edge_bps") == pytest.approx(1111.1, abs=0.1)
    assert (value(told, "depth_least"), value(told, "touch_least")) == (1, 1)
    assert value(told, "spread_most") == pytest.approx(0.02)
    assert value(told, "idle_most_s") == pytest.approx(0.020)
    assert (value(told, "idle_least_s"), value(told, "moved_1s")) == (0, 1)
    assert value(told, "tick_most") == pytest.approx(0.01)
    assert value(told, "ends_in_h") == pytest.approx(30 * 24, abs=0.01)
    assert (value(told, "standing_s"), value(told, "earlier_1h")) == (0, 0)
    assert math.isnan(value(told, "earlier_median_s"))
    assert (told.group, told.rule, told.sampled) == ("77", "DUTCH_BOOK_DETECT", True)


def test_earlier_episodes_on_the_same_legs_are_remembered_for_an_hour() -> None:
    desk = Desk()
    desk.open()
    desk.wait(2_000)
    desk.show(LAST, 0.28, 0.60)  # gone after 2 s
    desk.pass_on(600)
    desk.show(LAST, 0.28, 0.30)

    again = desk.told[-1]
    assert value(again, "earlier_1h") == 1
    assert value(again, "earlier_median_s") == pytest.approx(2.0)
    desk.show(LAST, 0.28, 0.60)
    desk.pass_on(3_610_000)
    desk.show(LAST, 0.28, 0.30)
    assert value(desk.told[-1], "earlier_1h") == 1  # the second one; the first is too long ago


def test_what_cannot_be_executed_is_not_asked_about() -> None:
    desk = Desk()
    desk.show(LAST, 0.28, 0.30, sizes=(100, 3))  # under the minimum

    assert [change.finding.verdict for change in desk.changes] == ["BLOCKED"]
    assert desk.told == []


def test_list_of_features_is_pinned_and_says_what_each_is() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(TRENDS)
    assert all(feature.about for feature in FEATURES)
    assert FEATURES_SHA == "c0b26e25bef1bafe482d1358d35a39ea77cedf1c8d62a19e7a40ee2a6dc467b9"
    empty = Moment("unheard of", 0, 0, 0, 0, (), 0, None, ())
    assert math.isnan(vector(empty)[NAMES.index("kind")])


# --- labels --------------------------------------------------------------------------


def test_what_stands_until_the_end_of_its_label_is_filled() -> None:
    desk = Desk()
    desk.open()
    desk.pass_on(1_249)
    assert desk.sampler.take() == []  # not known yet
    desk.pass_on(2)

    assert desk.outcome()


@pytest.mark.parametrize(("gone_after", "filled"), [(100, False), (251, False), (1_251, True)])
def test_what_is_gone_before_the_end_of_its_label_is_not(gone_after: int, filled: bool) -> None:
    desk = Desk()
    desk.open()
    desk.wait(gone_after)
    desk.show(1, 0.28, 0.60)
    desk.pass_on(2_000)

    assert desk.outcome() is filled


def test_what_was_away_before_the_order_arrives_and_is_back_counts_as_there() -> None:
    desk = Desk()
    desk.open()
    desk.wait(50)
    desk.show(2, 0.28, 0.60)
    desk.wait(100)
    desk.show(2, 0.28, 0.30)
    desk.pass_on(2_000)

    [sample] = desk.sampler.take()
    assert sample.filled


@pytest.mark.parametrize(("ask", "filled"), [(0.34, True), (0.36, False)])
def test_half_of_the_profit_is_enough(ask: float, filled: bool) -> None:
    desk = Desk()
    desk.open()
    desk.wait(100)
    desk.show(2, 0.28, ask)  # 90 cents become 94, or 96
    desk.pass_on(2_000)

    assert desk.outcome() is filled


def test_less_depth_than_wanted_is_a_failure_and_what_was_had_is_unwound_at_the_bids() -> None:
    desk = Desk()
    desk.open()
    desk.wait(100)
    desk.show(2, 0.28, 0.30, sizes=(100, 40))
    desk.pass_on(2_000)

    [sample] = desk.sampler.take()
    assert not sample.filled
    # 100, 40 and 100 shares bought at 30 cents, sold at 28
    assert sample.loss == pytest.approx(240 * 0.02)


def test_full_sets_that_are_had_and_vanish_later_cost_nothing_to_unwind() -> None:
    desk = Desk()
    desk.open()
    desk.wait(300)
    desk.show(1, 0.28, 0.60)
    desk.pass_on(2_000)

    [sample] = desk.sampler.take()
    assert (sample.filled, sample.loss) == (False, None)


@pytest.mark.parametrize("cut", ["connection", "tick", "end"])
def test_what_cannot_be_known_is_dropped_not_called_a_failure(cut: str) -> None:
    desk = Desk()
    told = desk.open()
    desk.wait(100)
    if cut == "connection":
        for number in LEGS:
            desk[number].conn = 1
        desk.feed("ws", b"reset", CLOSED, conn=1)
    elif cut == "tick":
        body = {"event_type": "tick_size_change", "market": wire.condition(2),
                "asset_id": wire.tokens(2)[0], "new_tick_size": "0.001"}  # fmt: skip
        desk.feed("ws", str(body).replace("'", '"').encode())
    else:
        desk.sampler.finish()
    desk.pass_on(2_000)

    assert desk.sampler.take() == []
    assert desk.sampler.take_dropped() == [told.key]
    assert sum(desk.sampler.censored.values()) == 1


def test_market_that_stops_trading_is_a_failure() -> None:
    desk = Desk()
    desk.open()
    desk.wait(100)
    paused = wire.market(LAST, acceptingOrders=False)
    desk.list(wire.event([wire.market(0), wire.market(1), paused]))
    desk.pass_on(2_000)

    assert desk.outcome() is False


def test_episode_is_sampled_once() -> None:
    desk = Desk()
    desk.open()
    for step in range(4):
        desk.wait(700)
        desk.show(1, 0.20, 0.29 - step / 100)

    assert len(desk.told) > 2
    assert [told.sampled for told in desk.told].count(True) == 1


# --- on the simulated venue ----------------------------------------------------------


def a_world(*, until: float = 40):
    start = live_cast.START
    world = World(
        seed=5, events=30, start=start, rate=60, plant_every=2, decoy_every=3, jump_every=2
    )
    return frames(world, until=start + int(until * SECOND))


@cache
def whole(*, leak: bool = False) -> tuple[Pass, list]:
    taken = Pass(a_world(), live_cast.shipped_rules(), FAST, leak=leak)
    return taken, list(taken)


def test_venue_gives_samples_of_both_outcomes() -> None:
    _, samples = whole()

    outcomes = [sample.filled for sample in samples]
    assert outcomes.count(True) > 5
    assert outcomes.count(False) > 2
    assert len({sample.key for sample in samples}) == len(samples)
    assert all(sample.ends == sample.at + FAST.horizon_ns for sample in samples)
    assert all(sample.loss is None or sample.loss >= 0 for sample in samples)


@pytest.mark.parametrize("leak", [False, True])
def test_cutting_off_the_future_changes_no_vector_but_one_that_leaks(leak: bool) -> None:
    everything, _ = whole(leak=leak)
    moments = sorted(at for at, _ in everything.captured.values())
    until = moments[len(moments) // 2] + 1
    before = (frame for frame in a_world() if frame.t < until)
    cut = Pass(before, live_cast.shipped_rules(), FAST, leak=leak)
    list(cut)

    changed = changed_by_future(everything.captured, cut.captured, until=until)
    assert len(cut.captured) > 5
    assert changed == (["planted feature 1"] if leak else [])


class Remembering(Writer):
    """Keeps what it is to store; its thread is never started."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    def put(self, batch: Batch) -> None:
        self.batches.append(batch)


def test_serving_and_training_give_the_same_vector_for_the_same_moment(tmp_path) -> None:
    """What runs live and is recorded, against a pass over the recording."""
    clock, writer, path = Clock(), Remembering(), tmp_path / "hour.jsonl"
    rules = live_cast.shipped_rules()
    labels = Labels(latency_ms=20, hold_s=0.05)  # for a world that runs 8 times as fast
    live = Live(rules, clock=clock, writer=writer, recording=path, labels=labels)
    asyncio.run(live.run(Paced(a_world(until=20), clock, speed=8), stop=asyncio.Event()))
    again = Pass(Recording(path), rules, labels)
    labelled = {sample.key: sample for sample in again}
    served = {
        (told.key, told.at): told.vector
        for batch in writer.batches
        for told in batch.told
        if told.sampled
    }
    trained = {(key, at): vector for key, (at, vector) in again.captured.items()}
    both = served.keys() & trained.keys()
    assert len(both) > 5
    assert all(same(served[moment], trained[moment]) for moment in both)
    known = {sample.key: sample for batch in writer.batches for sample in batch.samples}
    compared = [key for key, _ in both if key in known and key in labelled]
    assert len(compared) > 2
    assert all(known[key].filled == labelled[key].filled for key in compared)


def same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))


# --- how lively books are ------------------------------------------------------------


def test_pulse_tells_a_jumping_book_from_a_quiet_one() -> None:
    desk = Hand(DUTCH)
    desk.list(wire.event([wire.market(number) for number in (1, 2)]))
    desk.show(1, 0.40, 0.42)
    desk.show(2, 0.40, 0.42)
    pulse = Pulse(desk.pipeline.books)
    for step in range(60):
        desk.wait(1_000)
        desk.show(1, *((0.40, 0.42), (0.50, 0.52))[step % 2])
        pulse.on_frame(desk.now)

    lively, quiet = pulse.of("501"), pulse.of("502")
    assert lively.volatility(desk.now) > 0.1
    assert lively.liveliness(desk.now) > 0.4
    assert (quiet.volatility(desk.now), quiet.liveliness(desk.now)) == (0, 0)
    later = desk.now + 600 * SECOND
    assert lively.volatility(later) < 0.01 > lively.liveliness(later)
    assert pulse.of("unknown") is None


def test_pulse_costs_no_look_between_two_slices() -> None:
    desk = Hand(DUTCH)
    desk.list(wire.event([wire.market(number) for number in (1, 2)]))
    pulse = Pulse(desk.pipeline.books)
    pulse.on_frame(desk.now)
    seen = pulse.of("501").at

    pulse.on_frame(desk.now + SECOND // 100)

    assert pulse.of("501").at == seen
