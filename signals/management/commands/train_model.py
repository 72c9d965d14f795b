"""`train_model`: learn how likely findings are to be still there when an order arrives."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from markets.past import NotAPast
from rules.ml.gates import gates
from rules.ml.samples import Labels
from rules.ml.training import TooFew
from rules.ml_models import MlModel
from signals import ml_training, outcomes
from signals.house import active_rules
from signals.ml_training import Check, Gathered, Material, Trained

NEGATIVE, USAGE, DATA_MISSING = 1, 2, 4


def seeds(text: str) -> tuple[int, ...]:
    """Read `7` or `7,8,9`."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no list of seeds such as 7,8,9") from None
    if min(found) < 0:
        raise ArgumentTypeError("a seed is 0 or more")
    return found


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError("must be a number above 0")
    return value


class Command(BaseCommand):
    help = (
        "Train a model on what became of signals and keep it as a shadow. Exit code 1: it did "
        "not pass its gates, or a check found a leak; 4: too little data."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument(
            "--from-recording",
            type=Path,
            metavar="FILE",
            help="a recording, a folder of kept hours or a columnar store",
        )
        where.add_argument(
            "--simulate", type=seeds, metavar="SEEDS", help="simulated venues, such as 7,8,9"
        )
        parser.add_argument("--minutes", type=above_zero, default=60.0, help="of each venue (60)")
        parser.add_argument(
            "--dense", action="store_true", help="simulated venues with 3 times as many openings"
        )
        parser.add_argument("--latency-ms", type=int, default=settings.PAPER_LATENCY_MS)
        parser.add_argument("--hold-s", type=above_zero, default=1.0)
        parser.add_argument("--seed", type=int, default=7, help="of everything that is drawn (7)")
        parser.add_argument("--evaluate", action="store_true", help="examine only, keep no model")
        parser.add_argument(
            "--shuffle-labels", action="store_true", help="deal the outcomes out at random first"
        )
        parser.add_argument("--check", action="store_true", help="look for leaks, keep no model")
        parser.add_argument(
            "--plant-leak", action="store_true", help="with --check: a leak that has to be found"
        )
        parser.add_argument(
            "--scheduled", action="store_true", help="only if enough is new; says little"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plant_leak"] and not options["check"]:
            self._end(USAGE, "--plant-leak goes with --check")
        labels = Labels(latency_ms=options["latency_ms"], hold_s=options["hold_s"])
        if options["scheduled"]:
            self._scheduled(labels)
            return
        try:
            material = _material(options)
            gathered = self._gather(material, labels, leak=options["plant_leak"])
            if options["check"]:
                self._check(material, gathered, labels, options)
            else:
                self._train(material, gathered, labels, options)
        except (NotAPast, TooFew, OSError) as error:
            self._end(DATA_MISSING, str(error))

    # --- training ---------------------------------------------------------------------

    def _gather(self, material: Material, labels: Labels, *, leak: bool) -> Gathered:
        if leak and not material.stretches:
            self._end(USAGE, "--plant-leak needs frames: --from-recording or --simulate")
        begun = time.monotonic()
        gathered = ml_training.gather(material, labels, leak=leak, tell=self._tell)
        self._tell(
            f"{gathered.frames:,} frames, {len(gathered.samples):,} samples, "
            f"{time.monotonic() - begun:.0f} s"
        )
        return gathered

    def _train(
        self, material: Material, gathered: Gathered, labels: Labels, options: dict[str, Any]
    ) -> None:
        shuffle, seed = options["shuffle_labels"], options["seed"]
        trained = ml_training.learn_from(
            material, gathered, labels, shuffle=shuffle, seed=seed, tell=self._tell
        )
        keep = not (options["evaluate"] or shuffle)
        model = ml_training.register(trained, at=timezone.now()) if keep else None
        told = _row(trained, gathered, model)
        self.stdout.write(
            msgspec.json.encode(told).decode() if options["json"] else _text(trained, model)
        )
        if trained.passed is shuffle:  # what is dealt out at random must not pass
            sys.exit(NEGATIVE)

    def _scheduled(self, labels: Labels) -> None:
        """Train on the desk's own outcomes, as a shadow, beside everything else."""
        os.nice(10)
        outcomes.prune(at=timezone.now())
        if not ml_training.worth_training():
            self._tell("too little is new")
            return
        material = ml_training.of_desk()
        try:
            gathered = ml_training.gather(material, labels)
            model = ml_training.register(
                ml_training.learn_from(material, gathered, labels), at=timezone.now()
            )
        except TooFew as error:
            self._tell(str(error))
            return
        self._tell(f"{model} is a shadow")

    # --- looking for leaks ------------------------------------------------------------

    def _check(
        self, material: Material, gathered: Gathered, labels: Labels, options: dict[str, Any]
    ) -> None:
        found = ml_training.check(
            material,
            gathered,
            labels,
            leak=options["plant_leak"],
            seed=options["seed"],
            tell=self._tell,
        )
        if options["json"]:
            rows = [{"name": each.name, "answer": each.answer, "ok": each.ok} for each in found]
            told = {"source": material.name, "planted": options["plant_leak"], "checks": rows}
            self.stdout.write(msgspec.json.encode(told).decode())
        else:
            self.stdout.write("\n".join(map(_line, found)))
        if not all(each.ok for each in found):
            sys.exit(NEGATIVE)

    def _tell(self, text: str) -> None:
        self.stderr.write(text)

    def _end(self, code: int, why: str) -> None:
        self.stderr.write(f"train_model: {why}")
        sys.exit(code)


def _material(options: dict[str, Any]) -> Material:
    if options["from_recording"]:
        return ml_training.of_past(options["from_recording"], active_rules())
    if options["simulate"]:
        return ml_training.of_simulator(
            options["simulate"], minutes=options["minutes"], dense=options["dense"]
        )
    return ml_training.of_desk()


def _row(trained: Trained, gathered: Gathered, model: MlModel | None) -> dict[str, Any]:
    report = trained.report
    return {
        "schema": 1,
        "passed": trained.passed,
        "gates": [
            {"name": g.name, "asked": g.asked, "found": g.found, "ok": g.ok} for g in gates(report)
        ],
        "model": model and {"id": model.pk, "sha256": model.sha256, "state": model.state},
        "frames": gathered.frames,
        "report": msgspec.to_builtins(report),
    }


def _line(check: Check) -> str:
    return f"{'ok  ' if check.ok else 'LEAK'} {check.name}: {check.answer}"


def _text(trained: Trained, model: MlModel | None) -> str:
    """Write a report for people."""
    report = trained.report
    window, score = report.window, report.purged
    lines = [
        f"{window.source}: {window.samples:,} episodes of {window.events} events, "
        f"{window.filled:,} filled, dropped: {window.censored or 'none'}",
        *window.notes,
        f"examined on {score.samples:,} unseen: base rate {score.base_rate:.3f}, "
        f"log loss {score.log_loss:.4f}, Brier {score.brier:.4f}, skill {score.skill:.3f}, "
        f"ECE {score.ece:.3f}, PR AUC {_number(score.pr_auc)}",
        f"AUC purged {_number(report.purged_auc)} (standard error "
        f"{_number(report.purged_auc_error)}), with a random split {_number(report.shuffled_auc)}",
        "said    happened  count",
        *(f"{b.said:.3f}   {b.happened:.3f}   {b.count:>6}" for b in score.bins),
        "weights: "
        + ", ".join(f"{name} {share:.0%}" for name, share in list(report.importance.items())[:8]),
        *(f"{'ok  ' if g.ok else 'FAIL'} {g.name}: {g.found} ({g.asked})" for g in gates(report)),
        f"kept as {model}, {model.get_state_display()}" if model else "no model was kept",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
