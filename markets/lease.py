"""One at a time, over all processes: a row that one holder has until a moment.

A holder that dies loses its lease when the time is over; nobody has to clean up.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from markets.models import Lease

STANDSTILL_SECONDS: Final = 5  # of a process in the middle of a transaction


@contextmanager
def held(name: str, *, seconds: float) -> Iterator[bool]:
    """Hold a lease for the block if it is free, and say whether it was.

    The block must end within `seconds`: after that another may take it.
    """
    holder = _somebody()
    at = timezone.now()
    if not take(name, holder=holder, at=at, until=at + timedelta(seconds=seconds)):
        yield False
        return
    try:
        yield True
    finally:
        give_back(name, holder=holder, at=timezone.now())


def take(name: str, *, holder: str, at: datetime, until: datetime) -> bool:
    """Take the lease if it is free at `at`; return whether it is ours now."""
    Lease.objects.get_or_create(name=name, defaults={"until": at})
    free = Lease.objects.filter(name=name, until__lte=at)
    return free.update(holder=holder, until=until) == 1


def keep(name: str, *, holder: str, at: datetime, until: datetime) -> bool:
    """Hold on to a lease that is still ours at `at`; return whether it was."""
    ours = Lease.objects.filter(name=name, holder=holder, until__gt=at)
    return ours.update(until=until) == 1


def give_back(name: str, *, holder: str, at: datetime) -> None:
    """Let go of a lease; one that somebody else has meanwhile taken is left alone."""
    Lease.objects.filter(name=name, holder=holder).update(holder="", until=at)


# --- what is held for long, and defended where it counts --------------------------------


class LeaseLost(Exception):
    """Somebody else has taken the lease meanwhile: nothing may be done in its name any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease of ours, by its holder's name: every taking has another, so it is a fencing token.

    Its time is the database's. It stays ours beyond its end until somebody takes it.
    """

    name: str
    holder: str
    was_lost: bool = False  # the one before did not give it back

    def renew(self, *, seconds: float) -> bool:
        """Hold it for so long from now; return False if it was taken."""
        ours = Lease.objects.filter(name=self.name, holder=self.holder)
        return ours.update(until=Now() + timedelta(seconds=seconds)) == 1

    def confirm(self) -> None:
        """Make sure in a transaction that it is ours: nobody can take it before the commit.

        Raises `LeaseLost`. A process that stands still in that transaction is cut off by
        PostgreSQL, so that it does not keep the lease from others for ever.
        """
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true)",
                    [f"{STANDSTILL_SECONDS}s"],
                )
                # Holds off those who take it, not our own other threads, who prove or renew it.
                cursor.execute(
                    "SELECT 1 FROM markets_lease WHERE name = %s AND holder = %s FOR KEY SHARE",
                    [self.name, self.holder],
                )
                is_ours = cursor.fetchone() is not None
        else:
            is_ours = Lease.objects.filter(name=self.name, holder=self.holder).exists()
        if not is_ours:
            raise LeaseLost(self.name)

    def give_back(self) -> None:
        ours = Lease.objects.filter(name=self.name, holder=self.holder)
        ours.update(holder="", until=Now())


def claim_one(names: Iterable[str], *, seconds: float) -> Claim | None:
    """Take one of these leases that is free; None if there is none just now.

    One that a transaction of its last holder still holds on to is passed over.
    """
    wanted = list(names)
    rows = Lease.objects.filter(name__in=wanted, until__lte=Now())
    with transaction.atomic():
        row = rows.select_for_update(skip_locked=True).order_by("name").first()
        if row is None:
            return None
        claim = Claim(row.name, _somebody(), was_lost=bool(row.holder))
        until = Now() + timedelta(seconds=seconds)
        taken = rows.filter(pk=row.pk).update(holder=claim.holder, until=until)
    return claim if taken else None


def lay_out(names: Iterable[str]) -> None:
    """Make sure that leases are there to be taken."""
    Lease.objects.bulk_create(
        [Lease(name=name, until=Now()) for name in names], ignore_conflicts=True
    )


def of_this_host() -> str:
    """Return what the name of every holder on this host begins with."""
    return f"{socket.gethostname()[:40]}:"


def _somebody() -> str:
    return f"{of_this_host()}{os.getpid()}:{secrets.token_hex(4)}"
