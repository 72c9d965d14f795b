"""Bursts that somebody asked the simulated venue for."""

from __future__ import annotations

from django.db import models


class DemoBurst(models.Model):
    """So many arbitrages at once in the simulated venue, please; `planted` null: not yet."""

    asked_at = models.DateTimeField()
    plants = models.PositiveIntegerField()
    taken = models.BooleanField(default=False)
    planted = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"burst of {self.plants} asked for at {self.asked_at:%Y-%m-%d %H:%M:%S} UTC"
