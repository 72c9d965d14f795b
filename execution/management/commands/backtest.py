"""`backtest`: the live engine over the past, and what its signals would have got.

    manage.py backtest --rule DUTCH_BOOK_DETECT --start 2026-07-01T00:00:00Z \\
        --end 2026-07-02T00:00:00Z --csv-out hits.csv
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.db import DatabaseError
from django.utils import timezone

from execution.backtest import runs, writing
from execution.backtest.asking import ALL, DESK, Asked, chosen
from execution.backtest.checks import check_lines, checked
from execution.backtest.grid import BadGrid
from execution.backtest.jobs import Cancelled, PartFailed, hits_in_order
from execution.backtest.options import (
    add_data,
    add_fills,
    add_running,
    amount,
    instant,
    speed,
    terms_of,
)
from execution.backtest.places import desk_places
from execution.backtest.report import Answer
from execution.backtest.runs import CannotRun, Pace
from execution.backtest_models import BacktestRun
from rules.dsl import RuleDefinition, RuleError, read_dir, read_rule
from rules.load import SHIPPED, enabled_definitions

NEGATIVE, USAGE, UNREACHABLE, DATA_MISSING, INTERRUPTED = 1, 2, 3, 4, 130
EVENTS: Final = ("hits", "p1", "trades", "captured")


class Wrong(Exception):
    """What ends the command: its exit code and what to say."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


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
        add_data(parser)
        add_fills(parser)
        add_running(parser)

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
                terms=terms_of(options),
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
