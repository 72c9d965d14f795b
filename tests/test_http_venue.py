"""The HTTP clients against the mock venue: catalogue and books whole, each fault named."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from markets.polymarket import http
from markets.polymarket.clob import Clob
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import Patience, VenueHttp
from tests.venue import VenueClient, mock_venue

HASTY = Patience(request=1.0, tries=1)


@pytest.fixture(scope="module")
def shared() -> Iterator[VenueClient]:
    with mock_venue(events=8, markets=700) as venue:
        yield venue


@pytest.fixture
def well(shared: VenueClient) -> Iterator[VenueClient]:
    """The shared venue, left without faults."""
    yield shared
    shared.clear()


def reader(venue: VenueClient, patience: Patience | None = None) -> VenueHttp:
    return VenueHttp(gamma_url=venue.url, clob_url=venue.url, patience=patience)


async def ids(pages: AsyncIterator[bytes], kind: str) -> list[str]:
    return [row["id"] for page in [page async for page in pages] for row in json.loads(page)[kind]]


async def test_the_whole_catalogue_is_met_once_by_markets_and_by_events(well):
    well.hold()
    async with reader(well) as venue:
        gamma = Gamma(venue)
        markets = await ids(gamma.market_pages(), "markets")
        events = await ids(gamma.event_pages(limit=7), "events")
        found = await ids(gamma.events_by_id([*events, "424242424242"]), "events")
    well.hold(False)

    assert len(markets) > 700 * 0.8
    assert len(set(markets)) == len(markets)
    assert len(set(events)) == len(events) > 8
    assert sorted(found) == sorted(events)


async def test_events_that_closed_since_are_still_found_by_id():
    with mock_venue(events=1, rate=1.0, markets=300) as own:
        async with reader(own) as venue:
            gamma = Gamma(venue)
            before = await ids(gamma.event_pages(), "events")
            own.order(churn=60.0)
            after = await ids(gamma.event_pages(), "events")
            found = await ids(gamma.events_by_id(before), "events")

    assert set(before) - set(after), "some left the listing"
    assert sorted(found) == sorted(before)


async def test_books_are_the_venues_own_and_unknown_tokens_are_told(well):
    well.hold()
    own = well.books()
    async with reader(well) as venue:
        answers = [each async for each in Clob(venue).books([*own, "123456789"])]
        one = json.loads(await Clob(venue).book(next(iter(own))))
        terms = json.loads(await Clob(venue).clob_market(one["market"]))
    well.hold(False)

    got = {book["asset_id"]: book for each in answers for book in json.loads(each.body)}
    assert got == own
    assert [token for each in answers for token in each.missing] == ["123456789"]
    assert one["asset_id"] in [token["t"] for token in terms["t"]]


async def test_the_clock_and_the_health(well):
    async with reader(well) as venue:
        assert abs(await Clob(venue).time() - well.inside.now / 1e9) < 2
        assert await Clob(venue).ok() is True


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("drip", http.TooSlow),
        ("rate_limit_429", http.RateLimited),
        ("html_403", http.Blocked),
        ("gzip_bomb", http.Compressed),
        ("endless_body", http.TooLarge),
        ("truncated_body", http.CutShort),
        ("restart_425_then_post_only", http.Restarting),
    ],
)
async def test_each_fault_has_its_name_and_ends_in_time(well, fault, kind):
    token = next(iter(well.books()))
    async with reader(well, HASTY) as venue:
        await asyncio.to_thread(well.fault, fault, target="/book")
        began = time.monotonic()
        with pytest.raises(http.VenueError) as caught:
            await Clob(venue).book(token)
        took = time.monotonic() - began
        await Gamma(venue).event_pages().__anext__()  # what is not hit goes on

    assert type(caught.value) is kind
    assert took < 1.5
    assert token not in str(caught.value)


async def test_a_limit_is_waited_out_and_a_drip_is_asked_again(well):
    tokens = list(well.books())
    patience = Patience(request=0.4, tries=6, backoff=0.2)
    async with reader(well, patience) as venue:
        for fault, seconds in (("rate_limit_429", 0.8), ("drip", 0.6), ("truncated_body", 0.3)):
            await asyncio.to_thread(well.fault, fault, seconds=seconds)
            answers = [each async for each in Clob(venue).books(tokens)]
            assert not any(each.missing for each in answers)

    counts = venue.counts
    assert counts["clob.errors.rate_limited"] == 1, "asked again only when it was time"
    assert counts["clob.errors.too_slow"] >= 1
    assert counts["clob.errors.cut_short"] >= 1
