"""`backtest_compare`: stored backtests beside each other, a line for each rule and set."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from execution.backtest import writing
from execution.backtest_models import BacktestRun

USAGE = 2


class Command(BaseCommand):
    help = "Lay finished backtests beside each other."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", type=int, nargs="+", metavar="ID")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        found = BacktestRun.objects.filter(
            pk__in=options["ids"], state=BacktestRun.State.DONE
        ).in_bulk()
        missing = [str(each) for each in options["ids"] if each not in found]
        if missing:
            self.stderr.write(f"backtest_compare: no finished run {', '.join(missing)}")
            sys.exit(USAGE)
        runs = [found[each] for each in dict.fromkeys(options["ids"])]
        results = [
            (run.pk, list(run.results.order_by("place").values_list("summary", flat=True)))
            for run in runs
        ]
        rows = writing.compared(results)
        windows = {
            (run.data["sha256"], run.data["since"], run.data["until"]) for run in runs if run.data
        }
        if options["json"]:
            told = {"schema": 1, "runs": [run.pk for run in runs], "same_data": len(windows) == 1}
            self.stdout.write(json.dumps({**told, "results": rows}))
            return
        if len(windows) > 1:
            self.stdout.write("These runs went over different data.")
        for run in runs:
            self.stdout.write(str(run))
        for row in rows:
            cells = (_cell(row["runs"][str(run.pk)]) for run in runs)
            name = f"{row['rule']} {row['set']}".strip()
            self.stdout.write(f"{name}: " + " | ".join(cells))


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not run"
    capture = "" if row["capture"] is None else f" ({row['capture']:.1%} of LP)"
    return (
        f"{float(row['captured']):.2f} USD{capture}, {row['filled']} of {row['trades']} whole, "
        f"{row['signals']} signals"
    )
