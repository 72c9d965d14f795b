"""`scan`: detection over files, without database or network."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rules.kernel.finding import Limits
from rules.scan import BadRelations, as_json, as_text, read_relations, scan
from rules.snapshot import UnreadableFile, read_json, read_snapshot

USAGE, DATA_MISSING = 2, 4


def usd(text: str) -> Decimal:
    """Read an amount that is not negative; raise `ArgumentTypeError`."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not amount.is_finite() or amount < 0:
        raise ArgumentTypeError(f"{text!r} must be 0 or more")
    return amount


def moment(text: str) -> datetime:
    """Read an ISO time, UTC where it names no zone; raise `ArgumentTypeError`."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an ISO time") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


class Command(BaseCommand):
    help = "Look for arbitrage in files of Gamma objects and CLOB books."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        files: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "FILE"}
        parser.add_argument("--gamma", required=True, help="events, markets or pages", **files)
        parser.add_argument("--books", required=True, help="/book answers", **files)
        parser.add_argument("--relations", metavar="FILE", help="YAML list of relations")
        parser.add_argument("--at", type=moment, metavar="ISO", help="default: newest book")
        parser.add_argument("--capital", type=usd, metavar="USD", help="most a row may cost")
        parser.add_argument("--min-profit", type=usd, default=Decimal("0.50"), metavar="USD")
        parser.add_argument("--min-edge-bps", type=usd, default=Decimal(20), metavar="N")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            snapshot = read_snapshot(gamma=_read(options["gamma"]), books=_read(options["books"]))
            relations = _relations(options["relations"])
        except (UnreadableFile, BadRelations) as error:
            raise CommandError(str(error), returncode=USAGE) from None
        seen = scan(
            snapshot,
            relations=relations,
            at=options["at"] or snapshot.newest_at or datetime.now(UTC),
            limits=Limits(options["capital"], options["min_profit"], options["min_edge_bps"]),
        )
        self.stdout.write(as_json(seen) if options["json"] else as_text(seen))
        if not snapshot.books_used:
            message = "no book could be used: none belongs to a given market and has a level"
            raise CommandError(message, returncode=DATA_MISSING)


def _read(names: list[str]) -> list[object]:
    return [read_json(name, _bytes(name)) for name in names]


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UnreadableFile(name, error.strerror or str(error)) from None


def _relations(name: str | None) -> list[Any]:
    if name is None:
        return []
    try:
        text = _bytes(name).decode()
    except UnicodeDecodeError:
        raise UnreadableFile(name, "not UTF-8 text") from None
    return read_relations(text, source=name)
