"""Ticks on TimescaleDB: chunks, key, compression, candles, pruning; and none of it without.

Run against one: MPX_TEST_DATABASE_URL=postgres://... pytest tests/test_postgres.py
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from markets import tick_room, timescale
from markets.candles import candles
from markets.models import Quote, Tick
from markets.tick_room import Job, Room
from mpx_site import doctor_storage
from tests.api_cast import a_market

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def on_timescale(transactional_db: None) -> None:
    if not timescale.has_timescale(connection):
        pytest.skip("this database has no TimescaleDB: let MPX_TEST_DATABASE_URL name one")


def add(*ages: timedelta) -> None:
    Tick.objects.bulk_create(
        [Tick(market_id="m", at=NOW - age, bid=Decimal("0.4"), ask=Decimal("0.5")) for age in ages]
    )


def one(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def by_time() -> list[str]:
    """Return the indexes that begin with the time, of the table that all chunks are like."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "markets_tick")
    return [name for name, each in found.items() if each["index"] and each["columns"][0] == "at"]


# --- where it is -------------------------------------------------------------


@pytest.mark.postgres(only=True)
@pytest.mark.usefixtures("on_timescale")
def test_ticks_are_in_chunks_and_a_second_of_one_moment_is_refused():
    add(DAY * 0, DAY, 2 * DAY)

    assert timescale.has_hypertable(connection, "markets_tick")
    assert one("SELECT count(*) FROM show_chunks('markets_tick')") == 3
    assert set(by_time()) == {"markets_tick_at_brin"}
    with pytest.raises(IntegrityError), transaction.atomic():
        add(DAY)
    assert Tick.objects.get(pk=("m", NOW - DAY)).bid == Decimal("0.4")


@pytest.mark.postgres(only=True)
@pytest.mark.usefixtures("on_timescale")
def test_pruning_drops_whole_days_and_keeps_their_candles():
    add(DAY * 0, 10 * DAY)
    hour = {"since": NOW - 11 * DAY, "until": NOW, "width": "1h"}
    with connection.cursor() as cursor:
        cursor.execute("CALL refresh_continuous_aggregate('market_candle_1h', NULL, NULL)")

    assert tick_room.prune(before=NOW - 7 * DAY) == 1

    assert [tick.at for tick in Tick.objects.all()] == [NOW]
    assert len(candles("m", **hour)) == 2


@pytest.mark.postgres(only=True)
@pytest.mark.usefixtures("on_timescale")
def test_jobs_that_the_server_does_not_do_are_done_by_hand():
    add(DAY * 0, 5 * DAY)

    done = tick_room.run_late_jobs(at=NOW + 10 * DAY)

    assert set(done) == {"policy_compression", "policy_refresh_continuous_aggregate"}
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
    assert one(compressed + " AND hypertable_name = 'markets_tick'") == 1
    seen = doctor_storage.hypertable()
    assert (seen.state, "3 policies" in seen.text) == ("warn", True)  # as the server has not run


@pytest.mark.postgres(only=True)
@pytest.mark.usefixtures("on_timescale")
def test_a_plain_table_is_turned_into_chunks_with_its_rows():
    add(DAY * 0, DAY)
    with connection.cursor() as cursor:
        cursor.execute("DROP MATERIALIZED VIEW market_candle_1h")
        cursor.execute("DROP MATERIALIZED VIEW market_candle_1m")
        cursor.execute("CREATE TABLE plain (LIKE markets_tick INCLUDING ALL)")
        cursor.execute("DROP INDEX plain_at_idx")
        cursor.execute("INSERT INTO plain SELECT * FROM markets_tick")
        cursor.execute("DROP TABLE markets_tick")
        cursor.execute("ALTER TABLE plain RENAME TO markets_tick")
        cursor.execute("ALTER INDEX plain_pkey RENAME TO markets_tick_pkey")
    assert doctor_storage.hypertable().state == "warn"
    with pytest.raises(CommandError):
        call_command("timescale", "--check")

    out = StringIO()
    call_command("timescale", stdout=out)

    assert out.getvalue() == "done: hypertable, policies\n"
    assert Tick.objects.count() == 2
    assert by_time() == ["markets_tick_at_brin"]
    assert timescale.has_view(connection, "market_candle_1m")
    call_command("timescale", "--check", stdout=StringIO())


# --- where it is not, and everywhere -----------------------------------------


@pytest.mark.django_db
def test_pruning_deletes_old_ticks_of_markets_that_were_quoted():
    Quote.objects.create(market=a_market("m"), state="fresh", at=NOW)
    add(DAY * 0, 10 * DAY)

    assert tick_room.prune(before=NOW - 7 * DAY) == 1
    assert tick_room.run_late_jobs(at=NOW) == []


@pytest.mark.django_db
def test_doctor_foresees_what_ticks_will_take(settings):
    settings.TICKS_KEPT_DAYS = 14
    Quote.objects.create(market=a_market("m"), state="fresh", at=NOW)
    assert "too little history" in doctor_storage.ticks().text

    add(DAY * 0, 7 * DAY)

    seen = doctor_storage.ticks()
    assert "for 7.0 days; about" in seen.text
    assert "with 14 days kept" in seen.text


def test_the_pace_until_now_goes_on():
    room = Room(size=1_000, first=NOW - 2 * DAY, last=NOW, saved=0)

    assert room.expected(7) == 3_500
    assert Room(size=1_000, first=NOW, last=NOW, saved=0).expected(7) is None
    assert Room(size=1_000, first=None, last=None, saved=0).expected(7) is None


def test_a_job_is_late_when_three_of_its_periods_went_without_success():
    job = Job(1, "compression", timedelta(hours=12), NOW - timedelta(hours=36))

    assert not job.is_late(NOW, since=NOW - 9 * DAY)
    assert job.is_late(NOW + timedelta(seconds=1), since=NOW - 9 * DAY)
    never = Job(1, "compression", timedelta(hours=12), None)
    assert not never.is_late(NOW, since=NOW - DAY)
    assert never.is_late(NOW, since=NOW - 2 * DAY)


@pytest.mark.django_db
def test_a_server_without_it_is_named():
    if timescale.is_offered(connection):
        pytest.skip("this server has TimescaleDB")

    assert doctor_storage.hypertable().state == "ok"
    with pytest.raises(CommandError) as refused:
        call_command("timescale")
    assert refused.value.returncode == 3
