"""History of others, one's own CSV: what is taken, what refused and where."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal as D
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from markets.fills import SIZE_ONE
from markets.past import NotAPast, open_past
from markets.past.imports import format_of, gaps_in, load
from markets.past.imports.reading import BadCell, moment_of
from markets.past.tops import Top
from signals.pipeline import Pipeline
from tests.live_cast import SECOND, shipped_rules
from tests.resolved import SHARED

needs_data = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared/data here")

OWN = """ts,market_id,outcome,bid,bid_size,ask,ask_size,event_id,neg_risk,fee_rate,tick_size
2026-03-01T12:00:00Z,a,,0.30,100,0.31,200,cup,1,0,0.01
2026-03-01T12:00:00Z,b,no,0.69,150,0.70,90,cup,1,0,0.01
2026-03-01T12:00:00Z,c,yes,0.20,100,0.33,80,cup,1,0,0.01
"""


class Imported:
    """What `history import` printed, and how it ended."""

    def __init__(self, *words: Any) -> None:
        out, err = StringIO(), StringIO()
        self.code = 0
        try:
            call_command("history", "import", *map(str, words), "--json", stdout=out, stderr=err)
        except SystemExit as end:
            self.code = int(str(end.code))
        self.rows = [json.loads(line) for line in out.getvalue().splitlines()]
        self.err = err.getvalue()


def changes_of(path: Path) -> list[Any]:
    pipeline, found = Pipeline(shipped_rules()), []
    for frame in open_past(path).frames():
        found += pipeline.feed(frame).changes
    return [*found, *pipeline.stop()]


# --- one's own CSV ------------------------------------------------------------------------


def test_ones_own_quotes_become_a_past_in_which_a_basket_is_found(tmp_path):
    """Three outcomes for 0.31 + 0.31 + 0.33: the second is told by its NO side."""
    (tmp_path / "own.csv").write_text(OWN)

    told = Imported(tmp_path / "own.csv", "--out", tmp_path / "out").rows[0]

    assert (told["format"], told["kind"], told["read"], told["taken"]) == ("quotes", "tops", 3, 3)
    found = changes_of(tmp_path / "out")
    assert {each.finding.verdict for each in found} == {"EXECUTABLE"}
    assert found[0].finding.kind == "yes_basket"
    sizes = {leg.size for leg in found[0].finding.legs}
    assert sizes == {D(80)}


def test_the_second_outcome_is_the_mirror(tmp_path):
    (tmp_path / "own.csv").write_text(OWN)

    (loaded,) = load([tmp_path / "own.csv"])

    rows = {row.market_id: row[2:] for row in loaded.rows}
    assert rows["b"] == (3_000, 3_100, 90 * SIZE_ONE, 150 * SIZE_ONE)


BAD = {
    "noon,a,,0.3,1,0.4,1,,,,": ("ts", "is no time"),
    "1772366400,a,,0.5,1,0.4,1,,,,": ("bid", "is not below the ask (crossed)"),
    "1772366400,a,,0.3,,0.4,1,,,,": ("bid_size", "is nothing, with a price"),
    "1772366400,a,,0.3,-1,0.4,1,,,,": ("bid_size", "is no number of shares"),
    "1772366400,a,,1.3,1,0.4,1,,,,": ("bid", "is no price between 0 and 1"),
    "1772366400,a,,NaN,1,0.4,1,,,,": ("bid", "is no number"),
    "1772366400,a,maybe,0.3,1,0.4,1,,,,": ("outcome", "is neither 0, yes, 1 nor no"),
    "1772366400,,,0.3,1,0.4,1,,,,": ("market_id", "is no id"),
}


@pytest.mark.parametrize("row", BAD, ids=lambda row: BAD[row][0] + " " + BAD[row][1])
def test_a_row_that_cannot_be_is_refused_with_line_and_column(tmp_path, row):
    (tmp_path / "own.csv").write_text(f"{OWN}{row}\n")

    told = Imported(tmp_path / "own.csv", "--out", tmp_path / "out").rows[0]

    (refused,) = told["refused_rows"]
    assert (refused["line"], refused["column"], refused["why"]) == (5, *BAD[row])
    assert told["taken"] == 3


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T12:00:00Z", "2026-03-01 12:00:00", "1772366400", "1772366400000",
     "1772366400000000", "1772366400000000000"],
)  # fmt: skip
def test_times_may_be_written_in_any_usual_way(text):
    assert moment_of(text, "ts") == 1_772_366_400 * SECOND


@pytest.mark.parametrize("text", ["", "-5", "inf", "yesterday", "9" * 30])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(BadCell):
        moment_of(text, "ts")


# --- files that cannot be read ---------------------------------------------------------------


def test_an_unknown_file_says_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("when,what\n1,2\n")

    told = Imported(tmp_path / "a.csv", "--out", tmp_path / "out")

    assert told.code == 4
    assert "its columns are what, when" in told.rows[0]["error"]
    assert str(tmp_path / "a.csv") in told.rows[0]["where"]


def test_a_cut_archive_is_refused_by_name(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(OWN.encode())[:-20])

    with pytest.raises(NotAPast, match=r"a\.csv\.gz"):
        list(load([tmp_path / "a.csv.gz"]))


def test_a_listing_is_no_history(tmp_path):
    (tmp_path / "page.json").write_text(json.dumps([{"id": "1", "conditionId": "0x1"}]))

    with pytest.raises(NotAPast, match="lists markets at one moment"):
        format_of(tmp_path / "page.json")


def test_nothing_is_written_of_a_file_without_a_good_row(tmp_path):
    (tmp_path / "own.csv").write_text(OWN.splitlines()[0] + "\nnoon,a,,0.3,1,0.4,1,,,,\n")

    assert Imported(tmp_path / "own.csv", "--out", tmp_path / "out").code == 4
    assert not (tmp_path / "out").exists()


# --- what may be concluded ----------------------------------------------------------------


def bare(folder: Path) -> Path:
    rows = ["ts,slug,bid,ask"]
    for minute in range(30):
        rows += [f"2026-03-01T12:{minute:02}:00Z,cup-{name},0.20,0.25" for name in "abc"]
    (folder / "bare.csv").write_text("\n".join(rows))
    return folder / "bare.csv"


def test_prices_without_sizes_never_make_anything_executable(tmp_path):
    told = Imported(bare(tmp_path), "--out", tmp_path / "out").rows[0]

    assert told["kind"] == open_past(tmp_path / "out").kind == "prices"
    assert not {"EXECUTABLE", "THIN"} & {c.finding.verdict for c in changes_of(tmp_path / "out")}


def test_assumed_sizes_are_said_in_the_name(tmp_path):
    Imported(bare(tmp_path), "--out", tmp_path / "out", "--assume-size", "50", "--assume-fee", "0")

    past = open_past(tmp_path / "out")
    assert past.kind == "tops"
    told = call("list", tmp_path / "out")
    assert "sizes are assumed: 50 shares" in told


def call(act: str, folder: Path) -> str:
    out = StringIO()
    call_command("history", act, "--folder", str(folder), stdout=out)
    return out.getvalue()


def test_results_are_told_after_the_last_quote_and_not_before(tmp_path):
    (tmp_path / "labels.csv").write_text("slug,y\ncup-a,1\ncup-b,0\ncup-c,0\n")
    Imported(bare(tmp_path), tmp_path / "labels.csv", "--out", tmp_path / "out")

    frames = list(open_past(tmp_path / "out").frames())
    result = next(n for n, f in enumerate(frames) if f.ch == "gamma" and b"resolved" in f.body)

    assert all(frame.ch == "gamma" for frame in frames[result:])


def test_a_pace_of_its_own_decides_what_is_a_gap():
    minute = 60 * SECOND
    rows = [Top(n * 10 * minute, "a", 1, 2, 1, 1) for n in (0, 1, 2, 3, 20, 21)]

    (gap,) = gaps_in(rows)

    assert (gap.since, gap.until) == (60 * minute, 200 * minute)


# --- the real data ----------------------------------------------------------------------------

REAL = {
    "history/historical_events.json.gz": ("price-history", "prices", 54_495, 54_495),
    "us_quotes/quotes_2026-07-12_resolved_games.csv.gz": ("bare-quotes", "prices", 65_314, 64_384),
    "tob/btc_updown_5m_2026-02-18_both_sides.csv.gz": ("both-sides", "prices", 38_102, 38_085),
    "tob/spanishflu_prices_2026-02-04.csv.gz": ("price-rows", "prices", 5_000, 5_000),
    "tob/polybot_3882bc.json.gz": ("top-dump", "tops", 691, 691),
    "trades/wallet_a_btc-updown-15m-1767556800.csv.gz": ("trades", "prices", 421, 421),
    "bad/us_crossed_quotes_2026-07-11.csv.gz": ("bare-quotes", "prices", 7_106, 5_690),
    "bad/yosi_snapshots_2026-01-02.csv.gz": ("snapshots", "prices", 10_800, 9_061),
}


@needs_data
@pytest.mark.parametrize("file", REAL)
def test_public_formats_are_known_by_their_columns(file):
    (loaded,) = load([SHARED / file])

    assert (loaded.format, loaded.kind, loaded.read, len(loaded.rows)) == REAL[file]
    refused = sum(loaded.refused.values())
    assert len(loaded.samples) == min(refused, 20)
    assert all(each.line > 0 and each.column for each in loaded.samples)


@needs_data
def test_a_recorder_that_wrote_the_worst_level_first_is_refused_as_a_whole():
    with pytest.raises(NotAPast, match="worst level"):
        list(load([SHARED / "bad/btc_updown_2026-02-17_worst_level_first_bug.csv.gz"]))


@needs_data
def test_crossed_quotes_are_rows_of_data_quality():
    (loaded,) = load([SHARED / "bad/us_crossed_quotes_2026-07-11.csv.gz"])

    assert loaded.refused["is not below the ask (crossed)"] == 241


@needs_data
def test_a_real_history_goes_in_and_comes_out_and_nothing_is_executable(tmp_path):
    Imported(SHARED / "history/historical_events.json.gz", "--out", tmp_path)

    past = open_past(tmp_path)
    verdicts = {change.finding.verdict for change in changes_of(tmp_path)}

    assert (past.kind, past.share) == ("prices", 1.0)
    assert not {"EXECUTABLE", "THIN"} & verdicts
