"""How often the door may be tried, and lists be exported: buckets that fill up again.

They are kept in the database, so all processes count together. Nobody is locked out for good. A
password that is right gives its try back.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from mpx_site.models import Bucket

MOST_NAME: Final = 150
TOLD_AGAIN: Final = timedelta(hours=1)
KEPT: Final = timedelta(days=2)  # by then every bucket is full again


@dataclass(frozen=True, slots=True)
class Pace:
    """So many tries at once, and as many again over the `span`."""

    tries: int
    span: timedelta

    def refilled(self, bucket: Bucket, at: datetime) -> float:
        gained = (at - bucket.at) / self.span * self.tries
        return min(bucket.left + max(gained, 0.0), float(self.tries))


BY_ADDRESS: Final = Pace(20, timedelta(hours=1))
BY_ACCOUNT: Final = Pace(20, timedelta(days=1))
EXPORTS: Final = Pace(60, timedelta(hours=1))  # of one person, each up to 50,000 rows
TOLD: Final = Pace(30, timedelta(hours=1))  # refusals that the audit chain is told of one origin


@dataclass(frozen=True, slots=True)
class Refused:
    """Too many tries. `first` says whether nobody was told of it for an hour."""

    seconds: int
    first: bool

    @property
    def minutes(self) -> int:
        return math.ceil(self.seconds / 60)


class Tries:
    """The tries of one address at one account; the account need not exist."""

    def __init__(self, request: HttpRequest, name: str) -> None:
        typed = name.strip().casefold()[:MOST_NAME]
        self._buckets: Sequence[tuple[str, Pace]] = (
            (_key("address", address_of(request)), BY_ADDRESS),
            (_key("account", typed), BY_ACCOUNT),
        )

    @transaction.atomic
    def take(self, *, at: datetime) -> Refused | None:
        """Use up one try of each bucket; where one is empty, use none and say how long to wait."""
        rows = [(_locked(key, pace, at), pace) for key, pace in self._buckets]
        for row, pace in rows:
            row.left, row.at = pace.refilled(row, at), max(at, row.at)
        waits = [(1 - row.left) * (pace.span / pace.tries) for row, pace in rows if row.left < 1]
        first = all(not row.refused_at or at - row.refused_at > TOLD_AGAIN for row, _ in rows)
        for row, _ in rows:
            if waits:
                row.refused_at = at if first else row.refused_at
            else:
                row.left -= 1
            row.save()
        if not waits:
            return None
        return Refused(math.ceil(max(waits).total_seconds()), first)

    @transaction.atomic
    def give_back(self, *, at: datetime) -> None:
        """Undo a `take` whose try was right."""
        for key, pace in self._buckets:
            row = _locked(key, pace, at)
            row.left = min(pace.refilled(row, at) + 1, float(pace.tries))
            row.at = max(at, row.at)
            row.save()


def is_to_be_told(origin: str, *, at: datetime) -> bool:
    """Say whether one more refusal of an origin is told: nobody must fill the chain by asking."""
    return not _wait(_key("told", origin), TOLD, at)


def wait_for_export(request: HttpRequest, *, at: datetime) -> int:
    """Use up one export of whoever asks; return 0, or how many seconds to wait for one."""
    user = getattr(request, "user", None)
    whose = f"user-{user.pk}" if user is not None and user.pk else address_of(request)
    return _wait(_key("export", whose), EXPORTS, at)


@transaction.atomic
def _wait(key: str, pace: Pace, at: datetime) -> int:
    """Take one out of a bucket; return 0, or after how many seconds there is one again."""
    row = _locked(key, pace, at)
    row.left, row.at = pace.refilled(row, at), max(at, row.at)
    if row.left < 1:
        return math.ceil(((1 - row.left) * (pace.span / pace.tries)).total_seconds())
    row.left -= 1
    row.save()
    return 0


def prune(*, at: datetime) -> int:
    """Forget buckets that have filled up long ago; return how many."""
    return Bucket.objects.filter(at__lt=at - KEPT).delete()[0]


def address_of(request: HttpRequest) -> str:
    """Return who asks: the peer, or whom a trusted proxy asks for."""
    peer = str(request.META.get("REMOTE_ADDR") or "")
    if not _is_trusted(peer):
        return peer
    told = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    strangers = [part for part in told if part and not _is_trusted(part)]
    return strangers[-1] if strangers else peer


def _is_trusted(address: str) -> bool:
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(number in network for network in settings.MPX_TRUSTED_PROXIES)


def _key(what: str, whose: str) -> str:
    """Name a bucket. What was typed as a name may be a password, so it is not kept."""
    return f"{what}:{hashlib.sha256(whose.encode()).hexdigest()[:40]}"


def _locked(key: str, pace: Pace, at: datetime) -> Bucket:
    Bucket.objects.get_or_create(key=key, defaults={"left": pace.tries, "at": at})
    return Bucket.objects.select_for_update().get(pk=key)
