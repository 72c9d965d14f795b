"""Near-certain prices as they were seen, kept until it is known what became of them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class NearCertain(models.Model):
    """One side of a market at a near-certain price, a time before its end as listed then.

    Written when it is seen, never from hindsight. `bucket` and `band` number the time
    left and the price (`rules.kernel.endgame`): each is noted once, at the first look.
    """

    market = models.ForeignKey(
        "markets.Market", on_delete=models.CASCADE, related_name="near_certain"
    )
    outcome = models.PositiveSmallIntegerField()
    bucket = models.PositiveSmallIntegerField()
    band = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=6, decimal_places=4, help_text="That it was offered at.")
    seconds_left = models.IntegerField(help_text="To the listed end; negative once it has passed.")
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "near-certain prices"
        indexes = [models.Index(fields=["-seen_at", "-id"], name="newest_near_certain")]
        constraints = [
            models.UniqueConstraint(
                fields=["market", "outcome", "bucket", "band"], name="near_certain_once_a_cell"
            ),
            models.CheckConstraint(condition=Q(outcome__lte=1), name="near_certain_of_0_or_1"),
        ]

    def __str__(self) -> str:
        return f"{self.market_id}:{self.outcome} at {self.price}, {self.seconds_left} s left"
