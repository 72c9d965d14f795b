"""What the desk itself knows, as the live path takes it: read back from a frame's body (pure).

Relations and the history of endgames come to the pipeline as frames, like what the venue
says, so that a recording replays to the same digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from rules.kernel.endgame import BANDS, BUCKET_NAMES, Cell, History, Record
from rules.kernel.relations import PAIRS, Basis, Relation, RelationType

RULES: Final = "house/rules"
RELATIONS: Final = "house/relations"
HISTORY: Final = "house/history"

_LEAST: Final = {"union": 3}  # members; two for all others
_Id = Annotated[str, Meta(min_length=1)]


class BadHouse(ValueError):
    """A body of the desk's own that cannot be read; the text says which row and why."""


class _RelationRow(msgspec.Struct, frozen=True):
    type: RelationType
    members: tuple[_Id, ...]
    approved: bool
    blocked_by: tuple[str, ...] = ()
    basis: Basis = ""


class _Relations(msgspec.Struct, frozen=True):
    relations: tuple[_RelationRow, ...]


class _HistoryRow(msgspec.Struct, frozen=True, array_like=True):
    """How many events there were in a cell, and how many of their bets won."""

    category: _Id
    bucket: str  # one of BUCKET_NAMES: the time that was left
    band: int  # one of BANDS: the least price of the band, 1e-4 USD
    events: Annotated[int, Meta(ge=1)]
    won: Annotated[float, Meta(ge=0)]


class _History(msgspec.Struct, frozen=True):
    cells: tuple[_HistoryRow, ...]


def is_ours(req: str | None) -> bool:
    """Say whether a "gamma" frame is no answer of the venue but something of the desk's own."""
    return req is not None and req.startswith("house/")


class _Rules(msgspec.Struct, frozen=True):
    rules: tuple[str, ...]


def rules_body(texts: Iterable[str]) -> bytes:
    """Write the canonical texts of the rules that run as a body."""
    return msgspec.json.encode(_Rules(tuple(texts)))


def rule_texts(body: bytes) -> tuple[str, ...]:
    """Read the texts of rules; raise `BadHouse` if anything is wrong with the body."""
    try:
        return msgspec.json.decode(body, type=_Rules).rules
    except msgspec.MsgspecError as error:
        raise BadHouse(f"rules: {error}") from None


def relations_of(body: bytes) -> tuple[Relation, ...]:
    """Read the relations of a body in its order; raise `BadHouse` if anything is wrong with it.

    One bad row refuses them all: half of what is known could make a profit of nothing.
    """
    try:
        rows = msgspec.json.decode(body, type=_Relations).relations
    except msgspec.MsgspecError as error:
        raise BadHouse(f"relations: {error}") from None
    return tuple(_relation(row, number) for number, row in enumerate(rows))


def history_of(body: bytes) -> History:
    """Read the history of endgames; raise `BadHouse` if anything is wrong with it."""
    try:
        rows = msgspec.json.decode(body, type=_History).cells
    except msgspec.MsgspecError as error:
        raise BadHouse(f"history: {error}") from None
    cells: dict[Cell, Record] = {}
    for number, row in enumerate(rows):
        cell = _cell(row, number)
        if cell in cells:
            raise BadHouse(f"history: row {number}: the cell is there twice")
        cells[cell] = Record(row.events, row.won)
    return History(cells)


def history_body(history: History) -> bytes:
    """Write a history as a body: cells by name, so that another release cannot misread them."""
    rows = [
        _HistoryRow(category, BUCKET_NAMES[bucket], BANDS[band], record.events, record.won)
        for (category, bucket, band), record in sorted(history.cells.items())
    ]
    return msgspec.json.encode(_History(tuple(rows)))


def _relation(row: _RelationRow, number: int) -> Relation:
    if why := _wrong(row):
        raise BadHouse(f"relations: row {number} ({row.type} of {', '.join(row.members)}): {why}")
    return Relation(row.type, row.members, row.approved, row.blocked_by, row.basis)


def _wrong(row: _RelationRow) -> str:
    if len(set(row.members)) < len(row.members):
        return "a market is in it twice"
    least = _LEAST.get(row.type, 2)
    if len(row.members) < least:
        return f"it needs at least {least} markets"
    if row.type in PAIRS and len(row.members) != 2:
        return "it is between two markets"
    return ""


def _cell(row: _HistoryRow, number: int) -> Cell:
    if row.bucket not in BUCKET_NAMES or row.band not in BANDS:
        raise BadHouse(f"history: row {number}: no cell of {row.bucket!r} from {row.band}")
    if row.won > row.events:
        raise BadHouse(f"history: row {number}: {row.won} won of {row.events}")
    return row.category, BUCKET_NAMES.index(row.bucket), BANDS.index(row.band)
