"""The second factor of a person: set up, used once per code, replaced, taken away."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from alerts import journal
from execution.authenticators import Authenticator, RecoveryCode, has_second_factor
from mpx_site.access import qr, totp
from mpx_site.access.qr import Picture

ISSUER: Final = "MarketPulse-X"
SECRET_BYTES: Final = 20
CODES: Final = 10
CODE_BYTES: Final = 10  # of randomness in a recovery code


class InUse(Exception):
    """The person has a second factor already."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app is told, shown once; `picture` is None for a very long name."""

    text: str
    address: str
    picture: Picture | None


@transaction.atomic
def begin(user: User, *, at: datetime) -> Enrolment:
    """Begin to set one up; what was begun before is dropped. Raises `InUse`."""
    if has_second_factor(user):
        raise InUse
    row, _ = Authenticator.objects.update_or_create(
        user=user,
        defaults={"salt": secrets.token_hex(32), "made_at": at, "confirmed_at": None},
    )
    return enrolment(row)


def enrolment(row: Authenticator) -> Enrolment:
    secret, account = _secret(row), row.user.get_username()
    address = totp.address(secret, issuer=ISSUER, account=account)
    return Enrolment(totp.as_text(secret), address, _picture(address))


@transaction.atomic
def confirm(user: User, code: str, *, at: datetime) -> list[str]:
    """Take into use what was begun; return the recovery codes, or nothing if the code is wrong."""
    row = Authenticator.objects.filter(user=user, confirmed_at=None).first()
    if row is None or not _uses_code(row, code, at):
        return []
    Authenticator.objects.filter(pk=row.pk).update(confirmed_at=at)
    _record("factor.set_up", user, at)
    return _new_codes(user)


@transaction.atomic
def new_codes(user: User, *, at: datetime) -> list[str]:
    """Replace the recovery codes; return the new ones, which are shown once."""
    _record("factor.new_codes", user, at)
    return _new_codes(user)


@transaction.atomic
def remove(user: User, *, by: str, at: datetime) -> bool:
    """Take the second factor away; False if there was none."""
    removed = bool(Authenticator.objects.filter(user=user).delete()[0])
    RecoveryCode.objects.filter(user=user).delete()
    if removed:
        _record("factor.removed", user, at, by=by)
    return removed


@transaction.atomic
def passes(user: User, code: str, *, at: datetime) -> str:
    """Use a code up; return `totp` or `recovery`, whichever it was, "" if it is not right."""
    row = Authenticator.objects.filter(user=user, confirmed_at__isnull=False).first()
    if row is None:
        return ""
    if _uses_code(row, code, at):
        return "totp"
    digest = _digest(user, code)
    unused = RecoveryCode.objects.filter(user=user, digest=digest, used_at=None)
    return "recovery" if unused.update(used_at=at) else ""


def _picture(address: str) -> Picture | None:
    try:
        return qr.picture(address)
    except qr.TooLong:
        return None


def codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def _uses_code(row: Authenticator, code: str, at: datetime) -> bool:
    """Say whether a code is right and was not used before; it is used then."""
    step = totp.step_of(_secret(row), re.sub(r"\s", "", code), seconds=at.timestamp())
    if step is None:
        return False
    unused = Authenticator.objects.filter(pk=row.pk, salt=row.salt, last_step__lt=step)
    return bool(unused.update(last_step=step))


def _secret(row: Authenticator) -> bytes:
    return _keyed(f"totp:{row.user_id}:{row.salt}")[:SECRET_BYTES]


def _new_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    plain = [base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode() for _ in range(CODES)]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, digest=_digest(user, each)) for each in plain
    )
    return [f"{each[:4]}-{each[4:8]}-{each[8:12]}-{each[12:]}".lower() for each in plain]


def _digest(user: User, code: str) -> str:
    plain = re.sub(r"[\s-]", "", code).upper()
    return _keyed(f"recovery:{user.pk}:{plain}").hex()


def _keyed(what: str) -> bytes:
    return hmac.new(settings.SECRET_KEY.encode(), what.encode(), sha256).digest()


def _record(kind: str, user: User, at: datetime, by: str = "") -> None:
    journal.record(
        kind=kind,
        subject=f"account:{user.get_username()}"[:120],
        actor=by or user.get_username(),
        data={},
        at=at,
    )
