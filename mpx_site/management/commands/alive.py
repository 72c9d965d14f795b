"""`alive`: say by its last sign of life whether a part of the desk works, for health checks."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from alerts.models import Heartbeat
from alerts.watchdog import LIMITS
from signals.share import STREAM
from signals.sharing import is_here, shards_here

NEGATIVE, UNREACHABLE = 1, 3


class Command(BaseCommand):
    help = "Exit code 0: the part has given a sign of life in time; 1: it has not; 3: no database."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("part", choices=sorted(LIMITS))

    def handle(self, *args: Any, **options: Any) -> None:
        part, at = options["part"], timezone.now()
        try:
            beats = {name: Heartbeat.objects.filter(pk=name).first() for name in _names(part)}
            here = bool(beats) or is_here()
        except DatabaseError as error:
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        if not beats:
            self.stdout.write(f"{part}: {'waits as a spare' if here else 'no process here'}")
        ages = {name: beat.age(at) if beat else None for name, beat in beats.items()}
        for name, age in ages.items():
            told = "no sign of life yet" if age is None else f"last sign of life {age} ago"
            self.stdout.write(f"{name}: {told}")
        most = max(LIMITS[part], timedelta(seconds=30))
        if not here or any(age is None or age > most for age in ages.values()):
            sys.exit(NEGATIVE)


def _names(part: str) -> tuple[str, ...]:
    """Return whose signs of life count: with shards, of those that this host has.

    A shard that another host lost is no reason to restart this one.
    """
    shards = settings.MPX_STREAM_SHARDS
    return shards_here(shards) if part == STREAM and shards > 1 else (part,)
