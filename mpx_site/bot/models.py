"""What the bot keeps: who is linked, codes that link, orders that were shown, where it is."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models

from execution.models import OrderIntent


class TelegramLink(models.Model):
    """A person of the desk and the Telegram account that may act as that person.

    `telegram_id` is also the id of that account's private chat with the bot.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="telegram_link"
    )
    telegram_id = models.BigIntegerField(unique=True)
    name = models.CharField(max_length=64, blank=True, help_text="As Telegram told it then.")
    linked_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")

    class Meta:
        default_permissions = ("view", "delete")

    def __str__(self) -> str:
        return f"{self.user} as {self.masked}"

    @property
    def masked(self) -> str:
        """Name the account so that its owner knows it again."""
        return f"{self.name or 'Telegram'} (…{str(self.telegram_id)[-4:]})"


class LinkCode(models.Model):
    """The code that a person may send to the bot once. Only its sha256 is kept."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    sha256 = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Code of {self.user_id} until {self.expires_at:%H:%M:%S}"


class ShownOrder(models.Model):
    """A version of an order that the bot showed to one person in one chat, with its buttons.

    The buttons carry a nonce, of which the sha256 is kept. It goes with the link. `used_by` is
    the update that pressed one: the same update may come twice, another may not.
    """

    class Act(models.TextChoices):
        APPROVE = "APPROVE"
        REJECT = "REJECT"

    sha256 = models.CharField(max_length=64, unique=True)
    link = models.ForeignKey(TelegramLink, on_delete=models.CASCADE, related_name="+")
    chat = models.BigIntegerField()
    intent = models.ForeignKey(OrderIntent, on_delete=models.CASCADE, related_name="+")
    act = models.CharField(max_length=7, choices=Act.choices)
    revision = models.PositiveIntegerField()
    plan_hash = models.CharField(max_length=64)
    reason = models.CharField(max_length=300, blank=True)
    expires_at = models.DateTimeField(db_index=True)
    used_by = models.BigIntegerField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.act} of order {self.intent_id} until {self.expires_at:%H:%M:%S}"

    def is_over(self, at: datetime) -> bool:
        return at >= self.expires_at


class Mailbox(models.Model):
    """How far the messages to a bot were read. `bot` is its public id, the token's first part."""

    bot = models.CharField(max_length=20, primary_key=True)
    last_update = models.BigIntegerField(default=0)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Bot {self.bot} at {self.last_update}"
