"""What a person has set for themselves: their saved views, and how pages look to them."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Preference(models.Model):
    """One setting of one person, by name."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preferences"
    )
    name = models.CharField(max_length=100)
    value = models.JSONField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="one_value_a_preference")
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.name}"
