"""Every fault of the mock venue, seen from outside: it does what it says, and ends when told."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from markets.listing import event_terms
from markets.simulator.faults import FAULTS, table
from tests.test_simulator_wire import venue_hash
from tests.venue import VenueClient, mock_venue
from tests.venue_feed import Feed, Message, get, of, post, walk


@pytest.fixture(scope="module")
def running() -> Iterator[VenueClient]:
    with mock_venue(events=24, rate=600.0) as venue:
        yield venue


@pytest.fixture
def venue(running: VenueClient) -> Iterator[VenueClient]:
    """The shared venue, well before and after each test."""
    yield running
    running.clear()
    assert get(running, "/ok").status_code == 200


def eventually(true: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait for something to become true; gives it."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
    return value


def hit(venue: VenueClient, name: str) -> str:
    """Give the condition id of the market that a fault chose."""

    def chosen() -> str | None:
        last = [row for row in venue.stats()["outages"] if row["name"] == name][-1]
        target: str | None = last["target"]
        return target

    condition: str = eventually(chosen)
    return condition


def tokens_of(venue: VenueClient, condition: str) -> list[str]:
    """Give both tokens of a market."""
    full = get(venue, f"/markets/{condition}").json()
    return [token["token_id"] for token in full["tokens"]]


def books(venue: VenueClient, tokens: list[str]) -> list[Message]:
    """Ask for books as any client does."""
    answer: list[Message] = post(venue, "/books", [{"token_id": t} for t in tokens]).json()
    return answer


def some_tokens(venue: VenueClient) -> list[str]:
    """Give both tokens of the first hundred markets."""
    return list(venue.books())[:200]


def test_every_fault_says_what_it_does_and_what_a_good_client_does():
    rows = table()

    assert len(rows) == len(FAULTS) == 29
    assert all(len(row["does"]) > 40 and len(row["a_good_client"]) > 40 for row in rows)


def test_every_fault_has_its_test():
    with open(__file__, encoding="utf-8") as own:
        text = own.read()

    assert not [name for name in FAULTS if f'"{name}"' not in text]


# --- REST --------------------------------------------------------------------


def test_drip_sends_a_byte_every_10_ms(venue: VenueClient):
    venue.fault("drip", target="/time")
    began = time.monotonic()

    answer = get(venue, "/time")

    assert time.monotonic() - began > 0.01 * (len(answer.content) - 1)
    assert abs(int(answer.text) - time.time()) < 5


def test_drip_outlives_a_timeout_per_chunk(venue: VenueClient):
    venue.fault("drip")
    began = time.monotonic()

    with httpx.stream("GET", f"{venue.url}/markets/keyset", timeout=0.5, trust_env=False) as answer:
        for _ in answer.iter_raw():
            if time.monotonic() - began > 1.0:  # only a deadline of our own ends it
                break

    assert int(answer.headers["content-length"]) > answer.num_bytes_downloaded


@pytest.mark.parametrize("name", ["drip", "endless_body"])
def test_an_answer_under_way_is_finished_when_the_fault_ends(venue: VenueClient, name: str):
    healthy = get(venue, "/events/keyset", limit=500).json()
    began = time.monotonic()
    venue.fault(name, seconds=0.3, target="/events")

    answer = get(venue, "/events/keyset", limit=500)

    # From before the fault: on a busy machine the request itself may set out late.
    assert 0.3 <= time.monotonic() - began < 5
    assert len(answer.json()["events"]) == len(healthy["events"])


def test_slow_answers_come_late_and_whole(venue: VenueClient):
    venue.fault("slow", target="/ok")
    began = time.monotonic()

    answer = get(venue, "/ok")

    assert 0.3 < time.monotonic() - began < 3.5
    assert answer.json() == "OK"
    assert get(venue, "/time").elapsed.total_seconds() < 0.3


def test_rate_limit_429_says_when_to_come_back(venue: VenueClient):
    venue.fault("rate_limit_429", seconds=1)

    refused = get(venue, "/markets/keyset")

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    time.sleep(1.1)
    assert get(venue, "/markets/keyset").status_code == 200


def test_restart_425_then_post_only(venue: VenueClient):
    venue.fault("restart_425_then_post_only", seconds=30)

    restarting = post(venue, "/books", [])
    gamma = get(venue, "/markets/keyset")
    post_only = eventually(lambda: _unless(get(venue, "/book", token_id="1"), 425), seconds=4)

    assert (restarting.status_code, restarting.content) == (425, b"")
    assert gamma.status_code == 200
    assert post_only.status_code == 503
    assert post_only.json()["code"] == "post_only_mode"
    assert 20 < post_only.json()["retry_after_seconds"] <= 27
    assert post_only.headers["retry-after"] == str(post_only.json()["retry_after_seconds"])
    assert post(venue, "/order", {}).status_code == 503


def _unless(answer: httpx.Response, status: int) -> httpx.Response | None:
    return None if answer.status_code == status else answer


def test_cancel_only_503_names_the_mode(venue: VenueClient):
    venue.fault("cancel_only_503")

    answer = post(venue, "/books", [])

    assert answer.status_code == 503
    assert "cancel-only" in answer.json()["error"]
    assert get(venue, "/markets/keyset").status_code == 200


def test_errors_5xx_come_in_three_kinds(venue: VenueClient):
    venue.fault("errors_5xx")

    answers = [get(venue, "/ok") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [500, 502, 503]
    assert answers[1].headers["content-type"] == "text/html"
    assert answers[2].content == b""


def test_html_403_meets_rest_and_handshakes(venue: VenueClient):
    venue.fault("html_403")

    page = get(venue, "/events/keyset")

    assert page.status_code == 403
    assert page.headers["content-type"].startswith("text/html")
    with pytest.raises(InvalidStatus) as refused, connect(venue.ws_url, proxy=None):
        pass
    assert refused.value.response.status_code == 403


def test_gzip_bomb_is_small_and_unpacks_to_256_mb(venue: VenueClient):
    venue.fault("gzip_bomb")
    headers = {"Accept-Encoding": "identity"}

    with httpx.stream("GET", f"{venue.url}/ok", headers=headers, trust_env=False) as answer:
        packed = b"".join(answer.iter_raw())

    assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < 512 * 1024
    with gzip.open(io.BytesIO(packed)) as unpacked:
        size = sum(len(piece) for piece in iter(lambda: unpacked.read(2**22), b""))
    assert size == 256 * 2**20  # and the checksum is right


def test_endless_body_never_ends(venue: VenueClient):
    venue.fault("endless_body")

    got = 0
    with httpx.stream("GET", f"{venue.url}/markets/keyset", trust_env=False) as answer:
        for piece in answer.iter_raw():
            got += len(piece)
            if got > 20_000_000:
                break

    assert got > 20_000_000


def test_truncated_body_breaks_off(venue: VenueClient):
    venue.fault("truncated_body", target="/markets")

    with pytest.raises(httpx.RemoteProtocolError):
        get(venue, "/markets/keyset")


def test_ghost_book_shows_in_rest_only(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("book"))
        venue.fault("ghost_book")
        condition = hit(venue, "ghost_book")
        tokens = tokens_of(venue, condition)

        ghosts, single = books(venue, tokens), get(venue, "/book", token_id=tokens[1]).json()
        feed.until(lambda heard: condition in {message["market"] for message in heard})

    for book in (*ghosts, single):
        assert ([x["price"] for x in book["bids"]], [x["price"] for x in book["asks"]]) == (
            ["0.01"],
            ["0.99"],
        )
        assert venue_hash(book) == book["hash"]
    assert len(ghosts) == 2
    assert len(feed.books.bids[tokens[0]]) > 1


# --- the feed ----------------------------------------------------------------


def test_silent_socket_answers_ping_and_nothing_else(venue: VenueClient):
    tokens = some_tokens(venue)
    with Feed(venue, tokens) as deaf:
        deaf.until(of("price_change"))
        venue.fault("silent_socket")
        deaf.settle()

        deaf.say("PING")
        with Feed(venue, tokens) as well:
            well.until(of("price_change"))
        heard = deaf.listen(0.3)

        assert heard == []
        assert deaf.texts == ["PONG"]
        venue.clear()
        deaf.until(of("price_change"))


def test_silent_socket_can_meet_one_connection(venue: VenueClient):
    tokens = some_tokens(venue)
    with Feed(venue, tokens) as one, Feed(venue, tokens) as other:
        one.until(of("book"))
        other.until(of("book"))
        numbers = sorted(row["conn"] for row in venue.stats()["sockets"])
        venue.fault("silent_socket", target=numbers[0])
        one.settle()

        other.until(of("price_change"))

        assert one.listen(0.2) == []


def test_blackhole_answers_nothing_not_even_ping(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("price_change"))
        venue.fault("blackhole")
        feed.settle()

        feed.say("PING")
        heard = feed.listen(0.4)

        assert (heard, feed.texts) == ([], [])
        venue.clear()
        feed.until(lambda _: feed.texts == ["PONG"])


def test_dead_asset_is_silent_while_rest_moves_on(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("book"))
        venue.fault("dead_asset")
        condition = hit(venue, "dead_asset")
        token = tokens_of(venue, condition)[0]
        before = venue.books(token)[token]["hash"]

        eventually(lambda: venue.books(token)[token]["hash"] != before)
        heard = feed.listen(0.3)[-20:]

        assert of("price_change")(heard)
        assert condition not in {message["market"] for message in heard}


def test_reset_mid_frame_breaks_off_inside_a_message(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("price_change"))
        venue.fault("reset_mid_frame")

        with pytest.raises(ConnectionClosed) as broken:
            feed.listen(5)

    assert broken.value.rcvd is None  # no close frame: the connection just broke
    with Feed(venue, some_tokens(venue)) as again:
        again.until(of("price_change"))


def test_oversized_first_frame_is_8_mib_of_valid_json(venue: VenueClient):
    venue.fault("oversized_first_frame")

    with Feed(venue, some_tokens(venue)) as feed:
        heard = feed.until(of("book"))

    assert len(feed.first.strip()) == 8 * 2**20
    assert len([message for message in heard if message["event_type"] == "book"]) >= 100


def test_no_snapshot_leaves_changes_without_books(venue: VenueClient):
    venue.fault("no_snapshot")
    with connect(venue.ws_url, proxy=None) as plain:
        plain.send(json.dumps({"type": "market", "assets_ids": some_tokens(venue)}))

        texts = [plain.recv(timeout=5) for _ in range(20)]

    assert not any(str(text).startswith("[") for text in texts)
    assert any('"price_change"' in str(text) for text in texts)


def test_duplicate_frames_lead_to_the_same_books(venue: VenueClient):
    venue.fault("duplicate_frames")
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("book"))
        heard = feed.listen(1.0)

        same_books(venue, feed)

    twice = [pair for pair in pairwise(heard) if _sorted(pair[0]) == _sorted(pair[1])]
    assert len(twice) > len(heard) / 8
    assert any(one != repeated for one, repeated in twice)


def _sorted(message: Message) -> str:
    """Write a message without regard to the order of its entries."""
    changes = sorted(message.get("price_changes", []), key=lambda entry: entry["asset_id"])
    return json.dumps(message | {"price_changes": changes})


def same_books(venue: VenueClient, feed: Feed) -> None:
    """Let the world rest and hold what the feed led to against the venue's own books."""
    venue.hold()
    feed.settle()
    true = venue.books(*feed.books.meta)
    different = [token for token in true if feed.books.book(token) != true[token]]
    venue.hold(False)
    assert true
    assert different == []


