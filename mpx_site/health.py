"""Probes: `/livez` (the process), `/readyz` (may it serve), `/api/healthz` (is the desk well)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts import clocks, watchdog
from mpx_site.api_answers import NoQuery, asked
from mpx_site.db import limits
from mpx_site.portal.desk import Desk, Pulse

REMEMBERED_SECONDS = 2.0
QUERY_TIMEOUT = "300ms"
STATES = ["ok", "late", "stale", "no_data"]
STATUSES = ["ok", "degraded", "down"]
T = TypeVar("T")


class Remembered(Generic[T]):
    """One answer shared by everybody who asks within some seconds: nobody can flood."""

    def __init__(self, ask: Callable[[], T], *, seconds: float = REMEMBERED_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answer: tuple[float, T] | None = None

    def get(self) -> T:
        with self._lock:
            if self._answer is None or time.monotonic() - self._answer[0] > self._seconds:
                self._answer = time.monotonic(), self._ask()
            return self._answer[1]

    def forget(self) -> None:
        self._answer = None


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the desk looked like at one moment; without a database nothing else is known."""

    at: datetime
    database: bool
    pulses: tuple[Pulse, ...] = ()

    @property
    def rules_heartbeat(self) -> str:
        """Return how fresh the last evaluation is: `ok`, `stale` or `no_data`."""
        if not self.pulses or self.pulses[0].at is None:
            return "no_data"
        return "ok" if self.pulses[0].trusted else "stale"

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the parts that are missed."""
        return watchdog.silent_now(
            {
                pulse.component: timedelta(seconds=pulse.age_seconds)
                for pulse in self.pulses
                if pulse.age_seconds is not None
            }
        )

    @property
    def status(self) -> str:
        if not self.database:
            return "down"
        well = self.rules_heartbeat == "ok" and not self.silent
        return "ok" if well and not any(map(_tells_a_wrong_clock, self.pulses)) else "degraded"

    def row(self) -> dict[str, object]:
        return {
            "status": self.status,
            "time": self.at,
            "db": "ok" if self.database else "down",
            "rules_heartbeat": self.rules_heartbeat,
            "silent": self.silent,
            "components": {pulse.component: _component(pulse) for pulse in self.pulses},
        }


def _tells_a_wrong_clock(pulse: Pulse) -> bool:
    ahead = pulse.detail.get("ahead_seconds")
    far = clocks.WRONG.total_seconds()
    return pulse.state != "stale" and isinstance(ahead, int | float) and abs(ahead) > far


def _component(pulse: Pulse) -> dict[str, object]:
    age = None if pulse.age_seconds is None else round(pulse.age_seconds, 3)
    state = "stale" if _tells_a_wrong_clock(pulse) else pulse.state
    return {
        "state": "no_data" if pulse.at is None else state,
        "at": pulse.at,
        "age_seconds": age,
        "progress": pulse.progress,
        "lag_seconds": pulse.detail.get("heard"),
    }


def examine() -> Checkup:
    """Look at the database and the heartbeats in it."""
    at = timezone.now()
    try:
        with limits.ahead(), hurried():
            return Checkup(at, database=True, pulses=Desk(at=at).pulses)
    except DatabaseError:
        return Checkup(at, database=False)


@contextmanager
def hurried() -> Iterator[None]:
    """Let no query hang. SQLite's readers never wait, but a transaction there would."""
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [QUERY_TIMEOUT])
        yield


def unapplied_migrations() -> int | None:
    """Return how many migrations the database lacks; None if it does not answer."""
    try:
        with limits.ahead():
            executor = MigrationExecutor(connection)
            return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError:
        return None


checkup = Remembered(examine)
unapplied = Remembered(unapplied_migrations)


@login_not_required
def livez(request: HttpRequest) -> JsonResponse:
    """Answer while the process can; ask nothing else."""
    return JsonResponse({"status": "ok"})


@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether this process should get traffic: 503 without its database or its tables."""
    missing = unapplied.get()
    ready = missing == 0
    told = {
        "status": "ok" if ready else "not_ready",
        "db": "down" if missing is None else "ok",
        "unapplied_migrations": missing,
    }
    return JsonResponse(told, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


class ComponentRow(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=STATES)
    at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.FloatField(allow_null=True)
    progress = serializers.IntegerField()
    lag_seconds = serializers.FloatField(
        allow_null=True, help_text="Of `pulse`: from a frame to a listener of the feed."
    )


class HealthRow(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=STATUSES)
    time = serializers.DateTimeField()
    db = serializers.ChoiceField(choices=["ok", "down"])
    rules_heartbeat = serializers.ChoiceField(
        choices=["ok", "stale", "no_data"], help_text="By the age of the last evaluation."
    )
    silent = serializers.ListField(
        child=serializers.CharField(), help_text="Parts that beat before and are missed now."
    )
    components = serializers.DictField(child=ComponentRow())


class Health(APIView):
    """Whether the desk is well. 503 only without a database; a stale feed is `degraded`."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(operation_id="healthz", responses={200: HealthRow, 503: HealthRow})
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        found = checkup.get()
        status = HTTPStatus.OK if found.database else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(found.row(), status=status)
