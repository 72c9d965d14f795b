"""`smoke`: ask a desk that was just started what everybody would ask first."""

from __future__ import annotations

import argparse
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from mpx_site import api_token_book
from mpx_site.models import Scope

NEGATIVE, UNREACHABLE = 1, 3
READER = "smoke"
WAIT_SECONDS, LOOK_SECONDS, ANSWER_SECONDS = 240.0, 2.0, 10.0
EXAMPLES = """It expects: /readyz says ok; /api/healthz says db ok and rules_heartbeat ok;
/api/markets is not empty; /api/signals?level=P1 has at least one entry.
It reads with a token of an account `smoke` without rights, which is revoked at the end.

exit codes: 0 all is there; 1 something is not, in time; 3 no database"""


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--url", default=f"http://127.0.0.1:{settings.API_PORT}")
        parser.add_argument("--seconds", type=float, default=WAIT_SECONDS, help="to wait at most")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with reading() as token, _client(options["url"], token) as client:
                found = self._all(client, time.monotonic() + options["seconds"])
        except DatabaseError as error:
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        ok = all(seconds is not None for seconds in found.values())
        if options["json"]:
            self.stdout.write(json.dumps({"schema": 1, "ok": ok, "seconds": found}))
        if not ok:
            sys.exit(NEGATIVE)

    def _all(self, client: httpx.Client, deadline: float) -> dict[str, float | None]:
        """Return after how many seconds each thing was there; None: it never was."""
        begun, found = time.monotonic(), dict[str, float | None]()
        for name, look in LOOKS.items():
            found[name] = _seconds_until(partial(look, client), begun, deadline)
            said = "not there" if found[name] is None else f"ok after {found[name]:.1f} s"
            self.stderr.write(f"{name}: {said}")
        return found


def _client(url: str, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWER_SECONDS
    )


def _seconds_until(look: Callable[[], bool], begun: float, deadline: float) -> float | None:
    while True:
        try:
            if look():
                return round(time.monotonic() - begun, 1)
        except (httpx.HTTPError, ValueError, KeyError):
            pass  # not yet
        if time.monotonic() + LOOK_SECONDS > deadline:
            return None
        time.sleep(LOOK_SECONDS)


def _ready(client: httpx.Client) -> bool:
    return bool(client.get("/readyz").status_code == httpx.codes.OK)


def _well(client: httpx.Client) -> bool:
    told = client.get("/api/healthz").json()
    return bool(told["db"] == "ok" and told["rules_heartbeat"] == "ok")


def _markets(client: httpx.Client) -> bool:
    return len(client.get("/api/markets").raise_for_status().json()) > 0


def _signals(client: httpx.Client) -> bool:
    return len(client.get("/api/signals?level=P1").raise_for_status().json()) > 0


LOOKS: dict[str, Callable[[httpx.Client], bool]] = {
    "readyz": _ready,
    "healthz": _well,
    "markets": _markets,
    "p1_signals": _signals,
}


@contextmanager
def reading() -> Iterator[str]:
    """Give the text of a token that may read, for the block."""
    user, _ = User.objects.get_or_create(username=READER, defaults={"password": "!"})  # nosec B105
    token, text = api_token_book.make(
        user, name="smoke", scopes=[Scope.READ], days=1, at=timezone.now()
    )
    try:
        yield text
    finally:
        api_token_book.revoke(token, by=user, at=timezone.now())
