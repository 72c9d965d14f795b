"""Tokens of people: made, found, revoked. The audit chain has who did it; nobody has the secret."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from alerts import journal
from mpx_site.models import ApiToken, Scope

SHAPE: Final = re.compile(r"mpx_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
LIVE_PER_USER: Final = 20
DAYS, MOST_DAYS = 90, 365
USED_EVERY: Final = timedelta(minutes=1)  # a row is not rewritten at every request
# A token of a scope that its owner cannot use is refused when it is made: one of these rights.
RIGHTS: Final = {
    Scope.INTENTS_CREATE: ("execution.create_intent",),
    Scope.INTENTS_APPROVE: ("execution.approve_intent",),
    Scope.RULES_WRITE: ("rules.add_rule", "rules.change_rule", "rules.enable_rule"),
}


class Unusable(Exception):
    """A token that opens nothing; the message says why, once the secret is the right one."""


class TooMany(Exception):
    def __init__(self) -> None:
        super().__init__(f"You have {LIVE_PER_USER} live tokens already; revoke one first.")


def lacking(user: User, scopes: Collection[str]) -> list[str]:
    """Return the scopes that a person's own rights could never fill."""
    return [
        scope
        for scope in scopes
        if (rights := RIGHTS.get(Scope(scope))) and not any(map(user.has_perm, rights))
    ]


def make(
    user: User, *, name: str, scopes: Collection[str], days: int, at: datetime
) -> tuple[ApiToken, str]:
    """Return a new token and its text, which cannot be told again. Raises `TooMany`."""
    prefix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # who asks twice at once takes turns
        if len([each for each in of(user) if each.state(at) == "live"]) >= LIVE_PER_USER:
            raise TooMany
        token = ApiToken.objects.create(
            user=user,
            name=name,
            prefix=prefix,
            sha256=_hashed(secret),
            scopes=sorted(set(scopes)),
            created_at=at,
            expires_at=at + timedelta(days=days),
        )
        told = {"name": name, "scopes": token.scopes, "expires_at": token.expires_at}
        _note("created", token, by=user, at=at, data=told)
    return token, f"mpx_{prefix}_{secret}"


def of(user: User) -> list[ApiToken]:
    """Return a person's tokens, newest first, those that ended too."""
    return list(ApiToken.objects.filter(user=user).order_by("-id"))


def revoke(token: ApiToken, *, by: User | AnonymousUser, at: datetime) -> bool:
    """End a token now; return whether it was not ended before."""
    with transaction.atomic():
        standing = ApiToken.objects.filter(pk=token.pk, revoked_at=None)
        if not standing.update(revoked_at=at):
            return False
        _note("revoked", token, by=by, at=at, data={"owner": token.user.get_username()})
    return True


def looks_like_one(sent: str) -> bool:
    return SHAPE.fullmatch(sent) is not None


def holder_of(sent: str, *, at: datetime) -> ApiToken:
    """Return the live token of a text, with its owner, and note its use; raise `Unusable`."""
    shape = SHAPE.fullmatch(sent)
    prefix, secret = shape.groups() if shape else ("", "")
    token = ApiToken.objects.select_related("user").filter(prefix=prefix).first()
    if not hmac.compare_digest(token.sha256 if token else "", _hashed(secret)) or token is None:
        raise Unusable("This token is not known here.")
    if token.revoked_at is not None:
        raise Unusable("This token was revoked.")
    if at >= token.expires_at:
        raise Unusable(f"This token has expired at {token.expires_at:%Y-%m-%d %H:%M} UTC.")
    if not token.user.is_active:
        raise Unusable("The account of this token is switched off.")
    if token.last_used_at is None or at - token.last_used_at >= USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=at)
    return token


def opens_metrics(sent: str, *, at: datetime) -> bool:
    """Say whether a token is a live one with the scope for `/metrics`."""
    if not looks_like_one(sent):
        return False
    try:
        return Scope.METRICS in holder_of(sent, at=at).scopes
    except Unusable:
        return False


def _hashed(secret: str) -> str:
    """A plain hash will do: the secret has 256 bits of its own."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _note(
    change: str, token: ApiToken, *, by: User | AnonymousUser, at: datetime, data: dict[str, object]
) -> None:
    journal.record(
        kind=f"token.{change}",
        subject=f"token:{token.prefix}",
        actor=by.get_username(),
        data=data,
        at=at,
    )
