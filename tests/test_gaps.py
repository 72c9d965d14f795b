"""Gaps: what broke, what heals it, and the row that tells of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import Heartbeat
from markets import gap_rows
from markets.books import Books
from markets.gaps import Break, Gaps, HealedGap
from markets.ingest import Followed
from markets.listing import read_page
from markets.models import Gap
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.problems import Problems
from rules.load import publish_missing
from signals.live import Live
from signals.running import LiveThread
from signals.sources import Clock, Venue
from signals.writer import Batch, Writer
from tests.live_cast import shipped_rules
from tests.servers import wait_for
from tests.test_books import ALPHA, BETA, encoded, snapshot
from tests.venue import VenueClient, mock_venue

SECOND = 10**9
CONN = 3


@pytest.fixture
def books() -> Books:
    """Two fresh books of one connection, watched by somebody."""
    kept = Books(Problems())
    for terms in (ALPHA, BETA):
        kept.add(terms).group = "a watch"
        kept.feed(encoded(snapshot(terms)), SECOND, CONN)
    return kept


def garble(books: Books, *, at: int) -> None:
    """Let a frame about ALPHA arrive that cannot be read."""
    books.feed(b'{"market":"' + ALPHA.condition_id.encode() + b'","ev', at, CONN)


def heal(books: Books, *terms: Any, at: int = 4 * SECOND) -> None:
    for each in terms:
        books.feed(encoded(snapshot(each)), at, CONN)


# --- what is a gap, and when it is over ------------------------------------------------


def test_cut_connection_heals_with_the_last_of_its_books(books):
    gaps = Gaps()
    books.closed(CONN, at=2 * SECOND, reason="reset")
    gaps.begin(books.take_breaks())

    heal(books, ALPHA)
    half = gaps.settle(at=4 * SECOND)
    heal(books, BETA)
    whole = gaps.settle(at=5 * SECOND)

    assert half == []
    assert whole == [HealedGap("connection", "3", "reset", 2 * SECOND, 5 * SECOND, 2)]
    assert gaps.open == []


def test_dead_asset_is_a_gap_of_its_book_alone(books):
    gaps = Gaps()
    books.answer(encoded(snapshot(hash="theirs", bids=[])), 2 * SECOND, CONN)
    gaps.begin(books.take_breaks())
    heal(books, BETA)
    before = gaps.settle(at=3 * SECOND)

    heal(books, ALPHA)

    assert before == []
    expected = HealedGap("asset", ALPHA.market_id, "drift", 2 * SECOND, 4 * SECOND, 1)
    assert gaps.settle(at=4 * SECOND) == [expected]


def test_unreadable_frame_is_a_gap_of_the_book_it_names(books):
    gaps = Gaps()
    garble(books, at=2 * SECOND)
    gaps.begin(books.take_breaks())

    before = gaps.settle(at=2 * SECOND)
    heal(books, ALPHA)

    assert before == []
    (healed,) = gaps.settle(at=4 * SECOND)
    assert (healed.kind, healed.subject, healed.books) == ("frame", ALPHA.market_id, 1)


def test_connection_without_books_leaves_no_gap(books):
    gaps = Gaps()
    books.closed(99, at=2 * SECOND, reason="reset")

    assert gaps.begin(books.take_breaks()) == []
    assert gaps.settle(at=3 * SECOND) == []


def let_watch_go(books: Books) -> None:
    books.by_market[BETA.condition_id].group = None


def leave(books: Books) -> None:
    books.left(BETA.token_ids)


@pytest.mark.parametrize("let_go", [let_watch_go, leave])
def test_book_that_is_let_go_does_not_keep_a_gap_open(books, let_go: Callable[[Books], None]):
    gaps = Gaps()
    books.closed(CONN, at=2 * SECOND, reason="reset")
    gaps.begin(books.take_breaks())
    heal(books, ALPHA)

    let_go(books)

    assert len(gaps.settle(at=5 * SECOND)) == 1


def test_book_that_was_left_has_no_part_in_later_gaps(books):
    leave(books)

    books.closed(CONN, at=2 * SECOND, reason="reset")

    (cut,) = books.take_breaks()
    assert [book.market_id for book in cut.books] == [ALPHA.market_id]


def test_second_break_of_a_book_before_it_healed_prolongs_the_first(books):
    gaps = Gaps()
    for at in (2, 3, 4):
        garble(books, at=at * SECOND)
        gaps.begin(books.take_breaks())
    heal(books, ALPHA)

    (healed,) = gaps.settle(at=6 * SECOND)

    assert (healed.opened_at, healed.healed_at) == (2 * SECOND, 6 * SECOND)


def test_second_break_after_healing_is_a_gap_of_its_own(books):
    gaps = Gaps()
    for at in (2, 4):
        garble(books, at=at * SECOND)
        gaps.begin(books.take_breaks())
        heal(books, ALPHA, at=(at + 1) * SECOND)
        assert len(gaps.settle(at=(at + 1) * SECOND)) == 1


def test_another_kind_of_break_of_the_same_book_is_told_too(books):
    gaps = Gaps()
    garble(books, at=2 * SECOND)
    books.closed(CONN, at=3 * SECOND, reason="reset")
    gaps.begin(books.take_breaks())
    heal(books, ALPHA, BETA)

    assert [gap.kind for gap in gaps.settle(at=5 * SECOND)] == ["frame", "connection"]


# --- rows ------------------------------------------------------------------------------


def cut(books: Books, **changed: Any) -> Break:
    values = {"kind": "connection", "subject": "3", "reason": "reset", "at": 2 * SECOND}
    return Break(**{**values, "books": tuple(books.by_market.values()), **changed})


@pytest.mark.django_db
@pytest.mark.postgres
def test_row_is_open_until_it_is_healed(books):
    gap_rows.opened([cut(books)])
    gap_rows.opened([cut(books)])
    (row,) = Gap.objects.open()
    assert (row.kind, row.books, row.healed_at, row.healing_seconds) == (
        "CONNECTION",
        2,
        None,
        None,
    )

    gap_rows.healed([HealedGap("connection", "3", "reset", 2 * SECOND, 5 * SECOND, 2)])

    row.refresh_from_db()
    assert (row.ending, row.healing_seconds) == ("HEALED", 3.0)
    assert (row.healed_at - row.opened_at).total_seconds() == 3


@pytest.mark.django_db
def test_reason_of_any_kind_is_stored(books):
    gap_rows.opened([cut(books, reason="\0" + "x" * 900)])

    assert Gap.objects.get().reason == "\ufffd" + "x" * 119


@pytest.mark.django_db(transaction=True)
def test_writer_stores_opening_before_healing(books):
    writer = Writer()
    writer.start()
    healed = HealedGap("connection", "3", "reset", 2 * SECOND, 2 * SECOND, 2)

    writer.put(Batch(SECOND, breaks=[cut(books)], healed=[healed]))

    assert writer.finish(timeout=10)
    assert Gap.objects.get().ending == "HEALED"


@pytest.mark.django_db(transaction=True)
def test_gap_of_a_process_that_died_is_closed_at_the_next_start(books):
    publish_missing(at=timezone.now())
    gap_rows.opened([cut(books)])
    gap_rows.opened([cut(books, subject="4")])
    gap_rows.healed([HealedGap("connection", "4", "reset", 2 * SECOND, 3 * SECOND, 2)])

    thread = LiveThread("mock")
    thread.start()
    try:
        wait_for(lambda: not Gap.objects.open(), seconds=20, what="the lost gap to be closed")
    finally:
        thread.stop()
        thread.join(20)

    endings = dict(Gap.objects.values_list("subject", "ending"))
    assert endings == {"3": "PROCESS_ENDED", "4": "HEALED"}
    assert Gap.objects.get(subject="3").healed_at is None


# --- the whole path against a venue ------------------------------------------------------


async def follow(venue: VenueClient, act: Callable[[Live], Any]) -> None:
    """Run the live path with its writer against a venue until `act` is done."""
    clock, writer, stop = Clock(), Writer(), asyncio.Event()
    live = Live(shipped_rules(), clock=clock, writer=writer, confirm_terms=True)

    async def everything(_: Sequence[Followed]) -> Sequence[Followed]:
        async with VenueHttp(gamma_url=venue.url, clob_url=venue.url) as http:
            pages = [body async for body in Gamma(http).event_pages()]
        events = [each for body in pages for each in read_page(json.loads(body), rejected=[])]
        return [
            Followed(event.event_id, pairs)
            for event in events
            if (pairs := tuple(m.token_ids for m in event.markets if m.untradable is None))
        ]

    source = Venue(venue.url, venue.url, venue.ws_url, clock, live.pipeline.books, everything)
    writer.start()
    running = asyncio.create_task(live.run(source, stop=stop))
    try:
        await asyncio.to_thread(act, live)
    finally:
        stop.set()
        await running
        assert await asyncio.to_thread(lambda: writer.finish(timeout=20))


def settled(live: Live) -> bool:
    books = list(live.pipeline.books.by_market.values())
    return len(books) > 20 and sum(book.state == "fresh" for book in books) > len(books) * 0.8


@pytest.mark.django_db(transaction=True)
def test_reset_in_the_middle_of_a_frame_is_a_row_with_its_healing_time():
    def cut_off_for_a_moment(live: Live) -> None:
        wait_for(lambda: settled(live), seconds=20, what="the books")
        venue.fault("reset_mid_frame")
        wait_for(lambda: Gap.objects.exists(), seconds=20, what="the gap")
        venue.clear()
        wait_for(lambda: not Gap.objects.open(), seconds=30, what="the healing")

    publish_missing(at=timezone.now())
    with mock_venue(events=8) as venue:
        asyncio.run(follow(venue, cut_off_for_a_moment))

    rows = Gap.objects.filter(kind="CONNECTION").order_by("opened_at")
    assert rows
    assert all("reset" in row.reason and row.books > 20 for row in rows)
    assert all(0 < row.healing_seconds < 30 for row in rows)
    told = Heartbeat.objects.get(component="stream").detail
    assert told["open_gaps"] == 0
    newest = Gap.objects.order_by("-healed_at", "-id").first()
    assert told["last_healing_seconds"] == pytest.approx(newest.healing_seconds)