def test_swapped_frames_arrive_in_the_wrong_order_and_none_is_lost(venue: VenueClient):
    tokens = some_tokens(venue)
    with Feed(venue, tokens) as one, Feed(venue, tokens) as other:
        one.until(of("book"))
        other.until(of("book"))
        venue.hold()
        one.settle()
        other.settle()
        venue.fault("swapped_frames")
        venue.hold(False)
        heard = one.listen(1.0)
        venue.hold()
        venue.clear()

        heard += one.listen(0.3)
        also_heard = other.listen(0.3)
        venue.hold(False)

    assert len(heard) > 100
    assert sorted(map(json.dumps, heard)) == sorted(map(json.dumps, also_heard))
    stamps: dict[str, list[int]] = {}
    for message in heard:
        if message["event_type"] == "price_change":
            stamps.setdefault(message["market"], []).append(int(message["timestamp"]))
    assert any(times != sorted(times) for times in stamps.values())


def test_malformed_frames_come_between_good_ones(venue: VenueClient):
    with connect(venue.ws_url, proxy=None, max_size=2**26, max_queue=None) as plain:
        plain.send(json.dumps({"type": "market", "assets_ids": some_tokens(venue)}))
        venue.fault("malformed_frames")

        texts, end = [], time.monotonic() + 10
        while not any(len(text) > 2**20 for text in texts) and time.monotonic() < end:
            texts.append(str(plain.recv(timeout=5)))

    assert "not json" in texts
    assert "[" * 100_000 + "]" * 100_000 in texts
    assert any('"price":"1.7"' in text for text in texts)
    assert any("9" * 4_301 in text for text in texts)
    assert any('\\ud800"' in text for text in texts)
    assert sum('"price_change"' in text for text in texts) > 50


