"""One at a time, over all processes: a row that one holder has until a moment.

A holder that dies loses its lease when the time is over; nobody has to clean up.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils import timezone

from markets.models import Lease


@contextmanager
def held(name: str, *, seconds: float) -> Iterator[bool]:
    """Hold a lease for the block if it is free, and say whether it was.

    The block must end within `seconds`: after that another may take it.
    """
    holder = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
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
