"""`mock_venue`: the simulated world as a server that speaks the venue's wire format."""

from __future__ import annotations

import asyncio
import json
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from markets.simulator.faults import FAULTS, table
from markets.simulator.faults_base import BadTarget
from markets.simulator.server import HOST, SOCKET_PATH, Venue, VenueSettings

USAGE, UNREACHABLE = 2, 3  # exit codes


class Command(BaseCommand):
    help = (
        "Serve a simulated venue on loopback: Gamma, CLOB and the market WebSocket on one port, "
        "with faults on request (see --list-faults, and POST /_control while it runs)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8700, help="0: any free one")
        parser.add_argument("--events", type=int, default=60, help="that trade; 4 markets in each")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--rate", type=float, default=150.0, help="messages per second")
        parser.add_argument("--markets", type=int, default=0, help="listed beside, not trading")
        parser.add_argument("--churn", type=float, default=1.0, help="percent a control call turns")
        parser.add_argument("--fault", default="", metavar="NAME[,NAME...]", help="on from start")
        parser.add_argument("--duration", type=float, metavar="SECONDS", help="default: for ever")
        parser.add_argument("--list-faults", action="store_true", help="print them and exit")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list_faults"]:
            self._list(as_json=options["json"])
            return
        settings = _settings(options)
        try:
            asyncio.run(_serve(settings, self, as_json=options["json"]))
        except OSError as problem:
            raise CommandError(
                f"port {settings.port}: {problem.strerror}", returncode=UNREACHABLE
            ) from None
        except BadTarget as problem:
            raise CommandError(str(problem), returncode=USAGE) from None

    def _list(self, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(table()))
            return
        for row in table():
            self.stdout.write(f"{row['fault']}\n  does: {row['does']}")
            self.stdout.write(f"  a good client {row['a_good_client']}\n")

    def opened(self, venue: Venue, *, as_json: bool) -> None:
        """Say where the venue can be reached."""
        web, ws = f"http://{HOST}:{venue.port}", f"ws://{HOST}:{venue.port}{SOCKET_PATH}"
        told = {"POLYMARKET_GAMMA_URL": web, "POLYMARKET_CLOB_URL": web, "POLYMARKET_WS_URL": ws}
        lines = [f"{name}={url}" for name, url in told.items()]
        text = json.dumps({"port": venue.port, **told}) if as_json else "\n".join(lines)
        self.stdout.write(text)
        self.stdout.flush()


def _settings(options: dict[str, Any]) -> VenueSettings:
    names = tuple(name for name in options["fault"].split(",") if name)
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise CommandError(f"--fault: no {', '.join(unknown)}; see --list-faults", returncode=USAGE)
    if options["events"] < 1:
        raise CommandError("--events: at least 1", returncode=USAGE)
    return VenueSettings(
        port=options["port"], events=options["events"], seed=options["seed"],
        rate=options["rate"], markets=options["markets"], churn=options["churn"], faults=names,
        duration=options["duration"],
    )  # fmt: skip


async def _serve(settings: VenueSettings, command: Command, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    venue = Venue(settings)
    await venue.run(stop, opened=lambda opened: command.opened(opened, as_json=as_json))
