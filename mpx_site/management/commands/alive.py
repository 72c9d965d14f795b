"""`alive`: say by its last sign of life whether a part of the desk works, for health checks."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from alerts.models import Heartbeat
from alerts.watchdog import LIMITS

NEGATIVE, UNREACHABLE = 1, 3


class Command(BaseCommand):
    help = "Exit code 0: the part has given a sign of life in time; 1: it has not; 3: no database."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("part", choices=sorted(LIMITS))

    def handle(self, *args: Any, **options: Any) -> None:
        part = options["part"]
        try:
            beat = Heartbeat.objects.filter(pk=part).first()
        except DatabaseError as error:
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        age = None if beat is None else beat.age(timezone.now())
        told = "no sign of life yet" if age is None else f"last sign of life {age} ago"
        self.stdout.write(f"{part}: {told}")
        if age is None or age > max(LIMITS[part], timedelta(seconds=30)):
            sys.exit(NEGATIVE)
