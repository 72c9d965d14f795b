"""The daily figures as rows; `execution.kpi_store` writes them and says when they are not due."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from execution.kpi import COUNTED, Counts, Kpi, Lives
from rules.models import Rule


class RuleKpiDaily(models.Model):
    """What a rule found on one UTC day: sums and counts. Units as in `execution.kpi`."""

    rule = models.ForeignKey(Rule, on_delete=models.CASCADE, related_name="kpis")
    day = models.DateField(help_text="UTC day on which the signals opened.")
    signals = models.PositiveIntegerField()
    p1 = models.PositiveIntegerField()
    p2 = models.PositiveIntegerField()
    p3 = models.PositiveIntegerField()
    priced = models.PositiveIntegerField(help_text="Have an edge: no directions, no bets.")
    edge_sum = models.BigIntegerField(help_text="Of best edges, in hundredths of a bp.")
    gap_sum = models.BigIntegerField(help_text="In 1e-9 USD per USD that is paid back.")
    p1_profit = models.BigIntegerField(help_text="Of P1 at their best, in 1e-6 USD.")
    missed = models.PositiveIntegerField(help_text="P1 closed without an order approved.")
    missed_profit = models.BigIntegerField(help_text="In 1e-6 USD.")
    suggested = models.PositiveIntegerField()
    waiting = models.PositiveIntegerField()
    approved = models.PositiveIntegerField()
    filled = models.PositiveIntegerField()
    rejected = models.PositiveIntegerField()
    expired = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    captured = models.BigIntegerField(help_text="In 1e-6 USD.")
    still_open = models.PositiveIntegerField(help_text="Signals and orders that may change this.")
    lives = models.JSONField(default=dict, help_text="Closed signals by bin of their lifetime.")
    life_ms = models.JSONField(default=list, help_text="50, 90 and 99 %; empty: none closed.")
    last_signal = models.BigIntegerField(help_text="Newest signal that was there when it counted.")
    last_intent = models.BigIntegerField(help_text="Newest order likewise.")
    counted_at = models.DateTimeField()

    class Meta:
        db_table = "rule_kpi_daily"
        verbose_name = "daily figures of a rule"
        verbose_name_plural = "daily figures of rules"
        indexes = (
            models.Index(fields=["day"], name="kpis_by_day"),
            models.Index(fields=["day"], name="kpis_not_final", condition=Q(still_open__gt=0)),
        )
        constraints = (
            models.UniqueConstraint(fields=["rule", "day"], name="one_kpi_a_rule_and_day"),
            models.CheckConstraint(
                condition=Q(signals=F("p1") + F("p2") + F("p3")), name="kpi_levels_add_up"
            ),
        )

    def __str__(self) -> str:
        return f"{self.rule_id} on {self.day}: {self.signals} signals"

    @property
    def kpi(self) -> Kpi:
        """Return the figures; the rule is read with its row."""
        counts = Counts(*(getattr(self, name) for name in COUNTED))
        bins = {int(number): count for number, count in self.lives.items()}
        return Kpi(self.rule.code, self.day, counts, Lives(bins, tuple(self.life_ms)))
