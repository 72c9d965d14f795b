"""What the simulated venue plants, judged by plain sums over a naive client's books."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from markets.frames import Frame
from markets.simulator import DECOYS, Truth, World, frames
from tests.test_simulator_wire import Client

START = 1_781_000_040 * 10**9
SECOND = 10**9
MS = 10**6
REAL = {"planted", "quiet_leg", "jump"}
Walk = list[tuple[Decimal, Decimal]]  # cost of a share with its fee, shares; cheapest first


@dataclass(frozen=True)
class Basket:
    """A YES or NO basket at the touch: what one set earns after fees, and before them."""

    net: Decimal
    gross: Decimal
    size: Decimal
    cost: Decimal
    legs: tuple[tuple[Decimal, Decimal], ...]  # price and size at the touch

    @property
    def profit(self) -> Decimal:
        return self.net * self.size


def fee_of(market: dict[str, Any], price: Decimal) -> Decimal:
    rate = market["feeSchedule"]["rate"] if market["feesEnabled"] else 0
    return Decimal(str(rate)) * price * (1 - price)


def basket(client: Client, event: dict[str, Any], outcome: int) -> Basket | None:
    """Sum one outcome of every open market; None where one of them has no ask."""
    legs = []
    fees = Decimal(0)
    for market in open_markets(event):
        asks = client.asks.get(market["tokens"][outcome])
        if not asks:
            return None
        price = min(asks)
        legs.append((price, Decimal(asks[price][1])))
        fees += fee_of(market, price)
    cost = sum(price for price, _ in legs)
    pays = 1 if outcome == 0 else len(legs) - 1
    return Basket(pays - cost - fees, pays - cost, min(size for _, size in legs), cost + fees,
                  tuple(legs))  # fmt: skip


def open_markets(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [market for market in event["markets"] if market["active"] and not market["closed"]]


def walk_yes(client: Client, event: dict[str, Any]) -> tuple[Decimal, Decimal]:
    """Take sets level by level while they earn anything: (shares, profit)."""
    ladders: list[Walk] = []
    for market in open_markets(event):
        asks = client.asks[market["tokens"][0]]
        ladders.append([(price + fee_of(market, price), Decimal(asks[price][1]))
                        for price in sorted(asks)])  # fmt: skip
    taken = profit = Decimal(0)
    while all(ladders) and (edge := 1 - sum(ladder[0][0] for ladder in ladders)) >= 0:
        part = min(ladder[0][1] for ladder in ladders)
        taken, profit = taken + part, profit + part * edge
        ladders = [
            ([(ladder[0][0], ladder[0][1] - part)] if ladder[0][1] > part else []) + ladder[1:]
            for ladder in ladders
        ]
    return taken, profit


def takeable(client: Client, event: dict[str, Any]) -> set[str]:
    """The kinds that earn after fees at the touch, with the guards a careful desk applies."""
    if event["closed"] or any(token not in client.meta for token in tokens_of(event)):
        return set()
    if event["negRisk"]:
        return _baskets(client, event)
    return _ladder(client, event)


def tokens_of(event: dict[str, Any]) -> list[str]:
    return [token for market in open_markets(event) for token in market["tokens"]]


def _baskets(client: Client, event: dict[str, Any]) -> set[str]:
    found = set()
    yes = basket(client, event, 0)
    whole = all(market["acceptingOrders"] for market in open_markets(event))
    if yes and yes.net > 0 and whole and not event["negRiskAugmented"]:
        found.add("yes_basket")
    gains = Decimal(0)
    for market in open_markets(event):
        asks = client.asks[market["tokens"][1]]
        if asks and market["acceptingOrders"]:
            gains += max(Decimal(0), 1 - min(asks) - fee_of(market, min(asks)))
    return found | ({"no_basket"} if gains > 1 else set())


def _ladder(client: Client, event: dict[str, Any]) -> set[str]:
    """Pairs where the first implies the second, cheapest to get wrong: all ordered pairs."""
    markets = open_markets(event)
    if "by...?" in event["title"]:
        ordered = markets
    elif "above ___" in event["title"]:
        ordered = markets[::-1]
    else:
        return set()
    for at, strong in enumerate(ordered):
        for weak in ordered[at + 1 :]:
            _, no = client.touch(strong["tokens"][1])
            _, yes = client.touch(weak["tokens"][0])
            if no + yes + fee_of(strong, no) + fee_of(weak, yes) < 1:
                return {"implies"}
    return set()


def changes(client: Client, sent: Iterator[Frame]) -> Iterator[tuple[Frame, dict[str, Any]]]:
    """Apply all frames; yields each with the event it was about, where it was about one."""
    for frame in sent:
        messages = client.take(frame)
        if len(messages) == 1 and messages[0]["market"] in client.markets:
            market = client.markets[messages[0]["market"]]
            yield frame, client.events[market["event_id"]]


def covered(truth: list[Truth], event_id: str, kind: str, at: int) -> bool:
    return any(
        row.event_id == event_id and row.kind == kind and row.t0 <= at <= row.t1 for row in truth
    )


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nothing_can_be_taken_outside_a_logged_window(seed: int) -> None:
    world, client = World(seed=seed, start=START), Client()
    seen = []
    for frame, event in changes(client, frames(world, until=START + 120 * SECOND)):
        seen += [(frame.t, event["id"], kind) for kind in takeable(client, event)]

    unexplained = [
        (at, event_id, kind) for at, event_id, kind in seen
        if not covered(world.truth, event_id, kind, at)
    ]  # fmt: skip

    assert seen
    assert unexplained == []
    assert "spontaneous" not in {row.family for row in world.truth}


@pytest.mark.parametrize("seed", [21, 22])
def test_without_plants_and_news_nothing_can_ever_be_taken(seed: int) -> None:
    world, client = World(seed=seed, start=START, rate=600, plant_every=0, decoy_every=0,
                          jump_every=0), Client()  # fmt: skip
    looks = 0

    for _, event in changes(client, frames(world, until=START + 60 * SECOND)):
        looks += 1
        assert takeable(client, event) == set()
        if event["negRisk"] and all(token in client.meta for token in tokens_of(event)):
            yes = basket(client, event, 0)
            assert yes is None or yes.gross < 0

    assert looks > 20_000
    assert world.truth == []


def rows(truth: list[Truth], *families: str) -> list[Truth]:
    return [row for row in truth if row.family in families]


@pytest.mark.parametrize("seed", range(6))
def test_a_newcomer_sees_a_plant_soon_and_then_regularly(seed: int) -> None:
    world = World(seed=seed, start=START)
    for _ in frames(world, until=START + 180 * SECOND):
        pass

    starts = sorted(row.t0 for row in rows(world.truth, "planted", "quiet_leg"))
    gaps = [later - earlier for earlier, later in pairwise(starts)]

    assert starts[0] - START < 10 * SECOND
    assert max(gaps) < 25 * SECOND
    assert 8 <= len(starts) <= 18


@dataclass
class Watch:
    """A window of the log, and what the naive client saw while it was open."""

    row: Truth
    event: dict[str, Any]
    yes: list[Basket | None]
    no: list[Basket | None]
    walks: list[tuple[Decimal, Decimal]]
    touches: list[tuple[Decimal, Decimal]]
    accepting: list[bool]


def watch_windows(*, seed: int, seconds: int, **world: float) -> list[Watch]:
    """Run a world twice: once for its log, once to look into each window from outside."""
    first = World(seed=seed, start=START, **world)  # type: ignore[arg-type]
    sent = list(frames(first, until=START + seconds * SECOND))
    truth = [row for row in first.truth if row.t1 <= sent[-1].t]
    by_event: dict[str, list[Watch]] = defaultdict(list)
    for row in truth:
        by_event[row.event_id].append(Watch(row, {}, [], [], [], [], []))
    client = Client()
    for frame, event in changes(client, iter(sent)):
        for watch in by_event[event["id"]]:
            # at its edges some legs of a plant are still on their way
            if watch.row.t0 + 500 * MS < frame.t < watch.row.t1 - 300 * MS:
                _look(client, event, watch)
    return [watch for watches in by_event.values() for watch in watches]


def _look(client: Client, event: dict[str, Any], watch: Watch) -> None:
    watch.event = event
    watch.yes.append(basket(client, event, 0))
    watch.no.append(basket(client, event, 1))
    watch.touches.append(client.touch(watch.row.token_ids[0]))
    watch.accepting.append(all(market["acceptingOrders"] for market in open_markets(event)))
    if watch.yes[-1]:
        watch.walks.append(walk_yes(client, event))


@pytest.fixture(scope="module")
def watched() -> list[Watch]:
    return [
        watch
        for seed in (31, 32)
        for watch in watch_windows(
            seed=seed, seconds=240, rate=300.0, plant_every=6.0, decoy_every=2.0, jump_every=3.0
        )
    ]


def seen(watched: list[Watch], family: str) -> list[Watch]:
    """The windows of a family that the client could look into; there must be some."""
    found = [watch for watch in watched if watch.row.family == family and watch.yes]
    assert found, family
    return found


def test_planted_arbitrages_are_executable_all_the_time(watched: list[Watch]) -> None:
    planted = [watch for watch in seen(watched, "planted") if not watch.row.other_event_id]

    assert {watch.row.kind for watch in planted} == {"yes_basket", "no_basket"}
    for watch in planted + seen(watched, "quiet_leg"):
        assert watch.row.planted
        for found in watch.yes if watch.row.kind == "yes_basket" else watch.no:
            assert found is not None
            assert found.net > 0
            assert found.profit >= Decimal("0.5")
            assert found.net / found.cost >= Decimal("0.002")
            assert found.size >= 5
            assert all(price * found.size >= 1 for price, _ in found.legs)


def test_planted_lives_are_short_and_long(watched: list[Watch]) -> None:
    lives = [(watch.row.t1 - watch.row.t0) / SECOND for watch in seen(watched, "planted")]

    assert min(lives) < 5.5
    assert max(lives) > 30
    assert max(lives) < 125


def test_a_quiet_leg_has_not_moved_for_hours(watched: list[Watch]) -> None:
    world, client = World(seed=31, start=START), Client()
    for frame in world.open_frames():
        client.take(frame)
    now = START // MS
    ids = {watch.row.event_id for watch in watched if watch.row.family == "quiet_leg"}
    ages = [
        max(now - int(client.meta[token]["timestamp"]) for token in tokens_of(event))
        for event in client.events.values()
        if event["id"] in ids
    ]

    assert ages
    assert min(ages) > 2 * 3_600_000


def test_fees_eat_what_is_gross_but_not_net(watched: list[Watch]) -> None:
    for watch in seen(watched, "gross_not_net"):
        for found in watch.yes:
            assert found is not None
            assert found.gross > 0
            assert found.net < 0


def test_a_thin_top_is_positive_and_not_worth_it(watched: list[Watch]) -> None:
    for watch in seen(watched, "thin_top"):
        for found, (shares, profit) in zip(watch.yes, watch.walks, strict=True):
            assert found is not None
            assert found.net > 0
            assert found.size >= 5
            assert all(price * found.size >= 1 for price, _ in found.legs)
            assert shares < 20
            assert Decimal(0) < profit < Decimal("0.5")


def test_a_basket_below_the_minimum_cannot_be_ordered(watched: list[Watch]) -> None:
    for watch in seen(watched, "below_min_size"):
        for found, (shares, _) in zip(watch.yes, watch.walks, strict=True):
            assert found is not None
            assert found.net > 0
            assert shares < 5


def test_an_augmented_event_looks_cheap_but_is_not_exhaustive(watched: list[Watch]) -> None:
    for watch in seen(watched, "augmented"):
        assert watch.event["negRiskAugmented"]
        assert any(market["negRiskOther"] for market in watch.event["markets"])
        assert all(found is not None and found.net > 0 for found in watch.yes)


def test_a_plain_group_looks_cheap_but_excludes_nothing(watched: list[Watch]) -> None:
    for watch in seen(watched, "plain_group"):
        assert not watch.event["negRisk"]
        assert len(watch.event["markets"]) > 1
        assert all(found is not None and found.net > 0 for found in watch.yes)


def test_an_empty_leg_leaves_nothing_to_buy(watched: list[Watch]) -> None:
    assert all(found is None for watch in seen(watched, "empty_leg") for found in watch.yes)


def test_a_paused_leg_looks_cheap_but_takes_no_orders(watched: list[Watch]) -> None:
    for watch in seen(watched, "paused_leg"):
        assert not any(watch.accepting)
        assert all(found is not None and found.net > 0 for found in watch.yes)


def test_a_flicker_is_gone_within_half_a_second(watched: list[Watch]) -> None:
    flickers = [watch.row for watch in watched if watch.row.family == "flicker"]

    assert flickers
    assert all(20 * MS < row.t1 - row.t0 < 500 * MS for row in flickers)


def test_a_crossed_book_uncrosses_by_itself() -> None:
    world, client = World(seed=33, start=START, rate=300, decoy_every=1.0), Client()
    crossed: dict[str, list[int]] = defaultdict(list)
    for frame, event in changes(client, frames(world, until=START + 120 * SECOND)):
        bid, ask = client.touch(open_markets(event)[0]["tokens"][0])
        if bid >= ask:
            crossed[event["id"]].append(frame.t)
    decoys = {row.event_id for row in rows(world.truth, "crossed")}

    assert decoys
    assert set(crossed) == decoys
    assert all(
        any(row.event_id == at and row.t0 <= t <= row.t1 for row in rows(world.truth, "crossed"))
        for at, times in crossed.items()
        for t in times
    )


def test_news_opens_real_windows_for_milliseconds(watched: list[Watch]) -> None:
    jumps = [watch.row for watch in watched if watch.row.family == "jump"]

    assert {row.kind for row in jumps} >= {"yes_basket", "no_basket", "implies"}
    assert all(row.t1 - row.t0 < 700 * MS for row in jumps)
    assert not any(row.planted for row in jumps)


def test_the_log_knows_only_named_families(watched: list[Watch]) -> None:
    families = {watch.row.family for watch in watched}

    assert families == REAL | DECOYS
    assert all(watch.row.t0 < watch.row.t1 for watch in watched)


def test_paused_markets_take_orders_again() -> None:
    world, client = World(seed=33, start=START, decoy_every=1.0), Client()
    paused, resumed = set(), set()
    for frame in frames(world, until=START + 120 * SECOND):
        client.take(frame)
        if frame.ch == "gamma" and frame.t > START + SECOND:
            (event,) = json.loads(frame.body)["events"]
            for market in event["markets"]:
                if event["negRisk"] and not (market["acceptingOrders"] or market["closed"]):
                    paused.add((market["id"], frame.t < START + 90 * SECOND))
                elif (market["id"], True) in paused:
                    resumed.add((market["id"], True))

    assert resumed
    assert resumed == {(market_id, early) for market_id, early in paused if early}
