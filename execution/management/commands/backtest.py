"""`backtest`: the live engine over the past, and what its signals would have got.

    manage.py backtest --rule DUTCH_BOOK_DETECT --start 2026-07-01T00:00:00Z \\
        --end 2026-07-02T00:00:00Z --csv-out hits.csv
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.db import DatabaseError
from django.utils import timezone

from execution.backtest import runs, writing
from execution.backtest.asking import ALL, DESK, Asked, chosen
from execution.backtest.checks import check_lines, checked
from execution.backtest.grid import BadGrid
from execution.backtest.groups import GROUPS
from execution.backtest.jobs import Cancelled, PartFailed, hits_in_order
from execution.backtest.places import desk_places
from execution.backtest.report import Answer
from execution.backtest.runs import CannotRun, Pace
from execution.backtest.terms import FillTerms
from execution.backtest_models import BacktestRun
from markets.frames import unix_ns
from rules.dsl import RuleDefinition, RuleError, read_dir, read_rule
from rules.load import SHIPPED, enabled_definitions

NEGATIVE, USAGE, UNREACHABLE, DATA_MISSING, INTERRUPTED = 1, 2, 3, 4, 130
EVENTS: Final = ("hits", "p1", "trades", "captured")


class Wrong(Exception):
    """What ends the command: its exit code and what to say."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def instant(text: str) -> int:
    """Read an ISO time, UTC where it says no zone, as unix ns."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text}: write it as 2026-07-01T00:00:00Z") from None
    return unix_ns(at if at.tzinfo else at.replace(tzinfo=UTC))


def speed(text: str) -> float | None:
    """Read `--speed`: a number above zero, or None for `max`."""
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError("must be a number above 0, or max")
    return value


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text} is no number") from None
    if not value.is_finite() or value < 0:
        raise ArgumentTypeError("must be 0 or more")
    return value


def share(text: str) -> Decimal:
    value = amount(text)
    if not 0 < value <= 1:
        raise ArgumentTypeError("must be above 0 and at most 1")
    return value


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) > 10**9:
        raise ArgumentTypeError(f"{text} is no whole number of 0 or more")
    return int(text)


def some(text: str) -> int:
    if whole(text) == 0:
        raise ArgumentTypeError("must be 1 or more")
    return int(text)


def wholes(text: str) -> tuple[int, ...]:
    return tuple(map(whole, text.split(",")))


class Command(BaseCommand):
    help = "Run rules over the past as it was known then, and say what they would have got."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rule", action="append", metavar="CODE", help="repeatable, or all (default: all)"
        )
        parser.add_argument("--start", type=instant, metavar="ISO")
        parser.add_argument("--end", type=instant, metavar="ISO")
        parser.add_argument("--csv-out", type=Path, metavar="FILE", help="episodes as CSV")
        parser.add_argument(
            "--speed", type=speed, metavar="N|max", help="times as fast as it was (max)"
        )
        self._data(parser)
        self._fills(parser)
        self._running(parser)

    def _data(self, parser: ArgumentParser) -> None:
        group = parser.add_argument_group("data (default: what the desk has kept)")
        group.add_argument(
            "--from-recording",
            "--from",
            dest="source",
            metavar="PATH",
            help="a recording, a folder of kept spans, or a columnar store",
        )
        group.add_argument(
            "--rule-file", action="append", type=Path, metavar="FILE", help="a rule of your own"
        )
        group.add_argument(
            "--shipped", action="store_true", help="the rules as shipped, not as published here"
        )
        group.add_argument(
            "--set",
            action="append",
            default=[],
            dest="sets",
            metavar="[CODE:]FIELD=A,B",
            help="try values of a field, as dedupe.persist_ms=250,500; repeatable",
        )

    def _fills(self, parser: ArgumentParser) -> None:
        known = FillTerms()
        group = parser.add_argument_group("orders")
        options: tuple[tuple[str, Any, Any, str], ...] = (
            ("--latency-ms", whole, known.latency_ms, "from decision to venue"),
            ("--leg-gap-ms", whole, known.leg_gap_ms, "between two legs"),
            ("--quiet-ms", whole, known.quiet_ms, "silence after which a book counts as it is"),
            ("--haircut", share, known.depth_share, "part of displayed sizes that can be had"),
            ("--unwind-ms", whole, known.unwind_ms, "until loose legs are sold"),
            ("--patience-ms", whole, known.patience_ms, "that an order waits for a book"),
            ("--capital", amount, known.capital_usd, "USD an order at most"),
            ("--slippage-bps", whole, known.slippage_bps, "above the touch at most"),
            ("--stake", amount, known.stake_usd, "USD of a directional trade"),
            ("--hold-s", whole, known.hold_s, "seconds that a directional trade is held"),
            ("--most-open", whole, known.most_open, "orders at a time; 0: any"),
            ("--day-usd", amount, known.day_usd, "USD a UTC day; 0: any"),
            ("--seed", whole, known.seed, "of drawn latencies"),
        )
        for name, kind, default, text in options:
            group.add_argument(name, type=kind, default=default, help=f"{text} ({default})")
        group.add_argument(
            "--latencies",
            type=wholes,
            default=(),
            metavar="MS,MS",
            help="draw each signal's latency from these",
        )
        group.add_argument(
            "--curve",
            type=wholes,
            default=known.curve_ms,
            metavar="MS,MS",
            help="latencies to compare (0,200,500,1000,2000,5000)",
        )

    def _running(self, parser: ArgumentParser) -> None:
        group = parser.add_argument_group("running")
        group.add_argument("--jobs", type=some, default=1, help="processes (1)")
        group.add_argument("--parts", type=some, help="passes that are kept one by one (= jobs)")
        group.add_argument("--groups", type=some, default=GROUPS, help=f"of events ({GROUPS})")
        group.add_argument("--resume", type=int, metavar="ID", help="go on with a run that ended")
        group.add_argument(
            "--store", action=BooleanOptionalAction, default=True, help="keep it in the database"
        )
        group.add_argument("--dry-run", action="store_true", help="say what would run, and end")
        group.add_argument("--check", action="store_true", help="the seven lookahead checks")
        group.add_argument("--json", action="store_true")
        group.add_argument("--parquet-out", type=Path, metavar="FILE", help="episodes as Parquet")
        group.add_argument(
            "--fail-under",
            action="append",
            default=[],
            metavar="WHAT=N",
            help="exit 1 if less: hits, p1, trades, captured",
        )

    # --- what it does -----------------------------------------------------------------

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="backtest-") as scratch:
                self._run(options, Path(scratch))
        except Wrong as error:
            self.stderr.write(f"backtest: {error}")
            sys.exit(error.code)
        except KeyboardInterrupt:
            self.stderr.write("backtest: interrupted")
            sys.exit(INTERRUPTED)

    def _run(self, options: dict[str, Any], scratch: Path) -> None:
        thresholds = _thresholds(options["fail_under"])
        self._places(options)
        if options["resume"] is not None:
            self._stored(self._taken_up(options["resume"]), options, thresholds)
            return
        asked = self._asked(options)
        if options["dry_run"]:
            self._say_plan(asked, options)
        elif options["check"]:
            self._check(asked, options, scratch)
        elif options["store"]:
            with _database():
                run = runs.ask(asked, desk_places(), by=None, at=timezone.now(), by_desk=False)
                runs.start(run.pk, at=timezone.now())
            self._stored(run, options, thresholds)
        else:
            self._unstored(asked, options, scratch, thresholds)

    def _places(self, options: dict[str, Any]) -> None:
        """Say early what could only fail at the end: files that cannot be written."""
        for name in ("csv_out", "parquet_out"):
            path = options[name]
            if path is not None and not path.parent.is_dir():
                raise Wrong(USAGE, f"there is no folder {path.parent}")

    def _asked(self, options: dict[str, Any]) -> Asked:
        since, until = options["start"], options["end"]
        if since is not None and until is not None and since >= until:
            raise Wrong(USAGE, "--start has to be before --end")
        try:
            definitions = self._definitions(options)
            asked = Asked(
                rules=tuple(each.canonical() for each in definitions),
                sets=tuple(options["sets"]),
                terms=_terms(options),
                source=_source(options["source"]),
                since=since,
                until=until,
                groups=options["groups"],
            )
            asked.variants()
        except (BadGrid, RuleError, OSError) as error:
            raise Wrong(USAGE, str(error)) from None
        if asked.source == DESK and (since is None or until is None):
            raise Wrong(USAGE, "say --start and --end, or --from-recording FILE")
        return asked

    def _definitions(self, options: dict[str, Any]) -> list[RuleDefinition]:
        own = [read_rule(path).definition for path in options["rule_file"] or ()]
        codes = options["rule"] or ([] if own else [ALL])
        known = list(_published(options)) if codes else []
        return [*own, *chosen(known, codes)]

    def _say_plan(self, asked: Asked, options: dict[str, Any]) -> None:
        data = self._opened(asked)
        told = {
            "schema": 1,
            "variants": [
                {"rule": each.code, "set": each.label, "sha256": each.rule.sha256}
                for each in asked.variants()
            ],
            "terms": asked.terms.row(),
            "data": {
                "name": data.past.name,
                "kind": data.past.kind,
                "sha256": data.past.sha256,
                "since": data.past.since,
                "until": data.past.until,
                "coverage": round(data.past.share, 6),
                "gaps": len(data.past.gaps),
            },
        }
        if options["json"]:
            self.stdout.write(json.dumps(told))
            return
        for each in asked.variants():
            self.stdout.write(f"{each.code} {each.label}".strip())
        self.stdout.write(f"over {data.past.name}: {data.past.kind}, {data.past.share:.1%} covered")

    def _opened(self, asked: Asked) -> Any:
        try:
            with _database():
                return runs.open_source(asked, desk_places())
        except CannotRun as error:
            raise Wrong(DATA_MISSING, str(error)) from None

    def _check(self, asked: Asked, options: dict[str, Any], scratch: Path) -> None:
        plan = runs.plan_of(asked, self._opened(asked))
        found = list(checked(plan, scratch, tell=self._said))
        self._clear()
        if options["json"]:
            rows = [each.row() for each in found]
            self.stdout.write(json.dumps({"schema": 1, "checks": rows}))
        else:
            for line in check_lines(found):
                self.stdout.write(line)
        if any(each.ok is False for each in found):
            sys.exit(NEGATIVE)

    def _said(self, text: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r\x1b[K{text}", ending="")
        else:
            self.stderr.write(text)

    def _clear(self) -> None:
        if self.stderr.isatty():
            self.stderr.write("\r\x1b[K", ending="")

    # --- stored or not ----------------------------------------------------------------

    def _taken_up(self, run_id: int) -> BacktestRun:
        with _database():
            run = BacktestRun.objects.filter(pk=run_id).first()
            if run is None:
                raise Wrong(USAGE, f"there is no run {run_id}")
            at = timezone.now()
            BacktestRun.objects.filter(pk=run_id).update(by_desk=False)
            if not (runs.again(run_id, at=at) and runs.start(run_id, at=at)):
                raise Wrong(USAGE, f"run {run_id} is {run.state.lower()}: nothing to go on with")
        return run

    def _stored(
        self, run: BacktestRun, options: dict[str, Any], thresholds: dict[str, Decimal]
    ) -> None:
        self.stderr.write(f"run {run.pk}: {run.title}")
        try:
            told = runs.run(
                run.pk,
                desk_places(),
                processes=options["jobs"],
                parts=options["parts"],
                tell=self._progress,
                speed=options["speed"],
            )
        except CannotRun as error:
            raise Wrong(DATA_MISSING, str(error)) from None
        except KeyboardInterrupt:
            hint = f"go on with: manage.py backtest --resume {run.pk}"
            raise Wrong(INTERRUPTED, f"run {run.pk} is cancelled; {hint}") from None
        if told is None:
            raise Wrong(NEGATIVE, f"run {run.pk} was cancelled")
        self._tell(told, options, thresholds, run_id=run.pk)

    def _unstored(
        self,
        asked: Asked,
        options: dict[str, Any],
        scratch: Path,
        thresholds: dict[str, Decimal],
    ) -> None:
        pace = Pace()

        def tell(done: int, total: int) -> bool:
            self._progress(pace.at(done, total))
            return True

        try:
            told = runs.answered(
                runs.plan_of(asked, self._opened(asked)),
                scratch / "run",
                processes=options["jobs"],
                parts=options["parts"],
                trials={},
                tell=tell,
                speed=options["speed"],
            )
        except (CannotRun, PartFailed) as error:
            raise Wrong(DATA_MISSING, str(error)) from None
        except Cancelled:
            raise Wrong(NEGATIVE, "cancelled") from None
        self._tell(told, options, thresholds, run_id=None)

    def _progress(self, pace: Pace) -> None:
        left = "" if pace.seconds_left is None else f", {pace.seconds_left:.0f} s left"
        done = f"{pace.permille / 10:.1f} %, {pace.rate:,.0f} frames/s{left}"
        self._said(done)

    # --- telling ----------------------------------------------------------------------

    def _tell(
        self,
        told: Answer,
        options: dict[str, Any],
        thresholds: dict[str, Decimal],
        *,
        run_id: int | None,
    ) -> None:
        self._clear()
        self._write_files(told, options)
        if options["json"]:
            body = {
                "schema": 1,
                "id": run_id,
                "data": told.data,
                "notes": list(told.notes),
                "resumed_groups": told.done.resumed,
                "results": list(told.results),
            }
            self.stdout.write(json.dumps(body))
        else:
            for line in (
                *writing.data_lines(told.data),
                *writing.table(told.results),
                *writing.latency_lines(told.results),
                *(f"note: {note}" for note in told.notes),
            ):
                self.stdout.write(line)
        short = [text for text in _short(told, thresholds) if text]
        if short:
            raise Wrong(NEGATIVE, "; ".join(short))

    def _write_files(self, told: Answer, options: dict[str, Any]) -> None:
        if options["csv_out"] is not None:
            with options["csv_out"].open("w", newline="") as file:
                count = writing.write_csv(file, _rows(told))
            self.stderr.write(f"{count} episodes in {options['csv_out']}")
        if options["parquet_out"] is not None:
            try:
                writing.write_parquet(options["parquet_out"], list(_rows(told)))
            except writing.NoParquet as error:
                raise Wrong(USAGE, f"--parquet-out: {error}") from None


def _rows(told: Answer) -> Iterator[dict[str, Any]]:
    trades = {
        trade.key: trade.row()
        for found in told.found.values()
        for trade in found.trades.get("own", [])
    }
    codes = {
        code: (row["rule"], row["set"]) for code, row in zip(told.found, told.results, strict=True)
    }
    return writing.hit_rows(hits_in_order(told.done.hits), names=codes, trades=trades)


def _terms(options: Mapping[str, Any]) -> FillTerms:
    return FillTerms(
        latency_ms=options["latency_ms"],
        leg_gap_ms=options["leg_gap_ms"],
        quiet_ms=options["quiet_ms"],
        depth_share=options["haircut"],
        unwind_ms=options["unwind_ms"],
        patience_ms=options["patience_ms"],
        capital_usd=options["capital"],
        slippage_bps=options["slippage_bps"],
        stake_usd=options["stake"],
        hold_s=options["hold_s"],
        latencies_ms=options["latencies"],
        seed=options["seed"],
        curve_ms=options["curve"],
        most_open=options["most_open"],
        day_usd=options["day_usd"],
    )


def _source(text: str | None) -> str:
    return DESK if text is None else str(Path(text).resolve())


def _published(options: Mapping[str, Any]) -> Iterator[RuleDefinition]:
    """Yield the rules as published on this desk, or as shipped where nothing is."""
    if not options["shipped"]:
        try:
            found = [rule.definition for rule in enabled_definitions()]
        except DatabaseError:
            found = []
        if found:
            yield from found
            return
    files, problems = read_dir(SHIPPED)
    if problems:
        raise RuleError(problems)
    yield from (file.definition for file in files)


def _thresholds(texts: list[str]) -> dict[str, Decimal]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in EVENTS:
            raise Wrong(USAGE, f"--fail-under {text}: write {', '.join(EVENTS)} = a number")
        try:
            found[name] = amount(value)
        except ArgumentTypeError as error:
            raise Wrong(USAGE, f"--fail-under {text}: {error}") from None
    return found


def _short(told: Answer, thresholds: Mapping[str, Decimal]) -> Iterator[str]:
    """Say which figures are under what was asked for."""
    sums = {
        "hits": sum(Decimal(row["signals"]) for row in told.results),
        "p1": sum(Decimal(row["p1"]) for row in told.results),
        "trades": sum(Decimal(row["trades"]) for row in told.results),
        "captured": sum(Decimal(row["captured"]) for row in told.results),
    }
    for name, least in thresholds.items():
        if sums[name] < least:
            yield f"{name} is {sums[name]}, under {least}"


@contextmanager
def _database() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        text = f"the database cannot be used: {error}. With --no-store none is needed"
        raise Wrong(UNREACHABLE, text) from None
