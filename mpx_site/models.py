"""What the composition root keeps itself: its people's API tokens, what they prefer, the bot's."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models

from mpx_site.access.models import Bucket as Bucket
from mpx_site.bot.models import LinkCode as LinkCode
from mpx_site.bot.models import Mailbox as Mailbox
from mpx_site.bot.models import ShownOrder as ShownOrder
from mpx_site.bot.models import TelegramLink as TelegramLink
from mpx_site.preferences import Preference as Preference

TOKEN_STATES = ["live", "expired", "revoked"]


class Scope(models.TextChoices):
    """What a token may be used for; its owner's own rights bound it further."""

    READ = "read", "read everything its owner may read"
    SIGNALS_WRITE = "signals:write", "act on signals"
    INTENTS_CREATE = "intents:create", "suggest, revise and cancel orders"
    INTENTS_APPROVE = "intents:approve", "approve and reject orders, trip the kill switch"
    RULES_WRITE = "rules:write", "publish and switch rules"
    ALERTS_TEST = "alerts:test", "send test alerts"
    METRICS = "metrics", "scrape /metrics"


class ApiToken(models.Model):
    """A person's key for a program. The secret is shown once; only its sha256 is kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=80, help_text="What it is for.")
    prefix = models.CharField(max_length=8, unique=True, help_text="How logs and audit name it.")
    sha256 = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        permissions = [("revoke_apitoken", "Can revoke API tokens of others")]

    def __str__(self) -> str:
        return f"mpx_{self.prefix}_… ({self.name})"

    def state(self, at: datetime) -> str:
        """Return `live`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "live" if at < self.expires_at else "expired"
