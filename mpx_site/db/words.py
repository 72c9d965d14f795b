"""What to say when the database was the reason: it is away, busy with us, or took too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from markets.connections import is_away
from mpx_site.db.lanes import NoLane

CANCELLED: Final = "57014"  # PostgreSQL, at a statement timeout


@dataclass(frozen=True, slots=True)
class Trouble:
    """`code` is for programs; `title` and `text` are for people."""

    code: str
    title: str
    text: str


AWAY: Final = Trouble(
    "database_unavailable",
    "The database does not answer",
    "Nothing can be shown or approved until it is back. The stream goes on: what it finds waits"
    " in memory and is stored then. Telegram was told, if it is set up.",
)
BUSY: Final = Trouble(
    "database_busy",
    "Too many ask at once",
    "Every connection that this process may have to the database stayed in use."
    " The stream has connections of its own and goes on.",
)
SLOW: Final = Trouble(
    "query_too_slow",
    "The database took too long",
    "This question was given up, so that it holds up nothing else. A narrower filter or a"
    " shorter period asks for less.",
)


def trouble_of(error: BaseException | None) -> Trouble | None:
    """Return what was the matter with the database; None: it was something else."""
    if not is_away(error):
        return None
    cause = error.__cause__ if error else None
    if isinstance(cause, NoLane):
        return BUSY
    return SLOW if getattr(cause, "sqlstate", None) == CANCELLED else AWAY
