"""`rules`, with `whatif`: what a rule file would have done beside the version that runs."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentTypeError, _SubParsersAction
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from rules.dsl import RuleError, read_rule
from rules.engine import ActiveRule
from rules.load import definition_of
from rules.management.commands import rules
from rules.models import Rule
from signals import whatif_runs
from signals.whatif_runs import CannotRun, Data

DATA_MISSING = 4
SHOWN = 10  # rows of each list; --json has more
EXAMPLES = """
what-if:
  manage.py rules whatif my_rule.yaml --hours 6
  manage.py rules whatif my_rule.yaml --recording night.jsonl.gz --json
exit code 4: nothing is kept of those hours, or the file cannot be replayed"""


def _hours(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 8_760:
        raise ArgumentTypeError(f"{text!r} must be a number from 1 to 8760")
    return int(text)


class Command(rules.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.epilog = f"{parser.epilog or ''}\n{EXAMPLES}"
        acts = next(each for each in parser._actions if isinstance(each, _SubParsersAction))
        whatif = acts.add_parser("whatif", help="run a file beside what runs, over kept data")
        whatif.add_argument("file", type=Path, metavar="FILE")
        data = whatif.add_mutually_exclusive_group()
        data.add_argument("--recording", type=Path, metavar="FILE", help="run over its frames")
        data.add_argument(
            "--hours", type=_hours, default=1, help="of what the stream has kept (default: 1)"
        )
        whatif.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        if act != "whatif":
            super().handle(*args, act=act, **options)
            return
        try:
            good = self.whatif(options)
        except (OperationalError, ProgrammingError) as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=rules.UNREACHABLE) from error
        if not good:
            sys.exit(rules.NEGATIVE)

    def whatif(self, options: dict[str, Any]) -> bool:
        candidate = self._candidate(options["file"])
        if candidate is None:
            return False
        try:
            data = _data(options)
            answer = whatif_runs.compare(
                candidate, _live(candidate.code), data, tell=self._progress()
            )
        except (CannotRun, OSError) as error:
            raise CommandError(f"whatif: {error}", returncode=DATA_MISSING) from error
        self._clear_progress()
        self.stdout.write(json.dumps(answer) if options["json"] else "\n".join(_told(answer)))
        return True

    def _candidate(self, path: Path) -> ActiveRule | None:
        """Return a file's rule; None, with the reasons told, for a broken one."""
        try:
            return ActiveRule.of(read_rule(path).definition)
        except RuleError as error:
            for problem in error.problems:
                self.stdout.write(str(problem))
            return None
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}", returncode=rules.USAGE) from error

    def _progress(self) -> whatif_runs.Tell:
        begun = time.monotonic()

        def tell(share: float, frames: int) -> bool:
            if sys.stderr.isatty():
                self.stderr.write(
                    f"\r{share:6.1%}  {frames:,} frames, {time.monotonic() - begun:.0f} s",
                    ending="",
                )
            return True

        return tell

    def _clear_progress(self) -> None:
        if sys.stderr.isatty():
            self.stderr.write("\r\033[K", ending="")


def _data(options: dict[str, Any]) -> Data:
    if options["recording"]:
        if not options["recording"].is_file():
            raise CannotRun(f"there is no file {options['recording']}")
        return whatif_runs.of_recording(options["recording"])
    return whatif_runs.of_last_hours(
        settings.MPX_KEEP_DIR, hours=options["hours"], at=timezone.now()
    )


def _live(code: str) -> ActiveRule | None:
    """Return the current version of a rule; None if none is published."""
    rule = Rule.objects.filter(code=code).select_related("current__rule").first()
    return ActiveRule.of(definition_of(rule.current)) if rule and rule.current else None


def _told(answer: dict[str, Any]) -> list[str]:
    """Write an answer for a person."""
    counts, live, candidate = answer["counts"], answer["live"], answer["candidate"]
    seconds = (answer["last_at"] - answer["first_at"]) / 1e9
    lines = [f"{answer['rule']} over {answer['frames']:,} frames, {seconds:,.0f} s"]
    lines += [f"note: {note}" for note in answer["notes"]]
    lines += [
        f"{'':<10} {'signals':>8} {'P1':>6} {'P2':>6} {'P3':>6} {'alerts':>7} {'held back':>10}",
        _side("current", live) if live else "current    none is published: all is new",
        _side("candidate", candidate),
        ", ".join(f"{counts[name]} {name}" for name in ("same", "changed", "new", "lost")),
    ]
    for name in ("new", "lost"):
        lines += [f"{name:<8} {_life(row)}" for row in answer[name]["rows"][:SHOWN]]
    for row in answer["changed"]["rows"][:SHOWN]:
        differs = ", ".join(row["differs"]).replace("_", " ")
        lines.append(f"changed  {_life(row['candidate'])}  ({differs})")
    more = sum(max(counts[name] - SHOWN, 0) for name in ("new", "lost", "changed"))
    return [*lines, f"... and {more} more; --json tells them"] if more else lines


def _side(name: str, side: dict[str, Any]) -> str:
    levels = side["by_level"]
    return (
        f"{name:<10} {side['signals']:>8} {levels['P1']:>6} {levels['P2']:>6} {levels['P3']:>6}"
        f" {side['alerts']:>7} {side['alerts_held_back']:>10}"
    )


def _life(row: dict[str, Any]) -> str:
    where = f"event {row['event_id']}" if row["event_id"] else f"{len(row['market_ids'])} markets"
    return (
        f"{row['level']} {row['kind']:<12} {where:<16} {row['peak_edge_bps']:>9} bps"
        f" {row['peak_profit']:>12} USD {row['lived_ns'] / 1e9:>9.3f} s"
    )
