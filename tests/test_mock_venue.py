"""The mock venue over real sockets: what it lists, what its books say, what its feed leads to."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from markets.listing import BadListing, event_terms
from tests.test_simulator_wire import venue_hash
from tests.venue import ROOT, VenueClient, mock_venue, venue_process
from tests.venue_feed import Feed, get, of, pages, post, walk

V1_AND_V2 = ["v1", "v2"]


@pytest.fixture(scope="module")
def shared() -> Iterator[VenueClient]:
    """One venue for all tests that only look."""
    with mock_venue(events=12, rate=300.0, markets=500) as venue:
        yield venue


# --- the catalogue -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["markets", "events"])
@pytest.mark.parametrize("limit", [7, 100])
def test_paging_walks_everything_once(shared: VenueClient, kind: str, limit: int):
    found = pages(shared, kind, limit=limit, version=V1_AND_V2)

    ids = [row["id"] for page in found for row in page]
    assert len(ids) == len(set(ids)) > 200
    assert all(len(page) == limit for page in found[:-1])
    assert not any(row["closed"] for page in found for row in page)


def test_markets_and_events_list_the_same_markets(shared: VenueClient):
    events = walk(shared, "events", limit=500, version=V1_AND_V2)
    markets = walk(shared, "markets", limit=100, version=V1_AND_V2)

    inside = {m["id"] for event in events for m in event["markets"] if not m["closed"]}
    assert {market["id"] for market in markets} == inside
    assert {market["events"][0]["id"] for market in markets} <= {event["id"] for event in events}


def test_every_listed_event_reads_as_terms(shared: VenueClient):
    rejected: list[BadListing] = []

    terms = [event_terms(obj, rejected=rejected)
             for obj in walk(shared, "events", limit=500, version=V1_AND_V2)]  # fmt: skip

    assert not rejected
    assert all(event.complete for event in terms)
    assert {event.neg_risk for event in terms} == {True, False}
    assert any(event.augmented for event in terms)


@pytest.mark.parametrize(
    ("path", "cap"), [("/markets/keyset", 100), ("/events/keyset", 500), ("/markets", 100)]
)
def test_a_limit_beyond_the_cap_gives_the_cap(path: str, cap: int):
    with mock_venue(events=1, rate=1.0, markets=1_500) as venue:
        page = get(venue, path, limit=5_000, version=V1_AND_V2).json()

    rows = page if isinstance(page, list) else page.get("markets") or page["events"]
    assert len(rows) == cap


def test_twenty_rows_come_without_a_limit(shared: VenueClient):
    assert len(get(shared, "/markets/keyset").json()["markets"]) == 20


def test_a_parameter_named_cursor_is_ignored(shared: VenueClient):
    first = get(shared, "/markets/keyset", limit=5).json()

    again = get(shared, "/markets/keyset", limit=5, cursor=first["next_cursor"]).json()

    assert [row["id"] for row in again["markets"]] == [row["id"] for row in first["markets"]]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/markets/keyset", {"offset": 10}),
        ("/events/keyset", {"offset": 0}),
        ("/markets", {"offset": 10_001}),
        ("/markets/keyset", {"limit": "many"}),
        ("/markets/keyset", {"version": "v3"}),
        ("/markets/keyset", {"after_cursor": "bm90IGEgY3Vyc29y"}),
        ("/markets/keyset", {"after_cursor": "%%%"}),
        ("/markets/keyset", {"order": "color"}),
        ("/markets/keyset", {"volume_num_min": "much"}),
        ("/markets/keyset", {"id": [str(number) for number in range(101)]}),
    ],
)
def test_a_question_that_cannot_be_answered_is_422(shared: VenueClient, path: str, query: Any):
    answer = get(shared, path, **query)

    assert answer.status_code == 422
    assert answer.json()["error"]


def test_a_cursor_belongs_to_its_filters(shared: VenueClient):
    cursor = get(shared, "/markets/keyset", limit=5).json()["next_cursor"]

    answer = get(shared, "/markets/keyset", limit=5, version=V1_AND_V2, after_cursor=cursor)

    assert answer.status_code == 422


def test_the_old_arrays_page_by_offset(shared: VenueClient):
    first = get(shared, "/events", limit=30).json()
    second = get(shared, "/events", limit=30, offset=30).json()

    keyset = get(shared, "/events/keyset", limit=60).json()["events"]
    assert [row["id"] for row in first + second] == [row["id"] for row in keyset]


def test_the_second_protocol_is_hidden_unless_asked_for(shared: VenueClient):
    plain = walk(shared, "markets", limit=100)
    only = walk(shared, "markets", limit=100, version="v2")

    assert {row.get("version", "v1") for row in plain} == {"v1"}
    assert len(only) > 10
    assert all(row["clobTokenIds"] is None and len(row["positionIds"]) == 2 for row in only)


def test_a_condition_of_the_second_protocol_has_62_digits_in_gamma_and_64_at_the_clob(
    shared: VenueClient,
):
    short = walk(shared, "markets", limit=100, version="v2")[0]["conditionId"]

    assert len(short) == 64  # with 0x
    assert get(shared, f"/clob-markets/{short}").status_code == 400
    assert get(shared, f"/clob-markets/{short}00").json()["v"] == "v2"


def test_lists_are_repeated_parameters(shared: VenueClient):
    rows = walk(shared, "markets", limit=100)
    some = [rows[0], rows[40], rows[-1]]
    conditions = [row["conditionId"] for row in some]

    found = get(shared, "/markets/keyset", condition_ids=conditions).json()["markets"]
    joined = get(shared, "/markets/keyset", condition_ids=",".join(conditions)).json()["markets"]

    assert [row["id"] for row in found] == [row["id"] for row in some]
    assert joined == []


@pytest.mark.parametrize("name", ["id", "slug", "conditionId", "clobTokenIds"])
def test_markets_are_found_by_any_of_their_names(shared: VenueClient, name: str):
    parameter = {"conditionId": "condition_ids", "clobTokenIds": "clob_token_ids"}.get(name, name)
    rows = walk(shared, "markets", limit=100)

    for row in (rows[0], rows[-1]):
        value = json.loads(row[name])[1] if name == "clobTokenIds" else row[name]
        found = get(shared, "/markets/keyset", **{parameter: value}).json()["markets"]
        assert [market["id"] for market in found] == [row["id"]]


def test_an_order_holds_across_pages(shared: VenueClient):
    rows = walk(shared, "markets", limit=50, order="volumeNum", ascending="false",
                volume_num_min=1_000)  # fmt: skip

    volumes = [row["volumeNum"] for row in rows]
    assert len({row["id"] for row in rows}) == len(rows) > 200
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[-1] >= 1_000


def test_markets_can_be_listed_by_tag(shared: VenueClient):
    tag = get(shared, "/tags").json()[0]

    rows = walk(shared, "events", limit=500, tag_id=tag["id"])

    assert 0 < len(rows) < len(walk(shared, "events", limit=500))
    assert all(tag["id"] in {t["id"] for t in row["tags"]} for row in rows)


def test_single_objects_are_found_by_id_and_slug(shared: VenueClient):
    for kind in ("markets", "events"):
        for row in (walk(shared, kind, limit=100)[at] for at in (0, -1)):
            assert get(shared, f"/{kind}/{row['id']}").json()["slug"] == row["slug"]
            assert get(shared, f"/{kind}/slug/{row['slug']}").json()["id"] == row["id"]


def test_what_is_not_there_is_404(shared: VenueClient):
    assert get(shared, "/markets/1").status_code == 404
    assert get(shared, "/events/slug/nothing").status_code == 404
    assert get(shared, "/nothing").status_code == 404


def test_legs_that_resolved_early_are_listed_only_as_closed(shared: VenueClient):
    closed = walk(shared, "markets", limit=100, closed="true")

    assert closed
    assert all(row["closed"] and json.loads(row["outcomePrices"]) == ["0", "1"] for row in closed)


def test_churn_changes_what_it_says_and_nothing_else():
    with mock_venue(events=1, rate=1.0, markets=1_000) as venue:
        before = _shelf(venue)
        again = _shelf(venue)

        churn = venue.order(churn=2.0)["churn"]

        after = _shelf(venue)
    changed = {row for row in before if after.get(row) != before[row]}
    told = {row for kind, rows in churn.items() if kind != "new" for row in rows}
    assert again == before
    assert len(told) == 20
    # A leg that resolves moves the price of another one in its group, hence "at most".
    assert told <= changed <= told | {m for m in changed if m not in churn["resolved"]}
    assert len(changed) <= len(told) + len(churn["resolved"])
    assert set(after) - set(before) == set(churn["new"])
    assert set(before) - set(after) == set(churn["resolved"])


def _shelf(venue: VenueClient) -> dict[str, dict[str, Any]]:
    rows = walk(venue, "markets", limit=100, version=V1_AND_V2)
    return {row["id"]: row | {"events": None} for row in rows if int(row["id"]) >= 20_000_000}


# --- the books ---------------------------------------------------------------


def test_books_are_the_worlds_and_their_hashes_verify(shared: VenueClient):
    shared.hold()
    true = shared.books()

    books = post(shared, "/books", [{"token_id": token} for token in true]).json()

    shared.hold(False)
    assert {book["asset_id"]: book for book in books} == true
    assert all(venue_hash(book) == book["hash"] for book in books)
    bids = [[float(level["price"]) for level in book["bids"]] for book in books]
    assert all(prices == sorted(prices) for prices in bids)


def test_books_of_listed_markets_that_do_not_trade_have_hashes_too(shared: VenueClient):
    row = walk(shared, "markets", limit=100)[-1]
    tokens = json.loads(row["clobTokenIds"])

    books = [get(shared, "/book", token_id=token).json() for token in tokens]

    assert [book["hash"] for book in books] == [venue_hash(book) for book in books]
    assert float(books[0]["bids"][-1]["price"]) == row["bestBid"]
    assert float(books[0]["asks"][-1]["price"]) == row["bestAsk"]


def test_errors_of_the_book_routes(shared: VenueClient):
    unknown, bad = get(shared, "/book", token_id="1" * 70), get(shared, "/book", token_id="x")

    assert unknown.status_code == 404
    assert unknown.json() == {"error": "No orderbook exists for the requested token id"}
    assert (bad.status_code, bad.json()) == (400, {"error": "Invalid token id"})
    assert post(shared, "/books", {"token_id": "1"}).status_code == 400
    assert post(shared, "/books", [{"token_id": "1"}] * 501).status_code == 400
    assert post(shared, "/order", {}).status_code == 401


def test_unknown_tokens_are_missing_from_a_batch(shared: VenueClient):
    token = next(iter(shared.books()))

    books = post(shared, "/books", [{"token_id": "1" * 70}, {"token_id": token}] * 250).json()

    assert [book["asset_id"] for book in books] == [token]


def test_the_clob_and_gamma_say_the_same_of_a_market(shared: VenueClient):
    for market in walk(shared, "markets", limit=100)[::60]:
        condition, tokens = market["conditionId"], json.loads(market["clobTokenIds"])

        full = get(shared, f"/markets/{condition}").json()
        compact = get(shared, f"/clob-markets/{condition}").json()
        tick = get(shared, "/tick-size", token_id=tokens[0])

        assert [token["token_id"] for token in full["tokens"]] == tokens
        assert [token["t"] for token in compact["t"]] == tokens
        assert full["minimum_tick_size"] == compact["mts"] == market["orderPriceMinTickSize"]
        assert compact.get("fd", {}).get("r") == market.get("feeSchedule", {}).get("rate")
        assert compact.get("nr", False) == market["negRisk"] == full["neg_risk"]
        assert not full["is_50_50_outcome"]
        if tick.status_code == 200:  # placeholders have no book
            assert tick.json() == {"minimum_tick_size": market["orderPriceMinTickSize"]}


def test_the_time_is_the_time(shared: VenueClient):
    assert abs(int(get(shared, "/time").text) - time.time()) < 2


# --- the feed ----------------------------------------------------------------


def test_the_feed_leads_to_the_books():
    with mock_venue(events=12, rate=1_500.0) as venue, ExitStack() as stack:
        tokens = list(venue.books())
        chunks = [tokens[at : at + 100] for at in range(0, len(tokens), 100)]
        feeds = [stack.enter_context(Feed(venue, chunk)) for chunk in chunks]
        heard = feeds[0].until(lambda all_so_far: len(all_so_far) > 1_000)

        venue.hold()
        for feed in feeds:
            feed.settle()
        true = venue.books()

        for feed in feeds:
            assert feed.first.startswith("[{")
            for token in feed.books.meta:
                assert feed.books.book(token) == true[token]
                assert venue_hash(feed.books.book(token)) == true[token]["hash"]
        assert {"book", "price_change"} <= {message["event_type"] for message in heard}


def test_a_connection_gets_only_what_it_subscribed(shared: VenueClient):
    book = next(iter(shared.books().values()))
    token, market = book["asset_id"], book["market"]

    with Feed(shared, [token], features=True) as feed:
        snapshot = feed.until(of("book"))
        # Its partner is unknown to our client, which would stumble over it.
        feed.books.bids, feed.books.asks = _Anything(feed.books.bids), _Anything(feed.books.asks)
        feed.books.meta = _Anything(feed.books.meta)
        heard = feed.until(of("price_change"), seconds=10)

    assert [message["asset_id"] for message in snapshot] == [token]
    assert {message["market"] for message in heard} == {market}
    assert {message.get("asset_id", token) for message in heard} == {token}
    change = heard[-1]["price_changes"]
    assert len({entry["asset_id"] for entry in change}) == 2


class _Anything(dict[str, Any]):
    def __missing__(self, key: str) -> dict[Any, Any]:
        return self.setdefault(key, {})


def test_subscriptions_grow_and_shrink(shared: VenueClient):
    books = list(shared.books().values())
    one, other = books[0], books[4]
    assert one["market"] != other["market"]
    both = [one["asset_id"], books[1]["asset_id"]]

    with Feed(shared, both) as feed:
        feed.until(of("book"))
        feed.say(operation="subscribe", assets_ids=[other["asset_id"], books[5]["asset_id"]])
        added = feed.until(lambda heard: other["market"] in {m["market"] for m in heard})
        feed.say(operation="unsubscribe", assets_ids=both)
        feed.say("PING")
        feed.until(lambda heard: "PONG" in feed.texts)
        later = feed.until(lambda heard: len(heard) > 3, seconds=10)

    snapshot = [m["asset_id"] for m in added if m["event_type"] == "book"][-2:]
    assert snapshot == [other["asset_id"], books[5]["asset_id"]]
    assert {message["market"] for message in later} == {other["market"]}


def test_unknown_assets_are_answered_with_an_empty_list(shared: VenueClient):
    with Feed(shared, ["1" * 70]) as feed:
        assert feed.hear(5) == []
        assert feed.first.strip() == "[]"


def test_the_snapshot_can_be_declined(shared: VenueClient):
    with Feed(shared, list(shared.books())[:2], dump=False) as feed:
        feed.say("PING")
        feed.books.bids, feed.books.asks = _Anything(), _Anything()
        feed.books.meta = _Anything()
        heard = feed.until(lambda _: "PONG" in feed.texts)

    assert not of("book")(heard[:1])


def test_features_are_sent_only_to_those_who_asked(shared: VenueClient):
    tokens = list(shared.books())[:80]

    with Feed(shared, tokens, features=True) as rich, Feed(shared, tokens) as plain:
        rich.until(of("best_bid_ask"), seconds=10)
        heard = plain.listen(0.5)

    assert not of("best_bid_ask")(heard)
    assert of("price_change")(heard)


def test_text_that_is_no_subscription_is_refused(shared: VenueClient):
    with Feed(shared, ["1" * 70]) as feed:
        feed.say("hello")
        feed.say(operation="dance")
        feed.until(lambda _: len(feed.texts) == 2)

    assert feed.texts == ["INVALID OPERATION"] * 2


def test_a_huge_subscription_is_cut_off(shared: VenueClient):
    with Feed(shared, ["7" * 76] * 10_000) as feed, pytest.raises(ConnectionClosed):
        feed.hear(5)


def test_beyond_500_assets_there_are_no_snapshots(shared: VenueClient):
    rows = walk(shared, "markets", limit=100)
    tokens = [token for row in rows[-300:] for token in json.loads(row["clobTokenIds"])]

    with Feed(shared, tokens) as feed:
        feed.until(of("book"))

    assert len(feed.books.meta) <= 500 < len(tokens)


def test_new_markets_are_announced_listed_and_sent_to_those_who_subscribed_ahead():
    with mock_venue(events=6, rate=20.0) as venue:
        known = set(venue.books())
        with Feed(venue, list(known)[:2], features=True) as feed:
            feed.until(of("book"))
            feed.books.bids, feed.books.asks = _Anything(), _Anything()
            feed.books.meta = _Anything()
            venue.order(skip=_until_the_round_ends() - 26)

            news = _ahead(venue, feed)
            early = get(venue, "/book", token_id=news["assets_ids"][0])
            feed.say(operation="subscribe", assets_ids=news["assets_ids"])
            venue.order(skip=3)
            snapshot = feed.until(lambda heard: _is_shown(heard, news["assets_ids"]), seconds=15)

            assert early.status_code == 404
            assert get(venue, "/book", token_id=news["assets_ids"][0]).status_code == 200
            assert get(venue, f"/markets/{news['id']}").json()["question"] == news["question"]
            assert snapshot


def _until_the_round_ends() -> float:
    return 300 - time.time() % 300


def _ahead(venue: VenueClient, feed: Feed) -> dict[str, Any]:
    """Step towards the end of the round until the next one is announced."""
    for _ in range(52):
        heard = feed.listen(0.1)
        announced = [message for message in heard if message["event_type"] == "new_market"]
        if announced:
            return announced[0]
        venue.order(skip=0.5)
    raise AssertionError("no new market")


def _is_shown(heard: list[dict[str, Any]], tokens: list[str]) -> bool:
    return {m["asset_id"] for m in heard if m["event_type"] == "book"} >= set(tokens)


def test_resolved_markets_leave_the_listing_and_the_books():
    with mock_venue(events=6, rate=5.0) as venue:
        rounds = [e for e in walk(venue, "events", limit=500) if "series" in e]
        market = rounds[0]["markets"][0]
        tokens = json.loads(market["clobTokenIds"])
        venue.order(skip=_until_the_round_ends() + 600 + 60)
        _eventually(lambda: venue.stats()["behind_ms"] < 1_000)

        listed = {row["id"] for row in walk(venue, "markets", limit=100)}
        closed = {row["id"] for row in walk(venue, "markets", limit=100, closed="true")}
        full = get(venue, f"/markets/{market['conditionId']}").json()

        assert market["id"] not in listed
        assert market["id"] in closed
        assert get(venue, f"/markets/{market['id']}").json()["closed"]
        assert get(venue, "/book", token_id=tokens[0]).status_code == 404
        assert sorted(token["winner"] for token in full["tokens"]) == [False, True]


def _eventually(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def test_a_client_that_does_not_read_is_cut_off():
    with mock_venue(events=8, rate=500.0, queue_bytes=64 * 1024) as venue:
        venue.fault("oversized_first_frame")  # more than the kernel takes
        with connect(venue.ws_url, proxy=None, max_size=2**26, max_queue=1) as idle:
            with suppress(ConnectionClosed):
                idle.send(json.dumps({"type": "market", "assets_ids": list(venue.books())}))
            _eventually(lambda: venue.stats()["overflowed"] == 1)
            assert venue.stats()["sockets"] == []


# --- the server itself ---------------------------------------------------------


def test_it_listens_on_loopback_only(shared: VenueClient):
    assert shared.inside is not None
    assert shared.inside.address == ("127.0.0.1", shared.port)


def test_connections_are_kept_between_requests(shared: VenueClient):
    talk = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=5)
    with closing(talk):
        talk.request("GET", "/ok")
        first, plain = talk.getresponse().read(), talk.sock

        talk.request("GET", "/ok")
        second = talk.getresponse().read()

        assert first == second == b'"OK"'
        assert talk.sock is plain


@pytest.mark.parametrize("head", [b"hello", b"GET /ok HTTP/1.1\r\nContent-Length: -1"])
def test_what_is_not_http_is_400(shared: VenueClient, head: bytes):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as plain:
        plain.sendall(head + b"\r\n\r\n")
        assert plain.recv(1_000).startswith(b"HTTP/1.1 400 ")


def test_the_log_of_truth_can_be_read():
    with mock_venue(events=20, rate=100.0) as venue:
        venue.order(skip=60)
        _eventually(lambda: venue.stats()["behind_ms"] < 1_000)

        truth = venue.truth()

    assert any(row["planted"] for row in truth)
    assert all(row["t0"] < row["t1"] for row in truth)


def test_a_wrong_order_is_refused(shared: VenueClient):
    for order, status in (
        ({"fault": "none_such"}, 404), ({"dance": True}, 400),
        ({"fault": "dead_asset", "target": "1"}, 409), ({"fault": "refuse_connections"}, 409),
        ({"fault": "silent_socket", "target": 999}, 409),
    ):  # fmt: skip
        with pytest.raises(httpx.HTTPStatusError) as refused:
            shared.order(**order)
        assert refused.value.response.status_code == status
    assert get(shared, "/_control").status_code == 405


def test_the_command_serves_until_told_to_stop():
    with venue_process("--events", "4", "--markets", "40", "--fault", "slow") as venue:
        assert len(walk(venue, "markets", limit=100, version=V1_AND_V2)) > 40
        assert venue.stats()["faults_on"] == ["slow"]


def test_the_command_ends_after_its_duration():
    done = _command("--port", "0", "--events", "2", "--duration", "0.2")

    assert done.returncode == 0
    assert "POLYMARKET_WS_URL=ws://127.0.0.1:" in done.stdout


def test_the_command_names_what_is_wrong(shared: VenueClient):
    unknown = _command("--fault", "slow,none_such")
    taken = _command("--port", str(shared.port), "--events", "2")

    assert (unknown.returncode, taken.returncode) == (2, 3)
    assert "none_such" in unknown.stderr
    assert str(shared.port) in taken.stderr


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "mock_venue", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
