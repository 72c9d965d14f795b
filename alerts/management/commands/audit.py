"""Check the audit chain: every link, and that nothing was cut off its end."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from alerts import journal
from alerts.models import AuditHead

NEGATIVE, USAGE, UNREACHABLE = 1, 2, 3
EXAMPLES = """examples:
  manage.py audit verify
  manage.py audit verify --json
  manage.py audit verify --head 4711:9f86d081...

note the head that is printed somewhere else; given back with --head, it shows when the
chain was rewritten as a whole.

exit codes: 0 the chain holds; 1 it is broken; 2 wrong call; 3 no database"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        verify = acts.add_parser("verify", help="check every link of the chain")
        verify.add_argument("--head", metavar="LENGTH:HASH", help="a head that was noted earlier")
        verify.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        noted = _noted(options["head"])
        try:
            told = _verified(noted)
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        if options["json"]:
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(_words(told))
        if not told["ok"]:
            sys.exit(NEGATIVE)


def _verified(noted: tuple[int, str] | None) -> dict[str, Any]:
    try:
        length = journal.verify_head()
        if noted is not None:
            journal.verify_noted(*noted)
    except journal.ChainBroken as error:
        return {"schema": 1, "ok": False, "entry": error.entry_id, "problem": error.reason}
    head = AuditHead.objects.first()
    return {"schema": 1, "ok": True, "entries": length, "head": str(head) if head else None}


def _words(told: dict[str, Any]) -> str:
    if not told["ok"]:
        return f"BROKEN at audit entry {told['entry']}: {told['problem']}"
    return f"ok, {told['entries']} entries; head {told['head'] or 'none yet'}"


def _noted(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    length, _, digest = text.partition(":")
    if not length.isdigit() or len(digest) != 64:
        raise CommandError("--head must be LENGTH:HASH, as `audit verify` prints", returncode=USAGE)
    return int(length), digest
