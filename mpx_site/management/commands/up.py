"""`up`: the whole desk in one process, with nothing else installed."""

from __future__ import annotations

import socket
import sys
import webbrowser
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

from daphne.server import Server
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from alerts.watchdog import bot_is_set_up
from markets.recording import NotARecording
from mpx_site import configuration
from mpx_site.bot.poller import BotThread, forget_bot
from mpx_site.desk import observers
from mpx_site.jobs import JobsThread
from signals.commands import exit_code
from signals.running import LiveThread, check_source

STOP_SECONDS = 20.0


class Command(BaseCommand):
    help = "Serve the portal with the live path and the scheduled jobs in one process."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=_port, default=settings.API_PORT)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--source", help="mock, real or replay:FILE; else DATA_SOURCE")
        parser.add_argument("--record", metavar="FILE", type=Path, help="also record every frame")
        parser.add_argument("--no-browser", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        source = configuration.data_source(options["source"])
        settings.DATA_SOURCE = source
        settings.MPX_STREAM_SHARDS = 1  # all in this process
        # A newcomer walks the whole desk alone; a desk of several sets it to false.
        settings.MPX_SINGLE_OPERATOR = configuration.flag("MPX_SINGLE_OPERATOR", default=True)
        _refuse(source, options["record"])
        _refuse_taken_port(options["host"], options["port"])
        call_command("prepare", quiet=True, stdout=self.stdout, stderr=self.stderr)
        stream = LiveThread(source, recording=options["record"], observe=observers)
        jobs = JobsThread()
        stream.start()
        jobs.start()
        bot = _bot()
        try:
            Thread(target=_end_with, args=(stream,), daemon=True).start()
            self._serve(options["host"], options["port"], browser=not options["no_browser"])
        finally:
            self._stop(stream, jobs, bot)
        if stream.failed:
            raise CommandError(
                f"the stream failed: {stream.failed}", returncode=exit_code(stream.failed)
            )

    def _serve(self, host: str, port: int, *, browser: bool) -> None:
        from mpx_site.asgi import application  # after the tables exist

        address = f"http://{host}:{port}/"
        self.stdout.write(f"MarketPulse-X on {address}  ({settings.DATA_SOURCE}; Ctrl-C stops)")
        self.stdout.flush()
        if browser and sys.stdout.isatty():
            webbrowser.open(address)
        endpoint = f"tcp:port={port}:interface={host}"
        Server(
            application,
            endpoints=[endpoint],
            verbosity=0,
            server_name="mpx",
            websocket_max_message_size=65_536,
        ).run()

    def _stop(self, stream: LiveThread, jobs: JobsThread, bot: BotThread | None) -> None:
        self.stderr.write("Stopping: storing what is under way ...")
        jobs.stop()
        if bot is not None:
            bot.stop()
        stream.stop()
        stream.join(STOP_SECONDS)
        jobs.join(STOP_SECONDS)
        if bot is not None:
            bot.join(STOP_SECONDS)
        self.stderr.write("Stopped.")


def _bot() -> BotThread | None:
    """Start what answers commands by Telegram; None on a desk that has no bot."""
    if not bot_is_set_up():
        forget_bot(at=datetime.now(UTC))
        return None
    bot = BotThread()
    bot.start()
    return bot


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"{text!r} must be a number from 1 to 65535")
    return int(text)


def _refuse(source: str, recording: Path | None) -> None:
    """Stop before anything is made where the stream could not run anyway."""
    if recording and not recording.parent.is_dir():
        raise CommandError(f"--record {recording}: there is no such folder", returncode=2)
    try:
        check_source(source)
    except (NotARecording, OSError) as error:
        raise CommandError(f"--source: {error}", returncode=exit_code(error)) from None


def _end_with(stream: LiveThread) -> None:
    """Let the desk end when its stream fails: a portal of old prices helps nobody."""
    stream.join()
    if stream.failed:
        from twisted.internet import reactor  # after daphne chose which one

        reactor.callFromThread(reactor.stop)  # type: ignore[misc]  # a module plays an object


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"port {port} cannot be used: {error.strerror}", returncode=3
            ) from None
