"""What the simulated venue sends, judged by a naive client that shares no code with it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from markets.frames import Frame
from markets.simulator import World, frames

START = 1_781_000_040 * 10**9  # 60 s before the next five-minute round begins
SECOND = 10**9
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Levels = dict[Decimal, tuple[str, str]]


class Client:
    """Keeps each token's book as the plain text it was told, and each listing as it came."""

    def __init__(self) -> None:
        self.bids: dict[str, Levels] = {}
        self.asks: dict[str, Levels] = {}
        self.meta: dict[str, dict[str, Any]] = {}
        self.markets: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.partner: dict[str, str] = {}
        self.closed: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.resolved: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []

    def take(self, frame: Frame) -> list[dict[str, Any]]:
        """Apply one frame; gives the messages that were in it."""
        body = json.loads(frame.body)
        if frame.ch == "gamma":
            self.counts["gamma"] += 1
            for event in body["events"]:
                self._list(event)
            return []
        messages = body if isinstance(body, list) else [body]
        for message in messages:
            self.counts[message["event_type"]] += 1
            getattr(self, f"_{message['event_type']}")(message)
        return messages

    def _list(self, event: dict[str, Any]) -> None:
        self.events[event["id"]] = event
        if event["closed"]:
            self.closed[event["id"]] = event
        for market in event["markets"]:
            market["tokens"] = json.loads(market["clobTokenIds"])
            market["event_id"] = event["id"]
            self.markets[market["conditionId"]] = market
            self.partner |= dict(zip(market["tokens"], market["tokens"][::-1], strict=True))

    def _book(self, message: dict[str, Any]) -> None:
        token = message["asset_id"]
        self.meta[token] = {key: message[key] for key in ("market", "timestamp", "hash")}
        self.meta[token] |= {key: message[key] for key in ("tick_size", "last_trade_price")}
        for name, sides in (("bids", self.bids), ("asks", self.asks)):
            prices = [Decimal(level["price"]) for level in message[name]]
            assert prices == sorted(prices, reverse=name == "asks"), "not worst to best"
            sides[token] = {
                Decimal(level["price"]): (level["price"], level["size"]) for level in message[name]
            }

    def _price_change(self, message: dict[str, Any]) -> None:
        for entry in message["price_changes"]:
            token, price = entry["asset_id"], Decimal(entry["price"])
            levels = (self.bids if entry["side"] == "BUY" else self.asks)[token]
            if Decimal(entry["size"]):
                levels[price] = (entry["price"], entry["size"])
            else:
                levels.pop(price, None)
            self.meta[token] |= {"timestamp": message["timestamp"], "hash": entry["hash"]}

    def _last_trade_price(self, message: dict[str, Any]) -> None:
        assert Decimal(message["size"]) > 0

    def _best_bid_ask(self, message: dict[str, Any]) -> None:
        spread = abs(Decimal(message["best_ask"]) - Decimal(message["best_bid"]))
        assert Decimal(message["spread"]) == spread

    def _new_market(self, message: dict[str, Any]) -> None:
        self.announced.append(message)

    def _market_resolved(self, message: dict[str, Any]) -> None:
        self.resolved.append(message)

    def book(self, token: str) -> dict[str, Any]:
        """Rebuild what `/book` should answer."""
        meta = self.meta[token]
        market = self.markets[meta["market"]]
        return {
            "market": meta["market"],
            "asset_id": token,
            "timestamp": meta["timestamp"],
            "hash": meta["hash"],
            "bids": _texts(sorted(self.bids[token].items())),
            "asks": _texts(sorted(self.asks[token].items(), reverse=True)),
            "min_order_size": str(market["orderMinSize"]),
            "tick_size": meta["tick_size"],
            "neg_risk": market["negRisk"],
            "last_trade_price": meta["last_trade_price"],
        }

    def touch(self, token: str) -> tuple[Decimal, Decimal]:
        """Best bid and ask; 0 and 1 where there is none."""
        bids, asks = self.bids[token], self.asks[token]
        return max(bids, default=Decimal(0)), min(asks, default=Decimal(1))


def _texts(levels: Iterable[tuple[Decimal, tuple[str, str]]]) -> list[dict[str, str]]:
    return [{"price": price, "size": size} for _, (price, size) in levels]


