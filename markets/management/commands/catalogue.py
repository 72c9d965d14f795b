"""`catalogue`: take over what the venue lists, now or from files, and show what is watched."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from markets import sync, tasks, watch
from markets.kept_pages import pages_of
from markets.polymarket.http import VenueError
from markets.sync import SyncResult

UNREACHABLE, DATA_MISSING, REFUSED = 3, 4, 5


class Command(BaseCommand):
    help = (
        "sync: take over everything the venue lists as open. load FILE...: take over kept pages "
        "of Gamma or the CLOB (.json, .jsonl, .csv, each also .gz). watch: show what the stream "
        "follows, best first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="sync|load|watch")
        listing = acts.add_parser("sync")
        load = acts.add_parser("load")
        load.add_argument("files", nargs="+", type=Path, metavar="FILE")
        following = acts.add_parser("watch")
        following.add_argument("--budget", type=int, metavar="TOKENS", help="else WATCH_TOKENS")
        for act in (listing, load, following):
            act.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        act = {"sync": self._sync, "load": self._load, "watch": self._watch}[options["act"]]
        act(options)

    def _sync(self, options: dict[str, Any]) -> None:
        try:
            result = tasks.sync_now()
        except VenueError as error:
            raise CommandError(str(error), returncode=UNREACHABLE) from None
        except TimeoutError:
            raise CommandError("the venue did not answer in time", returncode=UNREACHABLE) from None
        if result is None:
            raise CommandError("another process syncs the catalogue now", returncode=REFUSED)
        self._tell(result, options)

    def _load(self, options: dict[str, Any]) -> None:
        try:
            result = async_to_sync(sync.files)(pages_of(options["files"]), at=datetime.now(UTC))
        except (OSError, ValueError) as error:
            raise CommandError(str(error), returncode=DATA_MISSING) from None
        self._tell(result, options)

    def _tell(self, result: SyncResult, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"schema": 1, **asdict(result)}))
            return
        self.stdout.write(str(result))
        for name in ("rejected", "vanished"):
            for reason, count in sorted(getattr(result, name).items(), key=lambda row: -row[1]):
                self.stdout.write(f"  {name} {count:>7,}  {reason}")

    def _watch(self, options: dict[str, Any]) -> None:
        followed = watch.watched(budget=options["budget"])
        if options["json"]:
            rows = [asdict(event) for event in followed]
            self.stdout.write(json.dumps({"schema": 1, "events": rows}))
            return
        for event in followed:
            by = f"by the rule: {event.rule}" if event.rule else "by liquidity"
            self.stdout.write(
                f"{event.rank:>6,}  event {event.event_id}  {len(event.markets)} markets  {by}"
            )
        tokens = sum(len(market.token_ids) for event in followed for market in event.markets)
        self.stdout.write(f"{len(followed):,} events, {tokens:,} tokens")
