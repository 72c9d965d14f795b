"""The one way to write down what happened: audit chain, live feed and outbox together.

Every function here runs inside the caller's transaction. Writers of the
journal take turns until commit, so the chain never forks and feed ids grow in
commit order: a reader that asks for "after id N" misses nothing. Within a topic
they are numbered without a hole (`alerts.feedlog`). What is written names the id of what is
under way (`alerts.trace`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from alerts import feedlog, voices
from alerts.models import AuditEntry, AuditHead, FeedEntry, Heartbeat, OutboxEntry
from alerts.trace import traced

JOURNAL_LOCK = 0x4D5058  # "MPX": the advisory lock of the journal
GENESIS = "0" * 64
SYSTEM = "system"
LONGEST_ACTOR = 150
_surface: ContextVar[str] = ContextVar("surface", default="")


class ChainBroken(Exception):
    """The audit chain does not verify; `entry_id` is the first bad link."""

    def __init__(self, entry_id: int, reason: str) -> None:
        super().__init__(f"audit entry {entry_id}: {reason}")
        self.entry_id = entry_id
        self.reason = reason


@contextmanager
def acting_via(surface: str) -> Iterator[None]:
    """Let the audit chain say through what persons act meanwhile, as in "anna via telegram"."""
    before = _surface.set(surface)
    try:
        yield
    finally:
        _surface.reset(before)


def record(
    *,
    kind: str,
    subject: str,
    data: dict[str, Any],
    at: datetime,
    actor: str = SYSTEM,
    topic: str | None = None,
) -> AuditEntry:
    """Append to the audit chain, and to the feed under `topic` if one is given.

    The feed names what happened without its subject's name: `signal.opened`
    is told as `opened`.
    """
    _take_turn()
    last = AuditEntry.objects.order_by("-id").first()
    entry = AuditEntry(
        id=last.id + 1 if last else 1,
        at=at.astimezone(UTC),  # as it is read again, whatever zone it came in
        kind=kind,
        subject=subject,
        actor=_named(actor),
        data=_plain(traced(data)),
        previous_hash=last.hash if last else GENESIS,
    )
    entry.hash = link_hash(entry)
    entry.save(force_insert=True)
    _move_head(entry)
    if topic:
        feedlog.append(topic=topic, kind=kind.rpartition(".")[2], at=at, payload=entry.data)
    return entry


def tell(*, topic: str, kind: str, payload: dict[str, Any], at: datetime) -> FeedEntry:
    """Append to the live feed alone."""
    _take_turn()
    return feedlog.append(topic=topic, kind=kind, at=at, payload=_plain(traced(payload)))


def alert(
    *, key: str, kind: str, payload: dict[str, Any], at: datetime, held_back: str = ""
) -> None:
    """Put one alert into the outbox, once for each voice; the same key twice is one alert.

    `held_back` is why it must not be sent; the rows are there all the same.
    """
    state = OutboxEntry.State.SUPPRESSED if held_back else OutboxEntry.State.PENDING
    facts = {
        "kind": kind,
        "payload": _plain(traced(payload)),
        "due_at": at,
        "state": state,
        "reason": held_back,
    }
    for voice in voices.listed():
        OutboxEntry.objects.get_or_create(key=key, voice=voice, defaults=facts)


def beat(component: str, *, at: datetime, progress: int, **detail: object) -> None:
    """Note that a stage is alive and how far it has come."""
    Heartbeat.objects.update_or_create(
        component=component,
        defaults={"at": at, "progress": progress, "detail": _plain(detail)},
    )


def verify() -> int:
    """Check the whole chain and return its length; raise `ChainBroken` at the first bad link."""
    previous, expected = GENESIS, 1
    for entry in _chain():
        if entry.id != expected:
            raise ChainBroken(expected, "is missing")
        if entry.previous_hash != previous:
            raise ChainBroken(entry.id, "does not continue the entry before it")
        if entry.hash != link_hash(entry):
            raise ChainBroken(entry.id, "was changed after it was written")
        previous, expected = entry.hash, expected + 1
    return expected - 1


def verify_head() -> int:
    """Check the whole chain and that nothing is cut off its end; return its length.

    Raises `ChainBroken`. The head lives in the same database: whoever can cut the chain could
    move it too, so note it elsewhere and compare with `verify_noted`.
    """
    head = AuditHead.objects.first()  # before the walk: what is written meanwhile is no break
    length = verify()
    if head is not None and head.length > length:
        raise ChainBroken(length + 1, f"is missing at the end, up to {head.length}")
    if head is not None and head.length:
        verify_noted(head.length, head.hash)
    return length


def verify_noted(length: int, digest: str) -> None:
    """Check that the chain still contains a head that was noted; raise `ChainBroken`."""
    entry = AuditEntry.objects.filter(pk=length).first()
    if entry is None:
        raise ChainBroken(length, "is missing, but its hash was noted")
    if entry.hash != digest:
        raise ChainBroken(length, "has another hash than was noted")


def link_hash(entry: AuditEntry) -> str:
    """Return sha256 over the previous hash and the entry's canonical JSON."""
    body = json.dumps(
        [entry.id, entry.at.isoformat(), entry.kind, entry.subject, entry.actor, entry.data],
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(f"{entry.previous_hash}{body}".encode()).hexdigest()


def _named(actor: str) -> str:
    """Add the surface to a person's name; no account name has a space, so it cannot be forged."""
    via = f" via {_surface.get()}"
    if not _surface.get() or actor == SYSTEM:
        return actor
    return f"{actor[: LONGEST_ACTOR - len(via)]}{via}"


def _move_head(entry: AuditEntry) -> None:
    AuditHead.objects.bulk_create(
        [AuditHead(length=entry.id, hash=entry.hash)],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["length", "hash"],
    )


def _chain() -> Iterator[AuditEntry]:
    return AuditEntry.objects.order_by("id").iterator(chunk_size=2000)


def _take_turn() -> None:
    """Hold the journal until commit. SQLite has one writer at a time anyway."""
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("the journal is written in a transaction")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [JOURNAL_LOCK])


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data as any database will give it back, so that hashes match after a read."""
    plain: dict[str, Any] = _storable(json.loads(json.dumps(data, cls=DjangoJSONEncoder)))
    return plain


def _storable(value: Any) -> Any:
    """Replace what a database would refuse, or give back written in another way.

    PostgreSQL takes neither NUL in text nor Infinity, and writes 1e16 as a whole number.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(each) for key, each in value.items()}
    return value
