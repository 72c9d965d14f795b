"""`second_factor`: who has one, and the way out for whoever lost phone and recovery codes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from execution.authenticators import Authenticator
from mpx_site.access import factor
from mpx_site.portal.settings_sessions import end_sessions

USAGE = 2


class Command(BaseCommand):
    help = "List second factors, or remove one. The audit chain hears of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=("list", "remove"))
        parser.add_argument("name", nargs="?", help="whose to remove")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        told = self._list() if options["act"] == "list" else self._remove(options["name"] or "")
        if options["json"]:
            self.stdout.write(json.dumps(told))
        else:
            for row in told["second_factors"]:
                self.stdout.write(f"{row['account']}: {row['state']}")

    def _list(self) -> dict[str, Any]:
        rows = Authenticator.objects.select_related("user").order_by("user__username")
        found = [_row(each.user.get_username(), bool(each.confirmed_at)) for each in rows]
        return {"schema": 1, "second_factors": found}

    def _remove(self, name: str) -> dict[str, Any]:
        user, at = User.objects.filter(username=name).first(), timezone.now()
        if user is None:
            raise CommandError(f"there is no account {name!r}", returncode=USAGE)
        removed = factor.remove(user, by="command line", at=at)
        end_sessions(user, at=at)
        state = "removed" if removed else "had none"
        return {"schema": 1, "second_factors": [{"account": name, "state": state}]}


def _row(name: str, in_use: bool) -> dict[str, str]:
    return {"account": name, "state": "in use" if in_use else "not confirmed"}
