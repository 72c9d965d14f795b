"""The daily figures of the rules: count them anew, or print them."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from execution import kpi_store
from execution.kpi import Kpi
from execution.kpi_rows import row_of
from rules.models import Rule

UNREACHABLE, MISSING = 3, 4
WEEK = timedelta(days=7)
EXAMPLES = """examples:
  manage.py kpi show
  manage.py kpi show --since 2026-11-01 --until 2026-11-24 --rule DUTCH_BOOK_DETECT --json
  manage.py kpi rebuild                      every day that has signals
  manage.py kpi rebuild --since 2026-11-01

Days are those of UTC; a signal and its orders count for the day on which it opened.
exit codes: 0 done; 2 wrong call; 3 no database; 4 no signals in these days"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True)
        show = acts.add_parser("show", help="print the figures of the last days")
        show.add_argument("--rule", help="code of one rule")
        rebuild = acts.add_parser("rebuild", help="count the days anew from signals and orders")
        for each in (show, rebuild):
            each.add_argument("--since", type=_day, metavar="DAY", help="first day, YYYY-MM-DD")
            each.add_argument("--until", type=_day, metavar="DAY", help="last day")
            each.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        act = self._show if options["act"] == "show" else self._rebuild
        try:
            act(options)
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error

    def _rebuild(self, options: dict[str, Any]) -> None:
        self.stderr.write("counting ...")
        days = kpi_store.rebuild(options["since"], options["until"], at=timezone.now())
        told = {"schema": 1, "days": days}
        self.stdout.write(json.dumps(told) if options["json"] else f"{days} days counted")

    def _show(self, options: dict[str, Any]) -> None:
        last = options["until"] or timezone.now().date()
        first, rule = options["since"] or last - WEEK, options["rule"]
        if first > last:
            raise CommandError("--since must not be after --until", returncode=2)
        if rule and not Rule.objects.filter(code=rule).exists():
            raise CommandError(f"--rule {rule}: there is no such rule", returncode=2)
        found = kpi_store.daily(first, last, rule=rule)
        if options["json"]:
            rows = [row_of(kpi) for kpi in found]
            self.stdout.write(json.dumps({"schema": 1, "rows": rows}, default=str))
        else:
            self._table(found)
        if not found:
            self.stderr.write(f"no signal opened from {first} to {last}")
            sys.exit(MISSING)

    def _table(self, kpis: Sequence[Kpi]) -> None:
        for kpi in kpis:
            told = row_of(kpi)
            self.stdout.write(
                f"{kpi.day} {kpi.rule}: {told['signals']} signals, {told['p1']} P1, "
                f"edge {told['avg_edge_bps'] or '-'} bps, gap {told['avg_gap'] or '-'}, "
                f"{told['approved']} of {told['suggested']} orders approved, "
                f"{told['captured_usd']} USD captured, {told['missed']} P1 missed"
            )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} must be a day like 2026-11-24") from None
