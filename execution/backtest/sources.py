"""Which past a run reads: a file or folder that is named, or what the desk itself has kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.db import DatabaseError

from markets.frames import Frame
from markets.past import NotAPast, Past, open_past, past_of_kept, past_of_ticks
from markets.recording import NotARecording, Recording

FOREVER: Final = 2**63 - 1
ENDINGS: Final = (".jsonl", ".jsonl.gz")
KINDS: Final = {
    "books": "full depth",
    "tops": "best bid and ask only: nothing larger than the touch can be filled",
    "prices": "prices only: nothing can be filled, signals are what the rules would have said",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A past, and whether findings had to wait for the terms to be read again (`rules.engine`)."""

    past: Past
    confirm_terms: bool = False


def opened(path: Path) -> Opened:
    """Open a recording, kept spans or a columnar store; raise `NotAPast`."""
    past = open_past(path)
    if not (path.is_file() and path.name.endswith(ENDINGS)):
        return Opened(past)
    try:
        header = Recording(path).header
    except (OSError, NotARecording) as error:
        raise NotAPast(str(error), str(path)) from None
    return Opened(past, header.get("confirm_terms") is True)


def desk_past(kept: Path, *, since: int, until: int) -> Opened:
    """Return what the desk has of a window (unix ns): kept spans, or else its stored ticks.

    Raises `NotAPast` if it has neither.
    """
    try:
        return Opened(past_of_kept(kept, since, until))
    except NotAPast as nothing_kept:
        try:
            return Opened(past_of_ticks(since, until))
        except NotAPast:
            raise nothing_kept from None
        except DatabaseError as error:
            raise NotAPast(f"{nothing_kept.what}, and no tick can be read: {error}", "") from None


def paced(frames: Iterator[Frame], speed: float) -> Iterator[Frame]:
    """Yield frames with their distances divided by `speed`."""
    begun, first = time.monotonic(), None
    for frame in frames:
        first = frame.t if first is None else first
        wait = (frame.t - first) / 1e9 / speed - (time.monotonic() - begun)
        if wait > 0:
            time.sleep(wait)
        yield frame
