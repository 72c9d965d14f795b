"""`scoreboard`: every detector against the truth of the simulated venue."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from mpx_site.scoreboard.exam import examine
from mpx_site.scoreboard.families import FAMILIES
from mpx_site.scoreboard.result import GOALS, Result, RuleResult, store, stored_at

TOLD_EVERY = 5.0  # seconds between two lines of progress


def whole(text: str) -> int:
    """Read a count; raise ArgumentTypeError with what to write instead."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000000")
    return int(text)


class Command(BaseCommand):
    help = "Precision, recall and captured profit of every detector over planted cases."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=whole, default=11, help="which exam to draw")
        parser.add_argument("--events", type=whole, default=4_000, help="cases in the exam")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1: a rule missed its goal, or a decoy was taken for real."""
        tell = Telling(options["events"])
        result = examine(seed=options["seed"], events=options["events"], progress=tell)
        store(result, stored_at())
        encoded = msgspec.json.encode(result).decode()
        self.stdout.write(encoded if options["json"] else table(result))
        if not result.good:
            sys.exit(1)


class Telling:
    """Tells how far it is, now and then, on stderr."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._begun = self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        """Note that so many cases are done."""
        now = time.monotonic()
        if now - self._told >= TOLD_EVERY or done == self._events:
            self._told = now
            seconds = now - self._begun
            print(f"{done:,} of {self._events:,} cases, {seconds:.0f} s", file=sys.stderr)  # noqa: T201


def table(result: Result) -> str:
    """Write a result as text for people."""
    head = f"seed {result.seed}, {result.events:,} cases, {result.seconds:.0f} s"
    columns = (
        f"{'rule':<24}{'planted':>8}{'recall':>9}{'precision':>11}{'captured':>10}{'p50 ms':>9}"
    )
    rules = [_row(code, result.rules[code]) for code in GOALS]
    spike = result.spike
    jumps = (
        f"spikes: {spike.recall:.3f} of {spike.jumps} jumps at {spike.false_alarms_per_10k:.2f} "
        f"false alarms in 10,000 updates; a fixed threshold {spike.fixed_recall:.3f} at "
        f"{spike.fixed_false_alarms_per_10k:.2f}"
    )
    decoys = [
        f"{family.number:>2} {family.code:<22}{result.decoy_cases[family.code]:>6} cases"
        f"{result.decoys[family.code]:>4} P1"
        for family in FAMILIES
    ]
    return "\n".join((head, columns, *rules, jumps, *decoys, *result.mistakes))


def _row(code: str, rule: RuleResult) -> str:
    return (
        f"{code:<24}{rule.planted:>8}{_text(rule.recall):>9}{_text(rule.precision):>11}"
        f"{_text(rule.captured, 5):>10}{_text(rule.time_to_detect_ms_p50, 2):>9}"
    )


def _text(number: float | None, digits: int = 4) -> str:
    return "-" if number is None else f"{number:.{digits}f}"
