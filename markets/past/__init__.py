"""The past, as frames: recordings, kept hours, stored ticks, columnar files, imported history.

`open_past(path)` finds out what a file or folder is. What reads Parquet is imported when it
is asked for: it costs 37 MB, which a process that only serves pages need not have.
"""

from __future__ import annotations

from pathlib import Path

from markets.past.recorded import past_of_kept, past_of_recording
from markets.past.spans import spans
from markets.past.ticks import past_of_ticks
from markets.past.value import Gap, Kind, NotAPast, Past, covered, merged

__all__ = [
    "Gap",
    "Kind",
    "NotAPast",
    "Past",
    "covered",
    "merged",
    "open_past",
    "past_of_kept",
    "past_of_parquet",
    "past_of_recording",
    "past_of_ticks",
]

EVER = 2**63 - 1


def past_of_parquet(folder: Path, since: int, until: int) -> Past:
    """Return a window (unix ns) of a columnar store; raise `NotAPast` if it has none of it."""
    from markets.past.parquet import past_of_days

    return past_of_days(folder, since, until)


def open_past(path: Path) -> Past:
    """Return all of a recording, of kept spans, or of a columnar store.

    Raises `NotAPast`, which says what is wrong and where; history in another format has to
    be imported first (`manage.py history import`).
    """
    if not path.exists():
        raise NotAPast("there is nothing", str(path))
    if path.is_file():
        return past_of_recording(path)
    if spans(path):
        return past_of_kept(path, 0, EVER)
    return past_of_parquet(path, 0, EVER)