# --- connections -------------------------------------------------------------


def test_flapping_cuts_connections_every_3_s(venue: VenueClient):
    cuts = []
    with Feed(venue, some_tokens(venue)) as feed:
        venue.fault("flapping")
        with pytest.raises(ConnectionClosed):
            feed.listen(2)
        cuts.append(time.monotonic())
    with Feed(venue, some_tokens(venue)) as again, pytest.raises(ConnectionClosed):
        again.listen(5)
    cuts.append(time.monotonic())

    assert 2.5 < cuts[1] - cuts[0] < 4.0


def test_refuse_connections_cuts_and_refuses_for_so_long(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("book"))
        venue.fault("refuse_connections", seconds=0.5)

        with pytest.raises(ConnectionClosed):
            feed.listen(5)
        with pytest.raises(httpx.ConnectError):
            get(venue, "/ok")
    time.sleep(0.6)
    assert get(venue, "/ok").json() == "OK"


# --- the markets -------------------------------------------------------------


def test_same_ms_batch_shows_a_bait_that_its_hash_denies(venue: VenueClient):
    with Feed(venue, list(venue.books())) as feed:
        feed.until(of("book"))
        venue.fault("same_ms_batch")
        feed.until(lambda heard: bool(heard) and _is_baited(feed, heard[-1]["market"]), seconds=10)

        venue.clear()
        same_books(venue, feed)


