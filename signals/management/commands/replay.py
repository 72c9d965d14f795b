"""`replay`: run a recording through the live path and print every signal change.

`replay --check` compares what is kept of the last hours with what the live path told then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from markets.frames import Frame, moment
from markets.recording import NotARecording, Recording
from rules.dsl import RuleError, parse_rule, read_dir
from rules.engine import ActiveRule
from rules.load import SHIPPED
from signals import samecheck
from signals.episodes import SignalChange
from signals.pipeline import Pipeline

DIFFERS, USAGE, DATA_MISSING = 1, 2, 4
CHECK_SECONDS = 600.0
CODES = {"differs": DIFFERS, "nothing": DATA_MISSING, "other_code": DATA_MISSING}


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


class Command(BaseCommand):
    help = "Replay a recording through the live path. Needs no database and writes nothing."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="with --check: a folder of spans")
        parser.add_argument("--speed", type=speed, default=None, metavar="N|max", help="max")
        parser.add_argument("--json", action="store_true", help="one JSON object per change")
        parser.add_argument(
            "--check", action="store_true", help="compare kept spans with how they ended"
        )
        parser.add_argument("--seconds", type=float, default=CHECK_SECONDS, help="of --check")
        parser.add_argument(
            "--store", action="store_true", help="keep the outcome of --check; alert if it differs"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            self._check(options)
            return
        if options["file"] is None:
            raise CommandError("say which file to replay, or --check", returncode=USAGE)
        try:
            recording = Recording(options["file"])
            rules = rules_of(recording)
        except (OSError, NotARecording) as error:
            self.stderr.write(f"replay: {error}")
            sys.exit(DATA_MISSING)
        confirm_terms = recording.header.get("confirm_terms") is True
        pipeline = Pipeline(rules, confirm_terms=confirm_terms)
        recording.problems = pipeline.problems
        opened = 0
        for change in changes_of(pipeline, paced(recording, options["speed"])):
            opened += change.change == "opened"
            self.stdout.write(change.line() if options["json"] else _human(change))
        self._summary(pipeline, opened, as_json=options["json"])

    def _check(self, options: dict[str, Any]) -> None:
        os.nice(10)  # the live path comes first
        folder = options["file"] or settings.MPX_KEEP_DIR
        seconds = options["seconds"]
        if options["store"]:
            told = samecheck.check_and_tell(folder, seconds=seconds, at=timezone.now())
        else:
            told = samecheck.check(folder, seconds=seconds)
        self.stdout.write(json.dumps(asdict(told)) if options["json"] else told.line)
        if code := CODES.get(told.outcome):
            sys.exit(code)

    def _summary(self, pipeline: Pipeline, opened: int, *, as_json: bool) -> None:
        told = {
            "digest": pipeline.digest.hexdigest(),
            "frames": pipeline.frames,
            "signals": opened,
        }
        for problem in pipeline.problems.drain():
            self.stderr.write(
                f"{problem.source}: {problem.reason} {problem.subject} {problem.detail}"
                f" ({problem.count} times)"
            )
        if as_json:
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(f"{told['frames']} frames, {opened} signals, {told['digest']}")


def changes_of(pipeline: Pipeline, frames: Iterator[Frame]) -> Iterator[SignalChange]:
    """Yield the signal changes of a whole recording, its end included."""
    for frame in frames:
        yield from pipeline.feed(frame).changes
    yield from pipeline.stop()


def rules_of(recording: Recording) -> tuple[ActiveRule, ...]:
    """Return the rules that ran when it was recorded, or the shipped ones if it does not say."""
    texts = recording.header.get("rules")
    if not isinstance(texts, list):
        files, _ = read_dir(SHIPPED)
        return tuple(ActiveRule.of(file.definition) for file in files)
    try:
        return tuple(
            ActiveRule.of(parse_rule(str(text), source=f"{recording.path} header"))
            for text in texts
        )
    except RuleError as error:
        raise NotARecording(f"{recording.path}: its rules cannot be read: {error}") from None


def paced(recording: Recording, speed: float | None) -> Iterator[Frame]:
    """Yield frames with their distances divided by `speed`; None is as fast as possible."""
    begun, first = time.monotonic(), None
    for frame in recording:
        if speed is not None:
            first = frame.t if first is None else first
            wait = (frame.t - first) / 1e9 / speed - (time.monotonic() - begun)
            time.sleep(max(wait, 0))
        yield frame


def _human(change: SignalChange) -> str:
    finding = change.finding
    return (
        f"{moment(change.at):%H:%M:%S.%f} {change.change:<7} {change.level} {finding.kind:<10} "
        f"{finding.edge_bps:>8} bps {finding.profit:>12} USD  {finding.event_id or ''} {change.why}"
    )
