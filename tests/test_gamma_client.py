"""Gamma's listings over a real socket: each object once, no endless walk, nothing hidden."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest

from markets.polymarket import http
from markets.polymarket.gamma import Gamma, ListingLoops, cursor_after
from tests.tiny_venue import FakeTime, client, reply, says, tiny_venue


def keyset(rows: Iterable[dict], *, name: str, matches: str):
    """Answer a keyset route as the venue does: filters, limit, cursor bound to the filters."""

    async def answer(heard, _writer):
        given = [pair for pair in heard.query if pair[0] not in ("after_cursor", "limit")]
        values = {key: [value for k, value in heard.query if k == key] for key, _ in heard.query}
        if "offset" in values or not heard.path.endswith("/keyset"):
            return reply(b"{}", status=422)
        found = [row for row in rows if str(row["closed"]).lower() in values.get("closed", "false")]
        found = [row for row in found if row["version"] in values.get("version", ["v1"])]
        if matches in values:
            found = [row for row in found if row[matches.removesuffix("s")] in values[matches]]
        start, limit = 0, min(100, int(values.get("limit", ["20"])[0]))
        if "after_cursor" in values:
            start, bound = json.loads(values["after_cursor"][0])
            if bound != repr(given):
                return reply(b"{}", status=400)
        page = {name: found[start : start + limit]}
        if start + limit < len(found):
            page["next_cursor"] = json.dumps([start + limit, repr(given)])
        return reply(json.dumps(page).encode())

    return answer


def event(number: int, *, closed: bool = False, version: str = "v1") -> dict:
    return {"id": str(number), "closed": closed, "version": version}


def market(number: int, *, closed: bool = False, version: str = "v1") -> dict:
    return {**event(number, closed=closed, version=version), "condition_id": f"0x{number:064x}"}


def events_of(bodies: Iterable[bytes]) -> list[str]:
    return [row["id"] for body in bodies for row in json.loads(body)["events"]]


def markets_of(bodies: Iterable[bytes]) -> list[str]:
    return [row["id"] for body in bodies for row in json.loads(body)["markets"]]


EVENTS = [event(n, closed=n % 10 == 0, version="v2" if n % 7 == 0 else "v1") for n in range(1, 451)]
MARKETS = [market(n, closed=n % 2 == 0, version="v2" if n % 3 == 0 else "v1") for n in range(600)]
events_venue = keyset(EVENTS, name="events", matches="id")
markets_venue = keyset(MARKETS, name="markets", matches="condition_ids")


async def test_a_walk_meets_every_open_event_of_both_protocols_once():
    async with tiny_venue(events_venue) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).event_pages()]

    assert events_of(bodies) == [row["id"] for row in EVENTS if not row["closed"]]
    assert len(server.heard) == 5


async def test_a_walk_of_closed_markets_meets_each_once():
    async with tiny_venue(markets_venue) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).market_pages(closed=True, limit=37)]

    assert markets_of(bodies) == [row["id"] for row in MARKETS if row["closed"]]


async def test_a_walk_goes_on_from_the_cursor_of_the_last_page_that_came():
    async with tiny_venue(events_venue) as server, client(server.url) as venue:
        gamma = Gamma(venue)
        walk = gamma.event_pages(limit=50)
        first = [await anext(walk), await anext(walk)]
        await walk.aclose()
        rest = [body async for body in gamma.event_pages(limit=50, after=cursor_after(first[-1]))]

    assert events_of(first + rest) == [row["id"] for row in EVENTS if not row["closed"]]


async def test_further_filters_are_passed_on():
    async with tiny_venue(says(reply(b'{"events":[]}'))) as server, client(server.url) as venue:
        _ = [body async for body in Gamma(venue).event_pages(filters=(("tag_id", "100381"),))]

    assert server.heard[0].query == [
        ("closed", "false"), ("limit", "100"), ("version", "v1"), ("version", "v2"),
        ("tag_id", "100381"),
    ]  # fmt: skip


async def test_a_venue_that_ignores_the_cursor_is_noticed_at_its_second_page():
    same = reply(b'{"markets":[{"id":"1"}],"next_cursor":"abc"}')
    got = []
    async with tiny_venue(says(same)) as server, client(server.url) as venue:
        with pytest.raises(ListingLoops) as caught:
            async for body in Gamma(venue).market_pages():
                got.append(body)

    assert len(server.heard) == 2
    assert len(got) == 1, "the repeated page is not handed over"
    assert caught.value.permanent


async def test_a_cursor_that_leads_back_to_itself_is_noticed_at_once():
    same = reply(b'{"markets":[{"id":"1"}],"next_cursor":"abc"}')
    async with tiny_venue(says(same)) as server, client(server.url) as venue:
        with pytest.raises(ListingLoops):
            _ = [body async for body in Gamma(venue).market_pages(after="abc")]

    assert len(server.heard) == 1


async def test_a_longer_circle_is_noticed_when_it_closes():
    pages = [reply(b'{"markets":[],"next_cursor":"%s"}' % name) for name in (b"a", b"b", b"a")]
    async with tiny_venue(says(*pages)) as server, client(server.url) as venue:
        with pytest.raises(ListingLoops):
            _ = [body async for body in Gamma(venue).market_pages()]

    assert len(server.heard) == 3


async def test_a_listing_without_end_is_left_after_so_many_pages(monkeypatch):
    monkeypatch.setattr("markets.polymarket.gamma.MAX_PAGES", 12)
    asked = 0

    async def endless(_heard, _writer):
        nonlocal asked
        asked += 1
        return reply(b'{"markets":[],"next_cursor":"%d"}' % asked)

    async with tiny_venue(endless) as server, client(server.url) as venue:
        with pytest.raises(ListingLoops, match="no end after 12 pages"):
            _ = [body async for body in Gamma(venue).market_pages()]

    assert asked == 12


@pytest.mark.parametrize(
    "body", [b"[]", b'{"data":[]}', b'{"markets":[]}', b'{"events":7}', b'{"events":null}']
)
async def test_a_page_of_another_shape_is_not_taken_for_an_empty_one(body):
    async with tiny_venue(says(reply(body))) as server, client(server.url) as venue:
        with pytest.raises(http.Unexpected, match="Gamma /events/keyset"):
            _ = [body async for body in Gamma(venue).event_pages()]


async def test_an_empty_cursor_is_an_end():
    last = reply(b'{"markets":[{"id":"1"}],"next_cursor":""}')
    async with tiny_venue(says(last)) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).market_pages()]

    assert markets_of(bodies) == ["1"]


async def test_a_walk_survives_a_page_that_fails_once():
    pages = [
        reply(b'{"markets":[{"id":"1"}],"next_cursor":"a"}'),
        reply(b"", status=502),
        reply(b'{"markets":[{"id":"2"}]}'),
    ]
    async with tiny_venue(says(*pages)) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).market_pages()]

    assert markets_of(bodies) == ["1", "2"]
    assert [dict(heard.query).get("after_cursor") for heard in server.heard] == [None, "a", "a"]


async def test_events_by_id_come_open_and_closed_in_lists_of_a_hundred():
    wanted = [str(n) for n in range(1, 251)] + ["7", "999999"]
    async with tiny_venue(events_venue) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).events_by_id(wanted)]

    assert sorted(events_of(bodies), key=int) == wanted[:250]
    assert max(sum(key == "id" for key, _ in heard.query) for heard in server.heard) == 100
    assert len(server.heard) == 6, "the closed ones of each list were asked for once more"


async def test_events_that_are_all_open_cost_one_request():
    async with tiny_venue(events_venue) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).events_by_id(["3", "5", "7"])]

    assert events_of(bodies) == ["3", "5", "7"]
    assert len(server.heard) == 1


async def test_an_event_without_an_id_does_not_stop_the_others():
    odd = reply(b'{"events":[{"id":7},null,{"id":"5"}]}')
    async with tiny_venue(says(odd)) as server, client(server.url) as venue:
        bodies = [body async for body in Gamma(venue).events_by_id(["5"])]

    assert len(bodies) == 1


@pytest.mark.parametrize("closed", [True, False])
async def test_markets_are_found_by_condition(closed):
    wanted = [row["condition_id"] for row in MARKETS[:230]]
    async with tiny_venue(markets_venue) as server, client(server.url) as venue:
        bodies = [b async for b in Gamma(venue).markets_by_condition(wanted, closed=closed)]

    assert markets_of(bodies) == [row["id"] for row in MARKETS[:230] if row["closed"] is closed]
    assert len(server.heard) == 3


async def test_no_ids_no_requests():
    async with tiny_venue(events_venue) as server, client(server.url) as venue:
        assert [b async for b in Gamma(venue).events_by_id([])] == []
        assert [b async for b in Gamma(venue).markets_by_condition([])] == []

    assert server.heard == []


async def test_single_objects_are_asked_for_by_id():
    async with tiny_venue(says(reply(b'{"id":"12"}'))) as server, client(server.url) as venue:
        await Gamma(venue).event("12")
        await Gamma(venue).market("345")

    assert [heard.target for heard in server.heard] == ["/events/12", "/markets/345"]


@pytest.mark.parametrize("bad", ["", "..", "1/2", "1?x=1", "abc", "\uff11", "1" * 21])
async def test_what_is_no_id_never_reaches_the_venue(bad):
    async with tiny_venue(says(reply())) as server, client(server.url) as venue:
        with pytest.raises(http.BadRequest) as caught:
            await Gamma(venue).event(bad)

    assert caught.value.permanent
    assert server.heard == []


async def test_walks_side_by_side_keep_to_the_pace_of_the_route():
    clock = FakeTime()
    began = clock.now
    async with tiny_venue(markets_venue) as server, client(server.url, clock) as venue:
        walks = [_count(Gamma(venue)) for _ in range(5)]
        counts = await asyncio.gather(*walks)

    assert counts == [300] * 5
    assert len(server.heard) == 5 * 30
    assert clock.now - began >= 10, "only 100 of 150 requests go out in 10 s"


async def _count(gamma: Gamma) -> int:
    return sum([len(markets_of([body])) async for body in gamma.market_pages(limit=10)])
