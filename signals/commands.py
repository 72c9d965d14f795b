"""What the commands of the live path share: options, exit codes, running until told to stop."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, ArgumentTypeError

from django.core.exceptions import ImproperlyConfigured

from markets.recording import PART_BYTES, NotARecording
from signals.running import LiveThread
from signals.sharing import Sharing

USAGE, UNREACHABLE, DATA_MISSING = 2, 3, 4
MB = 1024 * 1024


def add_part_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--part-mb",
        dest="part_bytes",
        type=_megabytes,
        default=PART_BYTES,
        metavar="N",
        help=f"begin the next file of a recording after N MB ({PART_BYTES // MB})",
    )


def _megabytes(text: str) -> int:
    """Read MB above zero, fractions too; return bytes."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError("must be a number above 0")
    return max(int(value * MB), 1)


def exit_code(error: BaseException | None) -> int:
    """Return what a failure is by the contract of our commands."""
    if isinstance(error, ImproperlyConfigured):
        return USAGE
    return DATA_MISSING if isinstance(error, NotARecording | FileNotFoundError) else UNREACHABLE


def run_until_stopped(thread: LiveThread | Sharing, *, seconds: float | None) -> None:
    """Run a live thread until it ends, the time is over or a signal asks for the end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: thread.stop())
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        thread.stop()
        thread.join()
