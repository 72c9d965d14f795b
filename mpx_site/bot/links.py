"""Whose Telegram account is whose: a one-time code made in the portal, sent to the bot."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from alerts import journal
from mpx_site.bot.models import LinkCode, TelegramLink

CODE_LIVES: Final = timedelta(minutes=10)
LETTERS: Final = "23456789abcdefghjkmnpqrstuvwxyz"  # none that looks like another
LENGTH: Final = 12  # 59 bits: far beyond what can be tried in ten minutes
USED_EVERY: Final = timedelta(minutes=1)  # a row is not rewritten at every command


def make_code(user: User, *, at: datetime) -> str:
    """Return a new code, which cannot be told again; one that was made before opens nothing."""
    code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    LinkCode.objects.update_or_create(
        user=user, defaults={"sha256": _hashed(code), "expires_at": at + CODE_LIVES}
    )
    return "-".join(code[start : start + 4] for start in range(0, LENGTH, 4))


def link(code: str, *, telegram_id: int, name: str, at: datetime) -> TelegramLink | None:
    """Link a Telegram account to whoever made the code; None if it opens nothing.

    A person has one account there: linking another takes the place of the first.
    """
    try:
        with transaction.atomic():
            user = _spent(code, at=at)
            if user is None:
                return None
            TelegramLink.objects.filter(user=user).delete()
            made = TelegramLink.objects.create(
                user=user, telegram_id=telegram_id, name=name, linked_at=at
            )
            _note("linked", made, by=user, at=at)
            return made
    except IntegrityError:  # this account was linked to somebody else a moment ago
        return None


def burn(code: str) -> None:
    """Let a code open nothing any more: others have seen it."""
    LinkCode.objects.filter(sha256=_hashed(code)).delete()


def unlink(link: TelegramLink, *, by: User | AnonymousUser, at: datetime) -> None:
    """End a link, and with it every button that its account was shown."""
    with transaction.atomic():
        if TelegramLink.objects.filter(pk=link.pk).delete()[0]:
            _note("unlinked", link, by=by, at=at)


def of(user: User) -> TelegramLink | None:
    return TelegramLink.objects.filter(user=user).first()


def holder(telegram_id: int) -> TelegramLink | None:
    """Return the link of a Telegram account, with its person as they are at this moment."""
    return TelegramLink.objects.select_related("user").filter(telegram_id=telegram_id).first()


def note_use(link: TelegramLink, *, at: datetime) -> None:
    if link.last_used_at is None or at - link.last_used_at >= USED_EVERY:
        TelegramLink.objects.filter(pk=link.pk).update(last_used_at=at)


def _spent(code: str, *, at: datetime) -> User | None:
    """Use a code up and return who made it; None if it is unknown, late, used or theirs no more."""
    found = LinkCode.objects.filter(sha256=_hashed(code), expires_at__gt=at)
    row = found.select_related("user").first()
    if row is None or not LinkCode.objects.filter(pk=row.pk, sha256=row.sha256).delete()[0]:
        return None
    return row.user if row.user.is_active else None


def _hashed(code: str) -> str:
    plain = "".join(letter for letter in code.lower() if letter in LETTERS)
    return hashlib.sha256(plain.encode()).hexdigest()


def _note(change: str, link: TelegramLink, *, by: User | AnonymousUser, at: datetime) -> None:
    journal.record(
        kind=f"telegram.{change}",
        subject=f"account:{link.user}"[:120],
        actor=by.get_username(),
        data={"owner": link.user.get_username(), "account": link.masked},
        at=at,
    )
