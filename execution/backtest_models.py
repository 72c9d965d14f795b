"""Backtest runs: what was asked for, over which data, and what each rule came to."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q

SILENT = timedelta(seconds=60)  # a run that tells nothing for so long has died


class BacktestQuerySet(models.QuerySet["BacktestRun"]):
    def newest(self) -> BacktestQuerySet:
        return self.select_related("asked_by").order_by("-asked_at", "-id")

    def waiting(self) -> BacktestQuerySet:
        """Return who is next, first come first served."""
        return self.filter(state=BacktestRun.State.WAITING).order_by("asked_at", "id")

    def running(self) -> BacktestQuerySet:
        return self.filter(state=BacktestRun.State.RUNNING)

    def unfinished(self) -> BacktestQuerySet:
        return self.filter(state__in=(BacktestRun.State.WAITING, BacktestRun.State.RUNNING))

    def silent(self, at: datetime) -> BacktestQuerySet:
        """Return what runs by its row, but has not been heard of for too long."""
        return self.running().filter(beat_at__lt=at - SILENT)


class BacktestRun(models.Model):
    """One run. `asked` is what was asked for (`execution.backtest.asking.Asked.row`)."""

    class State(models.TextChoices):
        WAITING = "WAITING"
        RUNNING = "RUNNING"
        DONE = "DONE"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"

    title = models.CharField(max_length=200, help_text="Its rules and data in words.")
    asked = models.JSONField(help_text="Rules, sets, terms, window and data.")
    by_desk = models.BooleanField(
        default=False, help_text="Run by the desk's worker; otherwise by a command."
    )
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: by a command on the machine.",
    )
    asked_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    ended_at = models.DateTimeField(null=True, blank=True)
    permille = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(1000)], help_text="Of the frames, so far."
    )
    frames_per_s = models.FloatField(default=0)
    seconds_left = models.FloatField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True, help_text="Why it failed.")
    data = models.JSONField(
        null=True, blank=True, help_text="Window, coverage, gaps and hash of what was read."
    )
    notes = models.JSONField(default=list, blank=True)
    code_version = models.CharField(max_length=40, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)

    objects = BacktestQuerySet.as_manager()

    class Meta:
        verbose_name = "backtest run"
        permissions = (("run_backtest", "Can start backtests and cancel them"),)
        indexes = [
            models.Index(fields=["-asked_at", "-id"], name="backtests_newest"),
            models.Index(fields=["state", "asked_at"], name="backtest_queue"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state="RUNNING", by_desk=True),
                name="backtest_one_of_the_desk_runs",
            ),
            models.CheckConstraint(
                condition=Q(state="DONE", data__isnull=False) | ~Q(state="DONE"),
                name="backtest_done_has_data",
            ),
            models.CheckConstraint(
                condition=Q(state__in=("WAITING", "RUNNING"), ended_at__isnull=True)
                | Q(state__in=("DONE", "FAILED", "CANCELLED"), ended_at__isnull=False),
                name="backtest_over_has_an_end",
            ),
        ]

    def __str__(self) -> str:
        return f"Backtest {self.pk}: {self.title} ({self.state.lower()})"

    @property
    def over(self) -> bool:
        return self.state not in (self.State.WAITING, self.State.RUNNING)


class BacktestResult(models.Model):
    """What one rule with one set of parameters came to; `summary` has every figure."""

    run = models.ForeignKey(BacktestRun, on_delete=models.CASCADE, related_name="results")
    place = models.PositiveSmallIntegerField(help_text="Its turn in the run, from 0.")
    rule = models.CharField(max_length=64)
    label = models.CharField(max_length=400, blank=True, help_text="Empty: the rule as it is.")
    sha256 = models.CharField(max_length=64)
    directional = models.BooleanField()
    signals = models.PositiveIntegerField()
    p1 = models.PositiveIntegerField()
    trades = models.PositiveIntegerField()
    captured = models.DecimalField(max_digits=20, decimal_places=6, help_text="USD")
    capture = models.FloatField(null=True, blank=True, help_text="Of the most there was.")
    sharpe = models.FloatField(null=True, blank=True)
    summary = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "place"], name="backtest_result_once"),
        ]
        indexes = [
            # The tries of a directional rule, for its deflated Sharpe ratio.
            models.Index(fields=["rule", "directional"], name="backtest_trials"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.label}".strip()
