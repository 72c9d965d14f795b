"""Second factors of people. Here, because approving an order may take one."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models


class Authenticator(models.Model):
    """A person's authenticator app. Its secret is derived from `salt` and SECRET_KEY, not kept."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="authenticator"
    )
    salt = models.CharField(max_length=64)
    made_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    last_step = models.BigIntegerField(default=0, help_text="Codes up to this one are used up.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"of {self.user}, {'in use' if self.confirmed_at else 'not confirmed'}"


class RecoveryCode(models.Model):
    """Opens the door once without the app. Only a keyed hash is kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="recovery_codes"
    )
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["user", "digest"], name="recovery_code_once")
        ]

    def __str__(self) -> str:
        return f"of {self.user}, {'used' if self.used_at else 'not used'}"


def has_second_factor(user: User) -> bool:
    return Authenticator.objects.filter(user=user, confirmed_at__isnull=False).exists()
