"""The data-quality ledger: what was known of each market in a window, and why the rest was not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts.models import Trouble
from markets.ledger import coverage_of
from markets.models import Gap, Market, Quarantine, Quote

pytestmark = pytest.mark.django_db

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
UNTIL = SINCE + 10 * HOUR


@pytest.fixture
def two_markets():
    for pk, state in (("600", "TRADABLE"), ("601", "TRADABLE")):
        Market.objects.create(
            pk=pk, question=f"{pk}?", state=state, tick_size="0.01", min_size="5", seen_at=SINCE
        )
        Quote.objects.create(market_id=pk, bid="0.4", ask="0.5", state="fresh", at=UNTIL - HOUR)
    Market.objects.update(created_at=SINCE - HOUR)


def gap(kind, subject, opened, healed=None, *, ending="HEALED", reason="cut"):
    Gap.objects.create(
        kind=kind,
        subject=subject,
        reason=reason,
        books=2,
        opened_at=opened,
        healed_at=healed,
        healing_seconds=(healed - opened).total_seconds() if healed else None,
        ending=ending,
    )


def test_without_a_gap_all_is_covered(two_markets):
    told = coverage_of(SINCE, UNTIL)

    assert told.share == 1
    assert [(each.market_id, each.followed) for each in told.markets] == [
        ("600", 10 * HOUR), ("601", 10 * HOUR),
    ]  # fmt: skip


def test_nothing_followed_has_no_share():
    assert coverage_of(SINCE, UNTIL).share is None


def test_a_cut_connection_counts_against_all_and_a_dead_asset_against_its_own(two_markets):
    gap("CONNECTION", "1", SINCE + HOUR, SINCE + 2 * HOUR)
    gap("ASSET", "601", SINCE + 90 * MINUTE, SINCE + 3 * HOUR, reason="drift")

    told = coverage_of(SINCE, UNTIL)

    assert [(each.market_id, each.missing, each.breaks) for each in told.markets] == [
        ("601", 2 * HOUR, 1), ("600", HOUR, 0),
    ]  # fmt: skip
    assert told.share == pytest.approx(17 / 20)
    assert told.blind == HOUR
    assert [(each.kind, each.total) for each in told.missing] == [
        ("ASSET", 90 * MINUTE), ("CONNECTION", HOUR),
    ]  # fmt: skip
    assert [(each.connection, each.epochs, each.cut) for each in told.epochs] == [("1", 2, HOUR)]


def test_gaps_that_reach_out_of_the_window_count_as_far_as_they_lie_in_it(two_markets):
    gap("CONNECTION", "1", SINCE - HOUR, SINCE + HOUR)
    gap("CONNECTION", "2", UNTIL - HOUR, ending="")
    gap("CONNECTION", "3", SINCE - 3 * HOUR, SINCE - 2 * HOUR)

    told = coverage_of(SINCE, UNTIL)

    assert told.blind == 2 * HOUR
    assert [each.connection for each in told.epochs] == ["1", "2"]


def test_overlapping_gaps_count_once(two_markets):
    gap("CONNECTION", "1", SINCE + HOUR, SINCE + 3 * HOUR)
    gap("CONNECTION", "2", SINCE + 2 * HOUR, SINCE + 4 * HOUR)

    assert coverage_of(SINCE, UNTIL).blind == 3 * HOUR


def test_the_streams_silence_is_a_gap_of_everything(two_markets):
    Trouble.objects.create(component="stream", since=SINCE + HOUR, ended_at=SINCE + 2 * HOUR)
    Trouble.objects.create(component="worker", since=SINCE, ended_at=UNTIL)

    told = coverage_of(SINCE, UNTIL)

    assert told.share == pytest.approx(0.9)
    assert [(each.kind, each.count) for each in told.missing] == [("STREAM", 1)]


def test_a_market_counts_from_when_it_was_known_until_it_was_over(two_markets):
    Market.objects.filter(pk="600").update(created_at=SINCE + 5 * HOUR)
    Market.objects.filter(pk="601").update(state="RESOLVED")

    followed = {each.market_id: each.followed for each in coverage_of(SINCE, UNTIL).markets}

    assert followed == {"600": 5 * HOUR, "601": 9 * HOUR}


def test_contradictions_with_rest_are_named(two_markets):
    Quarantine.objects.create(
        source="ws", reason="drift", subject="600", count=3, first_at=SINCE, last_at=SINCE + HOUR
    )
    Quarantine.objects.create(
        source="ws", reason="unknown_field", count=9, first_at=SINCE, last_at=SINCE + HOUR
    )

    assert [(each.market_id, each.count) for each in coverage_of(SINCE, UNTIL).drift] == [
        ("600", 3)
    ]
