"""`backtest_show`: the figures of a stored backtest again, or the list of them."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from execution.backtest import runs, writing
from execution.backtest.jobs import hits_in_order
from execution.backtest.places import desk_places
from execution.backtest_models import BacktestRun

USAGE, DATA_MISSING = 2, 4
MOST = 20


class Command(BaseCommand):
    help = "Show a stored backtest; without a number the newest ones."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, nargs="?")
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--csv-out", type=Path, metavar="FILE", help="its episodes as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["id"] is None:
            self._list(as_json=options["json"])
            return
        run = BacktestRun.objects.filter(pk=options["id"]).first()
        if run is None:
            self.stderr.write(f"backtest_show: there is no run {options['id']}")
            sys.exit(USAGE)
        if run.data is None:
            self.stderr.write(f"backtest_show: {run}: {run.reason or 'it has no results yet'}")
            sys.exit(DATA_MISSING)
        rows = list(run.results.order_by("place").values_list("summary", flat=True))
        if options["csv_out"] is not None:
            self._write(run, rows, options["csv_out"])
        if options["json"]:
            told = {"schema": 1, "id": run.pk, "data": run.data, "notes": run.notes}
            self.stdout.write(json.dumps({**told, "results": rows}))
            return
        for line in (
            str(run),
            *writing.data_lines(run.data),
            *writing.table(rows),
            *writing.latency_lines(rows),
            *(f"note: {note}" for note in run.notes),
        ):
            self.stdout.write(line)

    def _list(self, *, as_json: bool) -> None:
        newest = list(BacktestRun.objects.newest()[:MOST])
        if as_json:
            rows = [{"id": each.pk, "state": each.state, "title": each.title} for each in newest]
            self.stdout.write(json.dumps({"schema": 1, "runs": rows}))
            return
        for each in newest:
            self.stdout.write(str(each))

    def _write(self, run: BacktestRun, rows: list[dict[str, Any]], path: Path) -> None:
        trades = {trade["key"]: trade for row in rows for trade in row["trade_rows"]}
        files = sorted((desk_places().runs / str(run.pk)).glob("hits-*.jsonl"))
        hits = hits_in_order(files)
        names = runs.names_of(run)
        with path.open("w", newline="") as file:
            count = writing.write_csv(file, writing.hit_rows(hits, names=names, trades=trades))
        self.stderr.write(f"{count} episodes in {path}")