def venue_hash(book: dict[str, Any]) -> str:
    """Hash a book by the rule of polymarket-api.md 3.5."""
    text = json.dumps(book | {"hash": ""}, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def finished_batches(sent: Iterable[Frame], client: Client) -> Iterator[list[dict[str, Any]]]:
    """Apply all frames; yields the messages of each market and millisecond when it is complete.

    Only then do the hashes and touches in them describe the book (polymarket-api.md 3.3).
    """
    open_batch: list[dict[str, Any]] = []
    for frame in sent:
        body = json.loads(frame.body)
        message = body if isinstance(body, dict) and frame.ch == "ws" else {}
        key = (message.get("market"), message.get("timestamp"))
        if open_batch and key != (open_batch[0]["market"], open_batch[0]["timestamp"]):
            yield open_batch
            open_batch = []
        messages = client.take(frame)
        if message.get("event_type") in ("price_change", "book"):
            open_batch.append(message)
        elif isinstance(body, list):
            for book in messages:
                yield [book]


@pytest.fixture(scope="module")
def minute() -> list[Frame]:
    return list(frames(World(seed=11, start=START), until=START + 90 * SECOND))


def test_same_seed_and_start_give_the_same_bytes(minute: list[Frame]) -> None:
    again = list(frames(World(seed=11, start=START), until=START + 90 * SECOND))
    other = list(frames(World(seed=12, start=START), until=START + SECOND))

    assert again == minute
    assert other[0] != minute[0]


def test_frames_arrive_in_order_shortly_after_they_were_stamped(minute: list[Frame]) -> None:
    times = [frame.t for frame in minute]
    live = [json.loads(frame.body) for frame in minute if frame.ch == "ws"]
    late = [
        frame.t - int(body["timestamp"]) * 10**6
        for frame, body in zip((f for f in minute if f.ch == "ws"), live, strict=True)
        if isinstance(body, dict) and body["event_type"] == "last_trade_price"
    ]

    assert times == sorted(times)
    assert min(late) >= 4 * 10**6
    assert max(late) <= 120 * 10**6


def test_the_mean_rate_is_what_was_asked_for() -> None:
    quiet = World(seed=3, start=START, rate=400, plant_every=0, decoy_every=0, jump_every=0)

    sent = sum(frame.ch == "ws" for frame in frames(quiet, until=START + 120 * SECOND))

    assert 0.8 * 400 < sent / 120 < 1.25 * 400


def test_every_hash_verifies_when_its_batch_is_complete(minute: list[Frame]) -> None:
    client, checked = Client(), 0

    for batch in finished_batches(minute, client):
        tokens = [entry["asset_id"] for entry in batch[-1].get("price_changes", batch[-1:])]
        for token in tokens:
            book = client.book(token)
            assert venue_hash(book) == book["hash"]
            checked += 1

    assert checked > 10_000


def test_entries_of_a_batch_tell_the_touch_after_it(minute: list[Frame]) -> None:
    client, checked = Client(), 0

    for batch in finished_batches(minute, client):
        for message in batch:
            for entry in message.get("price_changes", ()):
                told = Decimal(entry["best_bid"]), Decimal(entry["best_ask"])
                assert told == client.touch(entry["asset_id"])
                checked += 1

    assert checked > 10_000


def test_both_tokens_mirror_each_other_at_all_times(minute: list[Frame]) -> None:
    client = Client()
    for number, batch in enumerate(finished_batches(minute, client)):
        changes = batch[-1].get("price_changes")
        if changes:
            first, second = changes
            assert Decimal(first["price"]) + Decimal(second["price"]) == 1
            assert first["size"] == second["size"]
            assert {first["side"], second["side"]} == {"BUY", "SELL"}
            assert client.partner[first["asset_id"]] == second["asset_id"]
        if number % 50 == 0 and changes:
            _assert_mirrored(client, changes[0]["asset_id"])

    for token in client.meta:
        _assert_mirrored(client, token)


def _assert_mirrored(client: Client, token: str) -> None:
    other = client.partner[token]
    mirrored = {1 - price: size for price, (_, size) in client.bids[other].items()}
    assert {price: size for price, (_, size) in client.asks[token].items()} == mirrored


def test_a_naive_book_ends_equal_to_the_answer_of_the_venue() -> None:
    world, client = World(seed=5, start=START), Client()
    for frame in frames(world, until=START + 75 * SECOND):
        client.take(frame)

    answers = world.books([*world.token_ids(), "12345"])

    assert len(answers) == len(world.token_ids())
    for answer in answers:
        assert answer == client.book(str(answer["asset_id"]))
        assert venue_hash(answer) == answer["hash"]


def test_no_book_is_crossed_outside_a_decoy_that_says_so() -> None:
    world, client = World(seed=8, start=START), Client()
    sent = list(frames(world, until=START + 90 * SECOND))
    allowed = {token for row in world.truth if row.family == "crossed" for token in row.token_ids}
    crossed = set()

    for batch in finished_batches(sent, client):
        for entry in batch[-1].get("price_changes", batch[-1:]):
            bid, ask = client.touch(entry["asset_id"])
            if bid >= ask:
                crossed.add(entry["asset_id"])

    assert crossed
    assert crossed <= allowed


def test_a_second_connection_starts_with_new_snapshots() -> None:
    world = World(seed=5, start=START)
    for _ in frames(world, until=START + 5 * SECOND):
        pass
    client = Client()

    for frame in frames(world, until=START + 10 * SECOND):
        client.take(frame)

    answers = world.books(world.token_ids())
    assert [client.book(str(answer["asset_id"])) for answer in answers] == answers


def test_connections_carry_at_most_two_hundred_tokens(minute: list[Frame]) -> None:
    tokens: dict[int | None, set[str]] = {}
    sizes = []
    for frame in minute:
        body = json.loads(frame.body)
        if frame.ch == "ws" and isinstance(body, list):
            sizes.append(len(body))
            tokens.setdefault(frame.conn, set()).update(book["asset_id"] for book in body)

    assert max(len(group) for group in tokens.values()) <= 200
    assert max(sizes) <= 100
    assert sum(len(group) for group in tokens.values()) == len(set().union(*tokens.values()))


def test_the_feed_has_the_oddities_of_the_real_one(minute: list[Frame]) -> None:
    bodies = [frame.body for frame in minute if frame.ch == "ws"]
    messages = [json.loads(body) for body in bodies]
    live = [message for message in messages if isinstance(message, dict)]
    pairs = list(pairwise(live))

    repeats = sum(first == second for first, second in pairwise(bodies))
    same_ms = sum(
        first["event_type"] == second["event_type"] == "price_change"
        and (first["market"], first["timestamp"]) == (second["market"], second["timestamp"])
        for first, second in pairs
    )
    announced = sum(
        first["event_type"] == "best_bid_ask" and second["event_type"] == "price_change"
        for first, second in pairs
    )
    touched = sum(
        first["event_type"] == "price_change" and second["event_type"] == "best_bid_ask"
        and first["market"] == second["market"] and first["timestamp"] == second["timestamp"]
        for first, second in pairs
    )  # fmt: skip

    assert repeats > 10
    assert same_ms > 200
    assert announced > 200
    assert touched < announced / 10  # the touch is told before its change, not after


def test_rounds_end_and_are_replaced() -> None:
    world, client = World(seed=2, events=12, start=START), Client()
    for frame in frames(world, until=START + 100 * SECOND):
        client.take(frame)

    assert client.closed
    for event in client.closed.values():
        (market,) = event["markets"]
        assert event["series"][0]["seriesType"] == "single"
        assert market["closed"]
        assert not market["acceptingOrders"]
        assert sorted(json.loads(market["outcomePrices"])) == ["0", "1"]
        assert world.books(market["tokens"]) == []
        coin = event["title"].split(" - ")[0]
        (successor,) = (
            other for other in client.events.values()
            if other["title"].startswith(coin) and not other["closed"]
        )  # fmt: skip
        assert successor["slug"] in {message["slug"] for message in client.announced}
        assert len(world.books(successor["markets"][0]["tokens"])) == 2


def test_announced_winners_agree_with_the_catalogue() -> None:
    client = Client()
    for frame in frames(World(seed=4, start=START), until=START + 100 * SECOND):
        client.take(frame)

    assert client.resolved
    for message in client.resolved:
        market = client.markets[message["market"]]
        winner = market["tokens"].index(message["winning_asset_id"])
        assert json.loads(market["outcomePrices"])[winner] == "1"
        assert json.loads(market["outcomes"])[winner] == message["winning_outcome"]


def test_gamma_objects_read_like_real_ones() -> None:
    events = World(seed=1, start=START).gamma_events()
    for event in events:
        group = event.get("negRiskMarketID")
        numbers = []
        assert isinstance(event["markets"], list)
        for market in event["markets"]:
            for name in ("outcomes", "clobTokenIds", "umaResolutionStatuses"):
                assert isinstance(market[name], str)
                assert isinstance(json.loads(market[name]), list)
            assert all(77 <= len(token) <= 78 for token in json.loads(market["clobTokenIds"]))
            assert len(market["conditionId"]) == len(market["questionID"]) == 66
            assert isinstance(market["volume"], str)
            assert market["orderMinSize"] == 5
            assert market["feesEnabled"] == (market.get("feeSchedule") is not None)
            if group:
                assert market["questionID"][:-2] == group[:-2]
                numbers.append(int(market["questionID"][-2:], 16))
        assert sorted(numbers) == list(range(len(numbers)))


def test_a_world_lists_every_kind_of_event() -> None:
    events: list[dict[str, Any]] = World(seed=1, start=START).gamma_events()
    legs = [len(event["markets"]) for event in events if event["negRisk"]]
    inactive = [
        market for event in events if event["negRiskAugmented"] for market in event["markets"]
        if not market["active"]
    ]  # fmt: skip

    rates = {
        market["feeSchedule"]["rate"] if market["feesEnabled"] else 0
        for event in events
        for market in event["markets"]
    }

    assert len(events) == 60
    assert min(legs) == 3
    assert max(legs) >= 20
    assert {market["groupItemTitle"] for market in inactive} >= {"Other", "Team AG", "Person A"}
    assert all("outcomePrices" not in market for market in inactive)
    assert sum(market["negRiskOther"] for market in inactive) >= 2
    assert rates == {0, 0.03, 0.04, 0.05, 0.07}
    assert any("by...?" in event["title"] for event in events)
    assert any("above ___" in event["title"] for event in events)
    assert any(json.loads(event["markets"][0]["outcomes"]) == ["Up", "Down"] for event in events)


def test_shapes_match_the_recorded_ones() -> None:
    capture = DATA / "fixtures/polyarb/ws_market_capture.json.gz"
    listing = DATA / "fixtures/polyarb/gamma_negrisk_event.json.gz"
    answer = DATA / "fixtures/fed_june_2026/clob-books.json.gz"
    if not capture.exists():
        pytest.skip("the real captures are not on this machine (../shared/data)")
    recorded = json.loads(gzip.decompress(capture.read_bytes()))
    real_event = json.loads(gzip.decompress(listing.read_bytes()))
    real_book = json.loads(gzip.decompress(answer.read_bytes()))[0]
    world = World(seed=1, start=START)
    bodies = [json.loads(frame.body) for frame in frames(world, until=START + SECOND)]
    event = next(event for event in world.gamma_events() if event["negRiskAugmented"])
    (book,) = world.books(world.token_ids()[:1])

    first = next(body for body in bodies if isinstance(body, list))
    change = next(body for body in bodies if "price_changes" in body)

    assert list(first[0]) == list(recorded[0][0])
    assert list(change) == list(recorded[1])
    assert list(change["price_changes"][0]) == list(recorded[1]["price_changes"][0])
    assert list(book) == list(real_book)
    _assert_same_types(event, real_event)


def _assert_same_types(mine: dict[str, Any], real: dict[str, Any]) -> None:
    """Every key is one the venue uses, with a value of the type it has there."""
    numbers = (int, float)
    for key, value in mine.items():
        if key == "markets":
            known: dict[str, Any] = {}
            for market in real["markets"]:
                known |= market
            for market in value:
                _assert_same_types(market, known)
        elif isinstance(value, numbers) and not isinstance(value, bool):
            assert isinstance(real[key], numbers), key
        else:
            assert type(value) is type(real[key]), key
