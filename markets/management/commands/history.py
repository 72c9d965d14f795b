"""`history`: the columnar store of the past. `write`, `list`, `check`, `import`."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from markets.fills import SIZE_ONE
from markets.models import Tick
from markets.past import NotAPast, open_past
from markets.past.columns import sha256_of_rows
from markets.past.imports import FORMATS, load, report, tables, write
from markets.past.imports.reading import Loaded
from markets.past.parquet import Day, days
from markets.past.store import Written, prune
from markets.past.writing import write_day_of_ticks, write_recording

BAD, DATA_MISSING = 1, 4


def shares(text: str) -> int:
    """Read a number of shares as 1e-6 shares."""
    value = _number(text)
    if not 0 < value <= 10**9:
        raise ArgumentTypeError("must be above 0")
    return int(value * SIZE_ONE)


def rate(text: str) -> Decimal:
    value = _number(text)
    if not 0 <= value < 1:
        raise ArgumentTypeError("must be from 0 to below 1")
    return value


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError("is no number") from None
    if not value.is_finite():
        raise ArgumentTypeError("is no number")
    return value


class Command(BaseCommand):
    help = "Write, list and check long history as Parquet, and import history of others."

    def add_arguments(self, parser: ArgumentParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        add = acts.add_parser("write", help="days of stored ticks, or a recording")
        add.add_argument("recording", nargs="?", type=Path, help="else the database's ticks")
        add.add_argument("--day", type=date.fromisoformat, help="one UTC day of ticks, anew")
        add.add_argument("--tops", action="store_true", help="of a recording its touch alone")
        add.add_argument("--nice", action="store_true", help="let everything else go first")
        for name, told in (("list", "what is there"), ("check", "whether it is as it was written")):
            acts.add_parser(name, help=told)
        bring = acts.add_parser("import", help="history in a format of others, or your own CSV")
        bring.add_argument("files", nargs="+", type=Path, metavar="FILE")
        bring.add_argument("--format", choices=[each.name for each in FORMATS])
        bring.add_argument("--assume-size", type=shares, metavar="SHARES",
                           help="take quotes without sizes as good for so many")  # fmt: skip
        bring.add_argument("--assume-fee", type=rate, metavar="RATE",
                           help="the fee rate of markets whose fee is not told")  # fmt: skip
        for each in acts.choices.values():
            each.add_argument("--json", action="store_true", help="one JSON object a line")
            each.add_argument("--out" if each.prog.endswith("import") else "--folder",
                              dest="folder", type=Path, metavar="FOLDER",
                              required=each.prog.endswith("import"))  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        self._json = options["json"]
        acts = {"write": self._write, "list": self._list, "check": self._check,
                "import": self._import}  # fmt: skip
        try:
            acts[options["act"]](options)
        except NotAPast as error:
            self._fail(error)

    # --- write --------------------------------------------------------------------------

    def _write(self, options: dict[str, Any]) -> None:
        if options["nice"]:
            os.nice(10)
        recording = options["recording"]
        if recording is None:
            folder = options["folder"] or settings.MPX_HISTORY_DIR / "ticks"
            written = _ticks(folder, options["day"])
        else:
            name = recording.name.split(".")[0]
            folder = options["folder"] or settings.MPX_HISTORY_DIR / name
            written = write_recording(folder, open_past(recording), tops=options["tops"])
        count = 0
        for each in written:
            count += 1
            self._tell(_row(each, folder), f"{each.day}: {each.rows} rows, {each.bytes} bytes"
                       f"{', as it was' if each.skipped else ''} in {folder}")  # fmt: skip
        if recording is None and (pruned := _prune(folder)):
            self.stderr.write(f"{pruned} days older than MPX_HISTORY_DAYS were deleted")
        if not count:
            self.stderr.write("nothing to write: every whole day that has ticks is there")

    # --- list and check -----------------------------------------------------------------

    def _list(self, options: dict[str, Any]) -> None:
        for folder, day in _all_days(options["folder"] or settings.MPX_HISTORY_DIR):
            told = day.told
            row = {"folder": str(folder), "day": f"{day.day}", "kind": day.kind,
                   "rows": told.rows - told.carried, "bytes": day.bytes, "source": told.source,
                   "since": told.since, "until": told.until, "gaps": len(told.gaps),
                   "sha256": told.sha256}  # fmt: skip
            self._tell(row, f"{folder.name} {day.day} {day.kind}: {row['rows']} rows, "
                       f"{day.bytes} bytes, {len(told.gaps)} gaps, of {told.source}")  # fmt: skip

    def _check(self, options: dict[str, Any]) -> None:
        bad = 0
        for folder, day in _all_days(options["folder"] or settings.MPX_HISTORY_DIR):
            try:
                good = sha256_of_rows(day.path) == day.told.sha256
                why = "" if good else "its rows are not those that were written"
            except NotAPast as error:
                good, why = False, error.what
            bad += not good
            row = {"folder": str(folder), "day": f"{day.day}", "ok": good, "why": why}
            self._tell(row, f"{folder.name} {day.day}: {why or 'ok'}")
        if bad:
            sys.exit(BAD)

    # --- import -------------------------------------------------------------------------

    def _import(self, options: dict[str, Any]) -> None:
        parts: dict[str, list[Loaded]] = {}
        for loaded in load(options["files"], name=options["format"]):
            tables.assumed(loaded, size=options["assume_size"], fee_rate=options["assume_fee"])
            told = report(loaded)
            self._tell(told, _human(told))
            parts.setdefault(loaded.format, []).append(loaded)
        if not parts:
            raise CommandError("only labels were given, and no history", returncode=2)
        for name, each in parts.items():
            folder = options["folder"] if len(parts) == 1 else options["folder"] / name
            written = write(each, folder)
            rows = sum(day.rows for day in written)
            self._tell(
                {"folder": str(folder), "days": [_row(day, folder) for day in written]},
                f"{folder}: {len(written)} days, {rows} rows, "
                f"{sum(day.bytes for day in written)} bytes",
            )

    # --- telling ------------------------------------------------------------------------

    def _tell(self, row: dict[str, Any], line: str) -> None:
        self.stdout.write(json.dumps(row) if self._json else line)

    def _fail(self, error: NotAPast) -> None:
        if self._json:
            self.stdout.write(json.dumps({"error": error.what, "where": error.where}))
        self.stderr.write(f"history: {error}")
        sys.exit(DATA_MISSING)


def _ticks(folder: Path, day: date | None) -> Iterator[Written]:
    """Write one day anew, or each whole day that has ticks and is not there yet."""
    there = {each.day for each in days(folder)} if folder.is_dir() else set()
    for each in [day] if day else [one for one in _days_of_ticks() if one not in there]:
        written = write_day_of_ticks(folder, each)
        if written is not None:
            yield written


def _days_of_ticks() -> list[date]:
    """Return the whole UTC days since the oldest tick."""
    oldest = Tick.objects.order_by("at").values_list("at", flat=True).first()
    today = timezone.now().date()
    if oldest is None:
        return []
    return [oldest.date() + timedelta(days=n) for n in range((today - oldest.date()).days)]


def _prune(folder: Path) -> int:
    kept = settings.MPX_HISTORY_DAYS
    if not kept or not folder.is_dir():
        return 0
    return prune(folder, before=timezone.now().date() - timedelta(days=kept))


def _all_days(folder: Path) -> Iterator[tuple[Path, Day]]:
    """Yield the days of a store, or of each store in a folder."""
    stores = [folder, *sorted(each for each in folder.glob("*") if each.is_dir())]
    found = False
    for store in stores if folder.is_dir() else ():
        if store.name.startswith((".", "day=")):
            continue
        for day in days(store):
            found = True
            yield store, day
    if not found:
        raise NotAPast("there is no history yet", str(folder))


def _row(written: Written, folder: Path) -> dict[str, Any]:
    return {"folder": str(folder), "day": f"{written.day}", "rows": written.rows,
            "bytes": written.bytes, "skipped": written.skipped}  # fmt: skip


def _human(told: dict[str, Any]) -> str:
    refused: Sequence[str] = [f"{count} {why}" for why, count in told["refused"].items()]
    span = (told["until"] or 0) - (told["since"] or 0)
    share = told["covered_ns"] / span if span else 1.0
    return (
        f"{told['file']}: {told['format']} ({told['kind']}), {told['read']} rows read, "
        f"{told['taken']} taken of {told['markets']} markets, "
        f"refused: {', '.join(refused) or 'none'}; {share:.1%} covered, {len(told['gaps'])} gaps"
        + "".join(
            f"\n  line {row['line']}, {row['column'] or 'row'} {row['why']}"
            for row in told["refused_rows"][:5]
        )
    )
