"""Backtests: the same signals as live, honest fills, the seven checks and cheats that they find."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from msgspec.structs import replace as with_fields

from execution.backtest import checks, jobs, report, writing
from execution.backtest.checks import Ran, honest
from execution.backtest.grid import BadGrid, read_axis, variants_of
from execution.backtest.jobs import Cancelled, Plan
from execution.backtest.passing import Part, lanes_of
from execution.backtest.sources import opened
from execution.backtest.statistics import deflated, drawdown, sharpe
from execution.backtest.terms import FillTerms, read_terms
from execution.backtest.trades import Trade
from markets.frames import Frame
from markets.recording import Recording, RecordingWriter
from rules.dsl import read_dir
from signals.pipeline import Pipeline
from tests.live_cast import SECOND, SHIPPED, run_live, shipped_rules, simulated
from tests.resolved import shared

DUTCH = "DUTCH_BOOK_DETECT"


def definitions():
    return [file.definition for file in read_dir(SHIPPED.parent)[0]]


def dutch_variants(*axes: str):
    found = [each for each in definitions() if each.code == DUTCH]
    return variants_of(found, [read_axis(axis) for axis in axes])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("past") / "sim.jsonl.gz"
    with RecordingWriter(path, header={}) as writer:
        for frame in simulated(seconds=45):
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def plan(recorded: Path) -> Plan:
    return Plan(dutch_variants(), FillTerms(), opened(recorded).past)


def answered(plan: Plan, folder: Path, **options: Any) -> report.Answer:
    return report.answer(plan, folder, tell=lambda done, total: True, **options)


# --- the same signals ------------------------------------------------------------------


def test_planted_arbitrages_have_the_same_ids_live_replayed_and_backtested(tmp_path):
    file = tmp_path / "live.jsonl"
    live = run_live(file, feed=simulated(seconds=25), speed=8)
    replay = Pipeline(shipped_rules())
    replayed = [each for frame in Recording(file) for each in replay.feed(frame).changes]
    replayed += replay.stop()
    data = opened(file)
    every = Plan(
        variants_of(definitions()),
        FillTerms(),
        data.past,
        confirm_terms=data.confirm_terms,
    )

    told = answered(every, tmp_path / "run")

    executable = {c.key for c in replayed if c.level == "P1"}
    found = {c.key for c in replayed if c.rule.code == DUTCH}
    hits = {hit["key"]: hit for hit in jobs.hits_in_order(told.done.hits)}
    assert replay.digest.hexdigest() == live.digest
    assert len(executable) >= 3
    assert executable == {key for key, hit in hits.items() if hit["level"] == "P1"}
    assert found == {key for key, hit in hits.items() if hit["rule"] == DUTCH}


def test_one_group_gives_the_changes_of_a_replay_byte_for_byte(recorded):
    part = Part(variants_of(definitions()), FillTerms(), (), heard=lambda c: told.append(c.line()))
    told: list[str] = []
    pipeline = Pipeline([each.rule for each in variants_of(definitions())])

    for frame in Recording(recorded):
        part.take(frame)
    part.finish()

    replayed = [c.line() for frame in Recording(recorded) for c in pipeline.feed(frame).changes]
    replayed += [change.line() for change in pipeline.stop(why="end_of_data")]
    assert told == replayed
    assert len(told) > 50


# --- one pass, any number of processes -------------------------------------------------


def test_any_number_of_processes_comes_to_the_same(plan, tmp_path):
    one = answered(plan, tmp_path / "one")
    two = answered(plan, tmp_path / "two", processes=2)

    assert one.results == two.results
    assert one.results[0]["trades"] > 5
    hits = list(map(list, map(jobs.hits_in_order, (one.done.hits, two.done.hits))))
    assert hits[0] == hits[1]


def test_cancelled_run_goes_on_with_the_parts_that_are_left(plan, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Cancelled):
        calls = itertools.count()
        jobs.TELL_SECONDS, before = 0.0, jobs.TELL_SECONDS
        try:
            report.answer(plan, folder, parts=4, tell=lambda done, total: next(calls) < 20)
        finally:
            jobs.TELL_SECONDS = before
    kept = list(folder.glob("group-*.pickle"))

    went_on = answered(plan, folder, parts=4)

    assert kept
    assert went_on.done.resumed == len(kept)
    assert went_on.results == answered(plan, tmp_path / "afresh").results


def test_other_terms_do_not_go_on_with_what_another_run_left(plan, tmp_path):
    answered(plan, tmp_path)

    other = answered(replace(plan, terms=FillTerms(latency_ms=5_000)), tmp_path)

    assert other.done.resumed == 0


# --- sets of parameters -----------------------------------------------------------------


def test_each_combination_of_values_is_a_set_and_the_first_keeps_the_rules_code():
    made = dutch_variants("dedupe.persist_ms=250,500", f"{DUTCH}:params.min_edge_bps=20,40")

    assert [each.rule.code for each in made] == [DUTCH, f"{DUTCH}@1", f"{DUTCH}@2", f"{DUTCH}@3"]
    assert made[0].rule.sha256 == dutch_variants()[0].rule.sha256
    assert made[3].label == "dedupe.persist_ms=500 params.min_edge_bps=40"
    assert {each.rule.definition.dedupe.persist_ms for each in made} == {250, 500}


@pytest.mark.parametrize("text", ["nothing", "dedupe.persist_ms=", "a..b=1", "no.such=1"])
def test_set_that_says_nothing_is_refused(text):
    with pytest.raises(BadGrid):
        dutch_variants(text)


def test_value_that_the_rule_does_not_allow_is_refused_with_its_place():
    with pytest.raises(BadGrid, match="persist_ms"):
        dutch_variants("dedupe.persist_ms=-5")


# --- fills ------------------------------------------------------------------------------


def test_every_trade_is_counted_once_and_on_books_after_its_arrival(plan, recorded):
    part = Part(plan.variants, plan.terms, lanes_of(plan.terms))
    for frame in Recording(recorded):
        part.take(frame)
    found = part.finish()[DUTCH]

    for lane in lanes_of(plan.terms):
        trades = found.trades[lane.name]
        keys = [trade.key for trade in trades]
        assert len(keys) == len(set(keys))
        earliest = lane.latency_ms * 1_000_000
        assert all(t.ended_at >= t.decided_at + earliest for t in trades if not t.open_at_end)
        assert all(leg.bought <= leg.wanted for trade in trades for leg in trade.legs)


def test_drawn_latencies_depend_on_the_signal_alone():
    terms = FillTerms(latencies_ms=(100, 200, 300), seed=3)

    drawn = [terms.drawn(key) for key in ("a", "b", "c", "d", "e", "f")]

    assert drawn == [terms.drawn(key) for key in ("a", "b", "c", "d", "e", "f")]
    assert len(set(drawn)) > 1
    assert FillTerms().drawn("a") is None


def test_terms_are_stored_and_read_back_as_they_were():
    terms = FillTerms(latency_ms=7, depth_share=Decimal("0.3"), latencies_ms=(1, 2))

    assert read_terms(json.loads(json.dumps(terms.row()))) == terms


def test_caps_of_the_desk_leave_trades_out(plan, tmp_path):
    free = answered(plan, tmp_path / "free").results[0]
    tight = replace(plan, terms=FillTerms(day_usd=Decimal(300)))

    capped = answered(tight, tmp_path / "tight").results[0]

    assert capped["left_out"]["day_usd"] + capped["trades"] == free["trades"]
    assert Decimal(capped["paid"]) <= 300


# --- the seven checks, and cheats ---------------------------------------------------------


def found(plan: Plan, tmp_path: Path, way: checks.Way = honest) -> dict[int, checks.Check]:
    return {c.number: c for c in checks.checked(plan, tmp_path, tell=lambda text: None, way=way)}


def test_honest_way_passes_what_the_data_allow_to_be_checked(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "PACED_SECONDS", 0.5)

    told = found(plan, tmp_path)

    assert [told[number].ok for number in (1, 2, 4, 5, 6)] == [True] * 5
    assert told[3].ok is None  # nothing resolves in 45 simulated seconds
    assert told[7].ok in (None, True)  # too few samples are said to be too few


def peeking(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
    """Cheat: know each frame at the time of one that came a while before."""
    held = list(frames)
    early = (with_fields(each, t=held[max(0, n - 400)].t) for n, each in enumerate(held))
    return honest(plan, early, marks)


def test_looking_ahead_is_found(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "SPEEDS", ())

    told = found(plan, tmp_path, peeking)

    assert told[1].ok is False
    assert told[2].ok is False


def overstating(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
    """Cheat: promise and book a tenth of what was paid on top."""
    ran = honest(plan, frames, marks)
    for trade in itertools.chain.from_iterable(ran.trades.values()):
        trade.claimed += trade.paid / 10 + 10
    return ran


def test_more_than_there_was_is_found(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "SPEEDS", ())

    assert found(plan, tmp_path, overstating)[4].ok is False


def rewarding_delay(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
    """Cheat: book more for orders that come late, whatever their books offered."""
    ran = honest(plan, frames, marks)
    for trade in ran.trades[f"latency {checks.LATENCIES_MS[-1]}"]:
        trade.secured += 10
    return ran


def test_gain_that_grows_with_latency_is_found(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "SPEEDS", ())

    assert found(plan, tmp_path, rewarding_delay)[5].ok is False


def test_result_that_depends_on_the_pace_is_found(plan, tmp_path, monkeypatch):
    runs = itertools.count()

    def hurried(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
        ran = honest(plan, frames, marks)
        ran.digest += str(next(runs))  # as if the clock on the wall were part of it
        return ran

    monkeypatch.setattr(checks, "PACED_SECONDS", 0.2)

    assert found(plan, tmp_path, hurried)[6].ok is False


def resolving(recorded: Path) -> Iterator[Frame]:
    """The recording, and at its end a listing in which one event is resolved."""
    last, page = 0, None
    for frame in Recording(recorded):
        if page is None and frame.ch == "gamma" and frame.req and "house" not in frame.req:
            page = json.loads(frame.body)
        last = frame.t
        yield frame
    assert page is not None
    _resolve(page)
    yield Frame(last + SECOND, "gamma", json.dumps(page).encode(), None, "/events")


def _resolve(part: Any) -> None:
    for each in part if isinstance(part, list) else list(part.values()):
        if isinstance(each, list | dict):
            _resolve(each)
    if isinstance(part, dict) and "outcomePrices" in part:
        part |= {"closed": True, "outcomePrices": '["1", "0"]', "umaResolutionStatus": "resolved"}


@pytest.fixture(scope="module")
def resolved_plan(recorded, tmp_path_factory) -> Plan:
    path = tmp_path_factory.mktemp("past") / "resolved.jsonl"
    with RecordingWriter(path, header={}) as writer:
        for frame in resolving(recorded):
            writer.write(frame)
    return Plan(dutch_variants(), FillTerms(), opened(path).past)


def test_endings_are_not_known_before_they_are_told(resolved_plan):
    told = checks._unreadable(resolved_plan, honest, lambda text: None)

    assert told.ok is True
    assert "markets resolve" in told.told


def test_reading_how_it_ends_is_found(resolved_plan):
    def knowing(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
        held = list(frames)
        ran = honest(plan, iter(held), marks)
        ending = held[-1].body.count(b'["1", "0"]') + held[-1].body.count(b'[\\"1\\", \\"0\\"]')
        ran.marks = {at: (f"{digest}{ending}", n) for at, (digest, n) in ran.marks.items()}
        return ran

    assert checks._unreadable(resolved_plan, knowing, lambda text: None).ok is False


# --- figures ------------------------------------------------------------------------------


def test_drawdown_is_the_deepest_fall_below_a_peak():
    assert drawdown([1, 3, 2, 5, 1, 4]) == 4
    assert drawdown([-2, -1]) == 2
    assert drawdown([]) == 0


def test_the_best_of_many_useless_tries_is_no_evidence():
    returns = [0.02, -0.01, 0.03, 0.01, -0.02, 0.02, 0.01, 0.0, 0.02, -0.01]
    alone = deflated(returns, [sharpe(returns)])
    of_many = deflated(returns, [sharpe(returns), *(n / 10 - 1 for n in range(40))])

    assert alone.threshold == 0
    assert alone.probability > of_many.probability
    assert of_many.trials == 41
    assert not of_many.row()["evidence"]


# --- the command -----------------------------------------------------------------------------


def ran(*options: str) -> tuple[int, str, str]:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command("backtest", *options, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_command_runs_a_recording_without_a_database_and_writes_its_hits(recorded, tmp_path):
    hits = tmp_path / "hits.csv"
    code, out, _ = ran(
        "--rule", DUTCH, "--from-recording", str(recorded), "--no-store", "--shipped",
        "--csv-out", str(hits), "--json",
    )  # fmt: skip

    told = json.loads(out)
    with hits.open() as file:
        rows = list(csv.DictReader(file))
    assert code == 0
    assert told["data"]["coverage"] == 1.0
    assert told["data"]["sha256"]
    assert told["results"][0]["rule"] == DUTCH
    assert [p["latency_ms"] for p in told["results"][0]["latency"]] == list(FillTerms().curve_ms)
    assert len(rows) == told["results"][0]["signals"] > 5
    assert {row["level"] for row in rows} >= {"P1"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--from-recording", "/nowhere"), 4),
        (("--from-recording", "{file}", "--rule", "NO_SUCH_RULE"), 2),
        (("--from-recording", "{file}", "--set", "no.such=1"), 2),
        (("--from-recording", "{file}", "--csv-out", "/no/such/folder/x.csv"), 2),
        (("--start", "2026-02-02T00:00:00Z", "--end", "2026-02-01T00:00:00Z"), 2),
        (("--from-recording", "{file}", "--start", "2030-01-01T00:00:00Z"), 4),
        (("--from-recording", "{file}", "--fail-under", "hits=100000", "--rule", DUTCH), 1),
    ],
)
def test_command_says_by_its_exit_code_what_went_wrong(recorded, options, code):
    given = [option.format(file=recorded) for option in options]

    ended, _, err = ran(*given, "--no-store", "--shipped")

    assert ended == code
    assert "backtest:" in err


def test_dry_run_says_what_would_run(recorded):
    code, out, _ = ran("--from-recording", str(recorded), "--shipped", "--dry-run", "--json",
                       "--set", "dedupe.persist_ms=250,500")  # fmt: skip

    told = json.loads(out)
    assert code == 0
    assert len(told["variants"]) == 2 * len(definitions())
    assert told["data"]["kind"] == "books"


# --- real data ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "more", "kind"),
    [
        ("us_quotes/quotes_2026-07-12_resolved_games.csv.gz", ("--assume-size", "500"), "tops"),
        ("history/historical_events.json.gz", (), "prices"),
    ],
)
def test_real_history_backtests_end_to_end_with_coverage(tmp_path, file, more, kind):
    source, folder = shared(file), tmp_path / "history"
    if not source.exists():
        pytest.skip(f"{source} is not there")
    call_command("history", "import", str(source), *more, "--out", str(folder), stdout=StringIO())

    code, out, _ = ran("--from-recording", str(folder), "--rule", "TREND_BREAKOUT",
                       "--no-store", "--shipped", "--json", "--curve", "0")  # fmt: skip

    told = json.loads(out)
    assert code == 0
    assert told["data"]["kind"] == kind
    assert 0 < told["data"]["coverage"] <= 1
    assert told["results"][0]["signals"] > 0
    if kind == "prices":
        assert told["results"][0]["trades"] == 0


def test_captured_is_never_above_what_there_was_not_even_by_rounding():
    trade = Trade(
        key="k", rule=DUTCH, kind="yes_basket", sort="basket", event_id="7", market_ids=("1",),
        decided_at=0, claimed=Decimal(1), notional=Decimal(1), optimum=1.2345678, instant=False,
        locked_until=0, kept=Decimal(10),
    )  # fmt: skip

    assert trade.captured == Decimal("1.234567")
    assert trade.gained == 10


def test_cells_that_a_spreadsheet_would_run_are_texts():
    cells = writing.cells({"why": "=HYPERLINK(1)", "captured": "-1.5", "kind": "@x"})

    assert "'=HYPERLINK(1)" in cells
    assert "-1.5" in cells
    assert "'@x" in cells