def _is_baited(feed: Feed, market: str) -> bool:
    """Whether an event looks cheap by a book that is not the one its messages speak of."""
    event_id = feed.books.markets[market]["event_id"]
    token = feed.books.markets[market]["tokens"][0]
    book = feed.books.book(token)
    cost = _set_costs(feed).get(event_id, Decimal(1))
    return cost < Decimal("0.975") and venue_hash(book) != book["hash"]


def _set_costs(feed: Feed) -> dict[str, Decimal]:
    """Give what one of each YES costs before fees, per exhaustive event."""
    costs = {}
    for event in feed.books.events.values():
        if event["negRisk"] and not event["negRiskAugmented"]:
            yes = [m["tokens"][0] for m in event["markets"] if not m["closed"]]
            if all(feed.books.asks.get(token) for token in yes):
                costs[event["id"]] = sum((feed.books.touch(t)[1] for t in yes), Decimal(0))
    return costs


def test_missing_leg_is_listed_but_has_no_book(venue: VenueClient):
    venue.fault("missing_leg")
    condition = hit(venue, "missing_leg")
    tokens = tokens_of(venue, condition)

    with Feed(venue, [*tokens, *some_tokens(venue)]) as feed:
        heard = feed.until(of("price_change"))
        heard += feed.listen(0.3)

    assert get(venue, "/markets/keyset", condition_ids=condition).json()["markets"]
    assert books(venue, tokens) == []
    assert get(venue, "/book", token_id=tokens[0]).status_code == 404
    assert condition not in {message["market"] for message in heard}
    venue.clear()
    assert len(books(venue, tokens)) == 2


