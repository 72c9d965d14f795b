"""Trip, re-arm or read the kill switch. Needs only the database, not the web."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from risk import killswitch
from risk.checks import Kill
from risk.killswitch import Switched

NEGATIVE, USAGE, UNREACHABLE, REFUSED = 1, 2, 3, 5
EXAMPLES = """examples:
  manage.py killswitch on --reason "fills look wrong"
  manage.py killswitch status --json
  manage.py killswitch off --reason "cause found" --by alice

off needs an account that may re-arm it, of another person than who tripped it.

exit codes: 0 done, or off; 1 status: it is on; 2 wrong call; 3 no database (then treat it
as on: nothing is approved or filled without it); 5 refused"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        on = acts.add_parser("on", help="stop all approvals and fills at once")
        on.add_argument("--reason", required=True)
        on.add_argument("--by", metavar="ACCOUNT", help="else the account of this console")
        off = acts.add_parser("off", help="re-arm it as the second person")
        off.add_argument("--reason", required=True)
        off.add_argument("--by", metavar="ACCOUNT", required=True)
        status = acts.add_parser("status", help="say whether it is on")
        for act in (on, off, status):
            act.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        try:
            code = {"on": self.on, "off": self.off, "status": self.status}[act](options)
        except DatabaseError as error:
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        if code:
            sys.exit(code)

    def on(self, options: dict[str, Any]) -> int:
        by = _account(options["by"]) if options["by"] else None
        actor = f"console:{getpass.getuser()}"
        done = killswitch.trip(reason=options["reason"], at=datetime.now(UTC), by=by, actor=actor)
        return self._told(done, options)

    def off(self, options: dict[str, Any]) -> int:
        done = killswitch.rearm(
            reason=options["reason"], at=datetime.now(UTC), by=_account(options["by"])
        )
        return self._told(done, options)

    def status(self, options: dict[str, Any]) -> int:
        kill = killswitch.status()
        self._print(kill, (), options)
        if not kill.readable:
            return UNREACHABLE
        return NEGATIVE if kill.tripped else 0

    def _told(self, done: Switched, options: dict[str, Any]) -> int:
        self._print(done.kill, done.verdict.reasons, options)
        return 0 if done.verdict.ok else REFUSED

    def _print(self, kill: Kill, reasons: tuple[str, ...], options: dict[str, Any]) -> None:
        if options["json"]:
            told = {
                "schema": 1,
                "tripped": kill.tripped,
                "readable": kill.readable,
                "reason": kill.reason,
                "refused": list(reasons),
            }
            self.stdout.write(json.dumps(told))
            return
        for reason in reasons:
            self.stderr.write(f"Refused. {reason}")
        self.stdout.write(f"Kill switch ON: {kill.reason}" if kill.tripped else "Kill switch off")


def _account(name: str) -> User:
    try:
        return User.objects.get(username=name, is_active=True)
    except User.DoesNotExist:
        raise CommandError(f"there is no active account {name!r}", returncode=USAGE) from None
