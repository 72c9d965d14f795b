"""The CLOB's reads over a real socket: batches, what is missing, ids, the clock."""

from __future__ import annotations

import json
import time

import pytest

from markets.polymarket import http
from markets.polymarket.clob import BATCH, Clob
from tests.tiny_venue import client, reply, says, tiny_venue

TOKENS = [str(10**76 + n) for n in range(1_234)]
LEVELS = [{"price": f"0.{n:03}", "size": "100"} for n in range(1, 100)]


def book(token: str) -> dict:
    return {"market": "0x1", "asset_id": token, "bids": LEVELS, "asks": LEVELS[::-1]}


def venue_without(*unknown: str):
    async def answer(heard, _writer):
        asked = [row["token_id"] for row in json.loads(heard.body)]
        if heard.path != "/books" or len(asked) > BATCH:
            return reply(b'{"error":"Payload exceeds the limit"}', status=400)
        found = [book(token) for token in reversed(asked) if token not in unknown]
        return reply(json.dumps(found).encode())

    return answer


async def test_books_are_asked_for_in_batches_and_each_token_once():
    async with tiny_venue(venue_without()) as server, client(server.url) as venue:
        answers = [each async for each in Clob(venue).books(TOKENS + TOKENS[:5])]

    assert [len(each.asked) for each in answers] == [500, 500, 234]
    assert [token for each in answers for token in each.asked] == TOKENS
    assert [each.missing for each in answers] == [(), (), ()]
    got = [row["asset_id"] for each in answers for row in json.loads(each.body)]
    assert sorted(got) == TOKENS


async def test_what_an_answer_leaves_out_is_told_by_id_in_the_order_asked():
    gone = (TOKENS[0], TOKENS[7], TOKENS[499])
    async with tiny_venue(venue_without(*gone)) as server, client(server.url) as venue:
        answers = [each async for each in Clob(venue).books(TOKENS[:500])]

    assert answers[0].missing == gone


async def test_what_cannot_be_a_token_is_missing_without_being_sent():
    bad = ["", "abc", "1" * 79, "-1", "\uff11"]
    async with tiny_venue(venue_without()) as server, client(server.url) as venue:
        answers = [each async for each in Clob(venue).books([*bad, "5"])]
        none_sent = [each async for each in Clob(venue).books(bad)]

    assert answers[0].asked == (*bad, "5")
    assert answers[0].missing == tuple(bad)
    assert json.loads(server.heard[0].body) == [{"token_id": "5"}]
    assert (none_sent[0].body, none_sent[0].missing) == (b"[]", tuple(bad))
    assert len(server.heard) == 1


async def test_no_tokens_no_requests():
    async with tiny_venue(venue_without()) as server, client(server.url) as venue:
        assert [each async for each in Clob(venue).books([])] == []

    assert server.heard == []


@pytest.mark.parametrize("body", [b"{}", b"null", b'["x"]', b"7"])
async def test_an_answer_that_is_no_list_of_books_is_refused(body):
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        with pytest.raises(http.Unexpected, match="CLOB /books"):
            _ = [each async for each in Clob(venue).books(["5"])]


async def test_a_book_of_another_shape_is_handed_on_and_its_token_is_missing():
    odd = b'[{"asset_id":5},{},{"asset_id":"6"},{"asset_id":"77"}]'
    async with tiny_venue(says(reply(odd))) as server, client(server.url) as venue:
        answers = [each async for each in Clob(venue).books(["5", "6"])]

    assert answers[0].body == odd
    assert answers[0].missing == ("5",)


async def test_a_failed_batch_leaves_those_before_it_usable():
    got = []
    answers = (reply(b"[]"), reply(b"", status=400))
    async with tiny_venue(says(*answers)) as server, client(server.url) as venue:
        with pytest.raises(http.BadRequest):
            async for each in Clob(venue).books(TOKENS):
                got.append(each)

    assert [each.asked for each in got] == [tuple(TOKENS[:500])]
    assert len(server.heard) == 2


async def test_one_book():
    async with tiny_venue(says(reply(b'{"asset_id":"5"}'))) as server, client(server.url) as venue:
        assert await Clob(venue).book("5") == b'{"asset_id":"5"}'

    assert server.heard[0].target == "/book?token_id=5"


async def test_a_book_that_is_not_there():
    missing = reply(b'{"error":"No orderbook exists for the requested token id"}', status=404)
    async with tiny_venue(says(missing)) as server, client(server.url) as venue:
        with pytest.raises(http.NotFound) as caught:
            await Clob(venue).book(TOKENS[0])

    assert TOKENS[0] not in str(caught.value)
    assert caught.value.path == "/book"


@pytest.mark.parametrize(
    ("given", "asked"),
    [("0x" + "a" * 62, "0x" + "a" * 62 + "00"), ("0x" + "B" * 64, "0x" + "B" * 64)],
)
async def test_a_short_condition_id_is_padded(given, asked):
    async with tiny_venue(says(reply())) as server, client(server.url) as venue:
        await Clob(venue).clob_market(given)

    assert server.heard[0].target == f"/clob-markets/{asked}"


@pytest.mark.parametrize(
    "bad", ["", "a" * 64, "0x" + "a" * 63, "0x" + "g" * 64, "0x/../ok", "0x" + "a" * 64 + "\n"]
)
async def test_what_is_no_id_never_reaches_the_venue(bad):
    async with tiny_venue(says(reply())) as server, client(server.url) as venue:
        with pytest.raises(http.BadRequest):
            await Clob(venue).clob_market(bad)
        with pytest.raises(http.BadRequest):
            await Clob(venue).book(bad)

    assert server.heard == []


@pytest.mark.parametrize("body", [b"1793500000", b'"1793500000"', b"1793500000\n"])
async def test_the_venues_clock(body):
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        assert await Clob(venue).time() == 1_793_500_000

    assert server.heard[0].target == "/time"


@pytest.mark.parametrize("body", [b"", b"soon", b"1e9", b"-5", b"1793500000000", b"<html>"])
async def test_a_clock_that_tells_no_time(body):
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        with pytest.raises(http.Unexpected):
            await Clob(venue).time()


@pytest.mark.parametrize(("body", "well"), [(b'"OK"', True), (b"OK", True), (b"no", False)])
async def test_whether_it_is_well(body, well):
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        assert await Clob(venue).ok() is well


async def test_finding_what_is_missing_costs_little_beside_the_answer():
    body = json.dumps([book(token) for token in TOKENS[:500]]).encode()
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        began = time.process_time()
        _ = [each async for each in Clob(venue).books(TOKENS[:500])]
        took = time.process_time() - began
        parsed = time.process_time()
        json.loads(body)
        parsed = time.process_time() - parsed

    assert took < parsed, "less than parsing it once with the standard library"