def test_tick_size_change_is_announced_before_its_books(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.books._tick_size_change = lambda message: None  # type: ignore[attr-defined]
        feed.until(of("book"))
        venue.fault("tick_size_change")
        heard = feed.until(of("tick_size_change"))
        news = next(m for m in heard if m["event_type"] == "tick_size_change")
        later = feed.until(
            lambda heard: any(m["event_type"] == "book" and m["asset_id"] == news["asset_id"]
                              for m in heard)
        )  # fmt: skip

        same_books(venue, feed)

    token, condition = news["asset_id"], news["market"]
    shown = [m for m in later if m["event_type"] == "book" and m["asset_id"] == token][-1]
    assert Decimal(news["old_tick_size"]) == 10 * Decimal(news["new_tick_size"])
    assert shown["tick_size"] == news["new_tick_size"]
    assert hit(venue, "tick_size_change") == condition
    market = get(venue, "/markets/keyset", condition_ids=condition).json()["markets"][0]
    assert market["orderPriceMinTickSize"] == float(news["new_tick_size"])
    assert get(venue, "/tick-size", token_id=token).json()["minimum_tick_size"] == float(
        news["new_tick_size"]
    )


def test_cleared_book_empties_an_event_until_it_is_over(venue: VenueClient):
    with Feed(venue, list(venue.books()), features=True) as feed:
        feed.until(of("book"))
        venue.fault("cleared_book")
        condition = hit(venue, "cleared_book")
        event = get(venue, "/markets/keyset", condition_ids=condition).json()["markets"][0]
        legs = _legs(venue, event["events"][0]["id"])
        feed.until(lambda _: not any(feed.books.bids[t] or feed.books.asks[t] for t in legs))

        empty = books(venue, legs)
        venue.clear()
        feed.until(lambda _: all(feed.books.bids[t] and feed.books.asks[t] for t in legs))

        assert len(empty) == len(legs)
        assert all(book["bids"] == book["asks"] == [] for book in empty)
        assert all(venue_hash(book) == book["hash"] for book in empty)


def _legs(venue: VenueClient, event_id: str) -> list[str]:
    event = get(venue, f"/events/{event_id}").json()
    open_markets = [m for m in event["markets"] if m["active"] and not m["closed"]]
    return [token for m in open_markets for token in json.loads(m["clobTokenIds"])]


def test_resolution_without_event_shows_only_in_the_listing(venue: VenueClient):
    with Feed(venue, list(venue.books()), features=True) as feed:
        feed.until(of("book"))
        venue.fault("resolution_without_event")
        condition = hit(venue, "resolution_without_event")
        heard = feed.listen(0.5)
        tokens = tokens_of(venue, condition)

    assert condition not in {m["market"] for m in heard if m["event_type"] == "market_resolved"}
    assert get(venue, "/markets/keyset", condition_ids=condition).json()["markets"] == []
    listed = get(venue, "/markets/keyset", condition_ids=condition, closed="true").json()["markets"]
    event = get(venue, f"/events/{listed[0]['events'][0]['id']}").json()
    assert event["closed"]
    assert event_terms(event).markets[0].payout is not None
    assert sorted(json.loads(listed[0]["outcomePrices"])) == ["0", "1"]
    assert books(venue, tokens) == []
    assert get(venue, "/book", token_id=tokens[0]).status_code == 404


def test_resolution_50_50_pays_half_each(venue: VenueClient):
    venue.fault("resolution_50_50")
    condition = hit(venue, "resolution_50_50")

    full = get(venue, f"/markets/{condition}").json()
    listed = get(venue, "/markets/keyset", condition_ids=condition, closed="true").json()["markets"]
    event = get(venue, f"/events/{listed[0]['events'][0]['id']}").json()

    assert full["is_50_50_outcome"]
    assert [token["winner"] for token in full["tokens"]] == [False, False]
    assert json.loads(listed[0]["outcomePrices"]) == ["0.5", "0.5"]
    payout = event_terms(event).markets[0].payout
    assert payout == Decimal("0.5")


def test_clock_skew_moves_every_timestamp_and_jumps_back(venue: VenueClient):
    with Feed(venue, some_tokens(venue)) as feed:
        feed.until(of("book"))
        venue.fault("clock_skew")
        ahead = feed.until(
            lambda heard: bool(heard) and int(heard[-1]["timestamp"]) > (time.time() + 80) * 1_000
        )
        clock = int(get(venue, "/time").text)
        venue.clear()
        feed.listen(0.5)

        same_books(venue, feed)

    assert ahead
    assert 85 < clock - time.time() < 95
    now = time.time() * 1_000
    assert all(int(book["timestamp"]) < now + 5_000 for book in venue.books().values())


# --- the switchboard ----------------------------------------------------------


def test_a_fault_ends_by_itself_and_is_remembered(venue: VenueClient):
    venue.fault("slow", seconds=0.2)

    eventually(lambda: venue.stats()["faults_on"] == [])

    outage = venue.stats()["outages"][-1]
    assert outage["name"] == "slow"
    assert 0.15 < (outage["ended"] - outage["began"]) / 1e9 < 1.0


def test_faults_can_be_on_together(venue: VenueClient):
    venue.fault("slow", target="/ok")
    venue.fault("html_403", target="/markets")

    assert get(venue, "/markets/keyset").status_code == 403
    assert get(venue, "/events/keyset").status_code == 200
    assert venue.stats()["faults_on"] == ["slow", "html_403"]


def test_the_venue_is_well_after_all_of_them(venue: VenueClient):
    with Feed(venue, list(venue.books())[:200]) as feed:
        feed.until(of("price_change"))

        same_books(venue, feed)

    assert len(walk(venue, "markets", limit=100)) > 50
