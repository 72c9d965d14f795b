"""The past as frames: whatever it was read from, the same engine sees what was known then."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path

import pytest
from django.core.management import call_command

from markets.fills import SIZE_ONE
from markets.frames import CLOSED, OPENED, Frame, moment, unix_ns
from markets.models import Event, Gap, Market, Outcome, TermsChange, Tick
from markets.past import Gap as Hole
from markets.past import NotAPast, covered, merged, open_past, past_of_kept, past_of_ticks
from markets.past.columns import ColumnWriter, row_groups, sha256_of_rows
from markets.past.listed import ListedEvent, ListedMarket, made_ids
from markets.past.parquet import days, past_of_days, start_of
from markets.past.store import Source, prune, write_tops
from markets.past.tops import Top, told_frames, unknown
from markets.past.writing import write_day_of_ticks, write_recording
from markets.recording import RecordingWriter
from signals.kept import Keeping, Kept
from signals.live import recording_header
from signals.pipeline import Pipeline
from tests.live_cast import SECOND, START, rule, shipped_rules, simulated

DAY = date(2026, 3, 1)
NOON = start_of(DAY) + 12 * 3_600 * SECOND
HOUR = 3_600 * SECOND
FOREVER = 2**63 - 1


@pytest.fixture(scope="module")
def seconds() -> list[Frame]:
    return list(simulated(seconds=20))


def recorded(path: Path, frames: list[Frame]) -> Path:
    with RecordingWriter(path, header={}) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def told(frames) -> str:
    """Run frames through all shipped rules; return the digest of what they tell."""
    pipeline = Pipeline(shipped_rules())
    for frame in frames:
        pipeline.feed(frame)
    pipeline.stop()
    assert pipeline.digest.changes > 0
    return pipeline.digest.hexdigest()


# --- windows and gaps -----------------------------------------------------------------


def test_overlapping_gaps_are_counted_once_and_cut_to_the_window():
    gaps = (Hole(0, 30, "a"), Hole(20, 40, "b"), Hole(90, 200, "c"))

    assert covered(gaps, since=10, until=100) == 90 - 30 - 10
    assert [gap.since for gap in merged(gaps, since=10, until=100)] == [10, 20, 90]


def test_a_cut_connection_and_a_silence_are_gaps(tmp_path):
    frames = [
        Frame(START, "ws", b"[]", 1),
        Frame(START + SECOND, "ws", b"gone", 1, CLOSED),
        Frame(START + 5 * SECOND, "ws", b"", 1, OPENED),
        Frame(START + 6 * SECOND, "ws", b"[]", 1),
        Frame(START + 66 * SECOND, "ws", b"[]", 1),
    ]

    past = open_past(recorded(tmp_path / "a.jsonl", frames))

    assert [(gap.since - START, gap.until - START) for gap in past.gaps] == [
        (SECOND, 6 * SECOND), (36 * SECOND, 66 * SECOND),
    ]  # fmt: skip
    assert past.covered == 31 * SECOND
    assert past.share == pytest.approx(31 / 66)


# --- recordings and kept spans -----------------------------------------------------------


def test_a_recording_is_a_past_of_its_own_frames(tmp_path, seconds):
    past = open_past(recorded(tmp_path / "a.jsonl.gz", seconds))

    assert list(past.frames()) == seconds
    assert (past.kind, past.since, past.until) == ("books", seconds[0].t, seconds[-1].t)
    assert len(past.sha256) == 64


def test_from_some_moment_on_what_was_known_is_told_first(tmp_path, seconds):
    past = open_past(recorded(tmp_path / "a.jsonl", seconds))
    middle = seconds[len(seconds) // 2].t

    frames = list(past.frames(since=middle))
    whole, late = Pipeline((rule(),)), Pipeline((rule(),))
    for frame in seconds:
        whole.feed(frame)
    for frame in frames:
        late.feed(frame)

    assert frames[0].t == middle
    assert sum(frame in seconds for frame in frames) == sum(f.t >= middle for f in seconds)
    books = late.books.by_market
    assert {c: (b.bids, b.asks) for c, b in whole.books.by_market.items()} == {
        c: (books[c].bids, books[c].asks) for c in whole.books.by_market
    }
    assert [f.t < middle for f in past.frames(until=middle)].count(False) == 0


def test_kept_spans_are_a_past_and_a_restart_is_a_gap(tmp_path, seconds):
    for start in (0, 40):
        pipeline = Pipeline((rule(),))
        header = recording_header(pipeline.engine)
        writing = Kept(pipeline, Keeping(tmp_path, 24, 64, span_seconds=5.0), header=header)
        for frame in seconds:
            moved = Frame(frame.t + start * SECOND, frame.ch, frame.body, frame.conn, frame.req)
            writing.take(moved, pipeline.feed(moved))
        writing.close()

    past = past_of_kept(tmp_path, 0, FOREVER)

    cuts = [frame for frame in past.frames() if frame.req == CLOSED]
    assert len(cuts) > 0
    assert any("nothing was kept" in gap.why for gap in past.gaps)
    assert past.share < 0.7
    with pytest.raises(NotAPast, match="nothing is kept"):
        past_of_kept(tmp_path, 0, START - SECOND)


def test_what_holds_no_past_says_what_and_where(tmp_path):
    (tmp_path / "text.csv").write_text("hello\n")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "nowhere", tmp_path / "text.csv", tmp_path / "folder"):
        with pytest.raises(NotAPast) as refused:
            open_past(path)
        assert str(path) in refused.value.where


# --- the columnar store ------------------------------------------------------------------


def test_a_recording_written_as_parquet_comes_back_frame_by_frame(tmp_path, seconds):
    past = open_past(recorded(tmp_path / "a.jsonl.gz", seconds))

    written = list(write_recording(tmp_path / "store", past))

    again = open_past(tmp_path / "store")
    assert list(again.frames()) == seconds
    assert (again.kind, again.covered) == ("books", past.covered)
    assert sum(day.rows for day in written) == len(seconds)


def test_tops_of_a_recording_find_the_baskets_that_stand_at_the_touch(tmp_path, seconds):
    past = open_past(recorded(tmp_path / "a.jsonl", seconds))
    list(write_recording(tmp_path / "store", past, tops=True))

    tops = open_past(tmp_path / "store")
    full, touch = Pipeline((rule(),)), Pipeline((rule(),))
    for frame in seconds:
        full.feed(frame)
    for frame in tops.frames():
        touch.feed(frame)

    assert tops.kind == "tops"
    for condition, book in full.books.by_market.items():
        seen = touch.books.by_market[condition]
        if book.state == "fresh":
            assert (seen.bid, seen.ask) == (book.bid, book.ask)
    assert touch.digest.changes > 0


def some_tops(first: int, *, count: int, step: int) -> list[Top]:
    return [
        Top(first + n * step, f"m{n % 3}", 4_000 + n % 50, 5_000, 7 * SIZE_ONE, 8 * SIZE_ONE)
        for n in range(count)
    ]


def listing(first: int) -> list[Frame]:
    markets = tuple(ListedMarket(f"m{n}", f"{n}?", made_ids(f"m{n}")) for n in range(3))
    return [ListedEvent("e", "Event", markets).frame(first)]


def stored(folder: Path, rows: list[Top], *, gaps=()) -> list:
    source = Source("test", "", lambda: gaps)
    return list(write_tops(folder, listing(rows[0].t), rows, kind="tops", source=source))


def test_each_day_can_be_read_alone_and_days_together_repeat_nothing(tmp_path):
    rows = some_tops(NOON, count=60, step=HOUR)
    written = stored(tmp_path, rows)

    second = start_of(DAY + timedelta(days=1))
    alone = list(past_of_days(tmp_path, second, FOREVER).frames())
    together = [frame for frame in open_past(tmp_path).frames() if frame.ch == "ws"]

    assert [day.rows for day in written] == [12, 24, 24]
    assert alone[0].t == second and alone[0].ch == "gamma"
    assert len(together) == 60


def test_writing_again_changes_nothing_and_a_changed_day_is_replaced(tmp_path):
    rows = some_tops(NOON, count=10, step=SECOND)
    stored(tmp_path, rows)
    before = (tmp_path / f"day={DAY}" / "tops.parquet").stat().st_mtime_ns

    again = stored(tmp_path, rows)
    changed = stored(tmp_path, rows[:5])

    assert again[0].skipped and not changed[0].skipped
    assert (tmp_path / f"day={DAY}" / "tops.parquet").stat().st_mtime_ns != before
    assert days(tmp_path)[0].told.rows == 5


def test_a_day_that_was_not_finished_leaves_the_old_one(tmp_path):
    rows = some_tops(NOON, count=10, step=SECOND)
    stored(tmp_path, rows)

    def broken():
        yield from rows[:3]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        list(write_tops(tmp_path, (), broken(), kind="tops", source=Source("test", "")))

    assert [path.name for path in tmp_path.iterdir()] == [f"day={DAY}"]
    assert days(tmp_path)[0].told.rows == 10


def test_a_day_whose_process_died_while_it_was_replaced_is_put_back(tmp_path):
    stored(tmp_path, some_tops(NOON, count=10, step=SECOND))
    place = tmp_path / f"day={DAY}"
    place.rename(tmp_path / f".day={DAY}.999999999.before")
    (tmp_path / f".day={DAY}.999999999").mkdir()

    stored(tmp_path, some_tops(NOON + 3 * 24 * HOUR, count=2, step=SECOND))

    assert [day.day for day in days(tmp_path)] == [DAY, DAY + timedelta(days=3)]


def test_a_changed_value_is_found_by_the_check(tmp_path):
    stored(tmp_path, some_tops(NOON, count=10, step=SECOND))
    day = days(tmp_path)[0]
    assert sha256_of_rows(day.path) == day.told.sha256
    rows = [Top(*row) for columns in row_groups(day.path) for row in zip(*columns, strict=True)]

    writer = ColumnWriter(day.path, "tops.parquet")
    for number, row in enumerate(rows):
        writer.write(row._replace(bid_size=1) if number == 4 else row)
    writer.close(day.told)
    honest = days(tmp_path)[0]

    assert honest.told.sha256 != day.told.sha256
    assert past_of_days(tmp_path, 0, FOREVER).sha256 != ""


def test_old_days_are_deleted(tmp_path):
    stored(tmp_path, some_tops(NOON, count=60, step=HOUR))

    assert prune(tmp_path, before=DAY + timedelta(days=2)) == 2
    assert [day.day for day in days(tmp_path)] == [DAY + timedelta(days=2)]


# --- what is not known -----------------------------------------------------------------


def books_at(frames) -> dict[str, str]:
    pipeline = Pipeline(())
    for frame in frames:
        pipeline.feed(frame)
    return {book.market_id: book.state for book in pipeline.books.by_market.values()}


def test_in_a_gap_no_book_is_fresh_and_after_it_all_are_again():
    rows = some_tops(NOON, count=3, step=SECOND)
    gaps = [Hole(NOON + 10 * SECOND, NOON + 20 * SECOND, "connection cut")]
    ids = {f"m{n}": made_ids(f"m{n}") for n in range(3)}

    def until(t: int):
        return told_frames(listing(NOON), rows, gaps, ids=ids, until=t)

    assert set(books_at(until(NOON + 9 * SECOND)).values()) == {"fresh"}
    assert set(books_at(until(NOON + 15 * SECOND)).values()) == {"stale"}
    assert set(books_at(until(NOON + 21 * SECOND)).values()) == {"fresh"}


def test_a_market_that_is_not_known_is_stale_alone():
    rows = [*some_tops(NOON, count=3, step=SECOND), unknown(NOON + 5 * SECOND, "m1")]
    ids = {f"m{n}": made_ids(f"m{n}") for n in range(3)}

    states = books_at(told_frames(listing(NOON), rows, (), ids=ids))

    assert states == {"m0": "fresh", "m1": "stale", "m2": "fresh"}


# --- ticks of the database ------------------------------------------------------------------


@pytest.fixture
def ticks():
    """Two markets of one exclusive event; the tick and the state of one changed at one o'clock."""
    at = moment(NOON)
    event = Event.objects.create(pk="e", title="Who?", neg_risk=True, seen_at=at)
    for number in range(2):
        market = Market.objects.create(
            pk=f"{600 + number}", event=event, condition_id=f"0x{number:064x}",
            question=f"{number}?", state="TRADABLE", tick_size=D("0.001"), min_size=5,
            fee_rate=0, leg_number=number, seen_at=at,
        )  # fmt: skip
        for side in (0, 1):
            token = f"{1_000 + 2 * number + side}"
            Outcome.objects.create(token_id=token, market=market, index=side, label="Yes")
    for minute in range(120):
        Tick.objects.create(
            market_id=f"{600 + minute % 2}", at=at + timedelta(minutes=minute),
            bid=D("0.40"), ask=D("0.41") + D(minute % 7) / 100, bid_size=10, ask_size=20,
        )  # fmt: skip
    Market.objects.filter(pk="600").update(state="RESOLVED", payout=1)
    over = at + timedelta(hours=1)
    for field, old, new in (("TICK_SIZE", "0.01", "0.001"), ("STATE", "TRADABLE", "RESOLVED"),
                            ("PAYOUT", "", "1")):  # fmt: skip
        TermsChange.objects.create(
            market_id="600", event=event, at=over, field=field, old=old, new=new
        )
    Gap.objects.create(
        kind="CONNECTION", subject="1", books=2, ending="HEALED", healing_seconds=60,
        opened_at=at + timedelta(seconds=600), healed_at=at + timedelta(seconds=660),
    )  # fmt: skip


