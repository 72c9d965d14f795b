"""What the door keeps: how often it was tried. The second factors are `execution`'s."""

from __future__ import annotations

from django.db import models


class Bucket(models.Model):
    """How many tries somebody has left; they come back with time (`mpx_site.access.pace`)."""

    key = models.CharField(max_length=80, primary_key=True)
    left = models.FloatField()
    at = models.DateTimeField(help_text="When that many were left.")
    refused_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.left:.1f} left at {self.at:%H:%M:%S}"
