"""`bench`: what the hot paths can do, as ratios against yardsticks measured in the same run."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mpx_site.benchmarks import backtest, feed, scan, stream, write


class Command(BaseCommand):
    help = "Measure a hot path beside its yardstick in one run."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="bench", required=True)
        streaming = commands.add_parser("stream", help="bytes to findings, one core")
        streaming.add_argument("--books", type=int, default=20_000)
        streaming.add_argument("--messages", type=int, default=120_000)
        scanning = commands.add_parser("scan", help="all markets looked at once")
        scanning.add_argument("--markets", type=int, default=10_000)
        feeding = commands.add_parser("feed", help="one daphne, many sockets")
        feeding.add_argument("--clients", type=int, default=500)
        writing = commands.add_parser("write", help="ticks into PostgreSQL, in a schema of its own")
        writing.add_argument("--rows", type=int, default=400_000)
        testing = commands.add_parser("backtest", help="the past through all rules, one core")
        testing.add_argument("--ticks", type=int, default=60_000)
        for each in (streaming, scanning, feeding, writing, testing):
            each.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["bench"] == "stream":
            result = stream.run(books=options["books"], messages=options["messages"])
        elif options["bench"] == "backtest":
            result = backtest.run(ticks=options["ticks"])
        elif options["bench"] == "feed":
            result = feed.run(clients=options["clients"])
        elif options["bench"] == "write":
            result = _written(options["rows"])
        else:
            result = scan.run(markets=options["markets"])
        self.stdout.write(json.dumps(result) if options["json"] else _table(result))


def _written(rows: int) -> dict[str, object]:
    try:
        return write.run(rows=rows)
    except write.NoPostgreSQL as refusal:
        raise CommandError(str(refusal), returncode=2) from None


def _table(result: dict[str, Any]) -> str:
    rows = [*result["ratios"].items(), *result["figures"].items()]
    return "\n".join(f"{name:<28}{value:>14}" for name, value in rows)