@pytest.mark.django_db
def test_ticks_are_a_past_with_the_terms_of_then(ticks):
    past = past_of_ticks(NOON, NOON + 2 * HOUR)
    pages = [frame for frame in past.frames() if frame.ch == "gamma"]

    first, last = Pipeline(()), Pipeline(())
    first.feed(pages[0])
    last.feed(pages[-1])

    then, now = first.events["e"].markets[0], last.events["e"].markets[0]
    assert (then.tick, then.untradable, then.payout) == (100, None, None)
    assert (now.tick, now.untradable, now.payout) == (10, "resolved", 1)
    assert pages[-1].t == NOON + HOUR
    assert first.events["e"].neg_risk and [m.leg_number for m in first.events["e"].markets] == [
        0,
        1,
    ]
    assert [gap.until - gap.since for gap in past.gaps] == [60 * SECOND]
    assert sum(frame.req == CLOSED for frame in past.frames()) == 1


@pytest.mark.django_db
def test_an_outcome_that_was_added_later_is_listed_from_then_on(ticks):
    TermsChange.objects.create(
        market_id="601", event_id="e", at=moment(NOON + HOUR // 2), field="LEG", old="", new="1"
    )

    pages = [f for f in past_of_ticks(NOON, NOON + 2 * HOUR).frames() if f.ch == "gamma"]

    legs = []
    for page in pages:
        pipeline = Pipeline(())
        pipeline.feed(page)
        legs.append((page.t - NOON, len(pipeline.events["e"].markets)))
    assert legs == [(0, 1), (HOUR // 2, 2), (HOUR, 2)]


@pytest.mark.django_db
def test_a_day_of_ticks_written_down_is_the_same_past(ticks, tmp_path):
    write_day_of_ticks(tmp_path, DAY)

    kept, stored_ticks = open_past(tmp_path), past_of_ticks(NOON, NOON + 24 * HOUR)

    assert [f for f in kept.frames() if f.ch == "ws"] == [
        f for f in stored_ticks.frames() if f.ch == "ws"
    ]
    assert kept.gaps == stored_ticks.gaps
    assert write_day_of_ticks(tmp_path, DAY).skipped
    assert write_day_of_ticks(tmp_path, DAY + timedelta(days=1)) is None


@pytest.mark.django_db
def test_history_writes_whole_days_that_are_not_there_yet(ticks, tmp_path, settings, capsys):
    settings.MPX_HISTORY_DIR = tmp_path

    call_command("history", "write", "--json")
    call_command("history", "write")
    call_command("history", "check")

    out = capsys.readouterr()
    assert '"rows": 12' in out.out and f"ticks {DAY}: ok" in out.out
    assert "nothing to write" in out.err


def test_times_are_read_and_written_the_same():
    at = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)

    assert moment(unix_ns(at)) == at
