"""From the outbox to people: what is due is told at least once, and each row says how it ended.

One pass at a time and one process at a time: `Voice.held_until` is a lease. A process
that dies between sending and writing it down leaves its rows pending, so they are told
a second time and never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Min, Q, QuerySet
from django.utils import timezone

from alerts import journal
from alerts.models import Manner, OutboxEntry, Silence, Voice
from alerts.pace import SECOND, Pace, kept
from alerts.telegram import Later, Line, Message, Never, Outcome, Sent
from alerts.voice_models import TELEGRAM
from alerts.words import Words, as_html, as_text, digest, words_of

log = logging.getLogger(__name__)

TAKES = ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID")
LONG = timedelta(minutes=2)  # what waits for longer than this, nobody sends
LEASE = timedelta(seconds=60)  # longer than a pass can take: three messages of ten seconds
SINGLES = 3  # that many are told one by one, more of them together
MOST_AT_ONCE = 1_000
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=5), timedelta(minutes=10)
ALWAYS_TOLD = "killswitch."
DRY_RUN = "dry_run"
MAY_TEST = "alerts.test_voice"
BUDGET_SPENT = "the hour's budget of messages is spent"
SENDING = ("sent", "told", "last_ok_at", "broken", "broken_at", "not_before", "chat")
State = OutboxEntry.State


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many alerts wait, and since when the first of them does; None while none waits."""

    count: int
    first: datetime | None


@dataclass(frozen=True, slots=True)
class Batch:
    """One message and the rows that it tells."""

    rows: tuple[OutboxEntry, ...]
    message: Message


def lacking() -> list[str]:
    """Return the settings that Telegram takes and that are empty."""
    return [key for key in TAKES if not getattr(settings, key)]


def line_now(voice: Voice | None = None) -> Line | None:
    """Return where Telegram messages go; None where none is configured: a dry run."""
    if not settings.TELEGRAM_ENABLED or lacking():
        return None
    chat = (voice.chat if voice else "") or settings.TELEGRAM_CHAT_ID
    return Line(settings.TELEGRAM_BOT_TOKEN, chat, settings.TELEGRAM_API_URL)


def backlog() -> Backlog:
    waiting = OutboxEntry.objects.filter(state=State.PENDING)
    found = waiting.aggregate(count=Count("id"), first=Min("created_at"))
    return Backlog(found["count"], found["first"])


def deliver(*, at: datetime, clock: Callable[[], datetime] = timezone.now) -> int:
    """Make one pass; return how many rows it settled. Safe to call at any time, from anywhere."""
    voice = _turn(at) if _due(at).exists() else None
    if voice is None:
        return 0
    try:
        return _pass(voice, at, clock)
    finally:
        Voice.objects.filter(pk=voice.pk).update(held_until=None)


def _due(at: datetime) -> QuerySet[OutboxEntry]:
    due = OutboxEntry.objects.filter(state=State.PENDING, due_at__lte=at)
    return due.order_by("due_at", "id")


def _turn(at: datetime) -> Voice | None:
    """Take the lease; None while another process has it."""
    Voice.objects.get_or_create(name=TELEGRAM)
    free = Q(held_until=None) | Q(held_until__lt=at)
    taken = Voice.objects.filter(free, name=TELEGRAM).update(held_until=at + LEASE)
    return Voice.objects.get(name=TELEGRAM) if taken else None


def _pass(voice: Voice, at: datetime, clock: Callable[[], datetime]) -> int:
    rows, held = _told_and_held(_due(at)[:MOST_AT_ONCE], at)
    if not rows:
        return held
    line = line_now(voice)
    if line is None:
        return held + _rehearse(rows, at)
    if voice.broken or (voice.not_before and at < voice.not_before):
        return held
    pace = Pace(line.group, voice.budget)
    if pace.wait(voice.sent, at=at.timestamp()) > 0:
        return held + _wait(rows, spent=pace.spent(voice.sent, at=at.timestamp()))
    batches = _batches(rows, voice, at)
    outcomes = line.send([batch.message for batch in batches], apart=SECOND)
    return held + _settle(voice, batches, outcomes, clock())


def _wait(rows: Sequence[OutboxEntry], *, spent: bool) -> int:
    """Say on the rows why they wait, if it is for longer than a moment; nothing is settled."""
    if spent:
        keys = [row.pk for row in rows if row.reason != BUDGET_SPENT]
        OutboxEntry.objects.filter(pk__in=keys).update(reason=BUDGET_SPENT)
    return 0


def _told_and_held(due: Iterable[OutboxEntry], at: datetime) -> tuple[list[OutboxEntry], int]:
    """Suppress what is off or silenced; return the rest and how many were suppressed."""
    off = set(Manner.objects.filter(how=Manner.How.OFF).values_list("kind", flat=True))
    silences = list(Silence.objects.filter(until__gt=at).select_related("by"))
    rows, held = [], 0
    for row in due:
        why = _held_back(row, off, silences)
        if why:
            held += _close(row, State.SUPPRESSED, reason=why)
        else:
            rows.append(row)
    return rows, held


def _held_back(row: OutboxEntry, off: set[str], silences: Sequence[Silence]) -> str:
    if row.kind.startswith(ALWAYS_TOLD):
        return ""
    if row.kind in off:
        return f"{row.kind} is switched off"
    for silence in silences:
        if silence.covers(row.kind, row.payload):
            who = silence.by.get_username()
            return f"silenced by {who} until {silence.until:%d %b %H:%M} UTC: {silence.reason}"
    return ""


def _rehearse(rows: Sequence[OutboxEntry], at: datetime) -> int:
    """Do everything but send, and say so in the log and on the rows."""
    for row in rows:
        words = words_of(row.kind, row.payload)
        log.info("alert.dry_run key=%s text=%r", row.key, as_text(words, portal=_portal()))
    return sum(
        _close(row, State.SENT, reason="Telegram is off", transport=DRY_RUN, sent_at=at)
        for row in rows
    )


def _batches(rows: Sequence[OutboxEntry], voice: Voice, at: datetime) -> list[Batch]:
    silent = set(Manner.objects.filter(how=Manner.How.SILENT).values_list("kind", flat=True))
    quiet = voice.is_quiet(at)

    def batch(of: Sequence[OutboxEntry], words: Words) -> Batch:
        loud = any(row.kind.startswith(ALWAYS_TOLD) for row in of)
        still = not loud and (quiet or all(row.kind in silent for row in of))
        return Batch(tuple(of), _message(words, silent=still))

    spoken = [words_of(row.kind, row.payload) for row in rows]
    left = voice.budget - len(kept(voice.sent, at=at.timestamp()))
    if len(rows) <= min(SINGLES, left):
        return [batch([row], words) for row, words in zip(rows, spoken, strict=True)]
    why = BUDGET_SPENT if any(row.reason == BUDGET_SPENT for row in rows) else ""
    return [batch(rows, digest(spoken, held_back=why))]


def _message(words: Words, *, silent: bool = False) -> Message:
    return Message(as_html(words, portal=_portal()), as_text(words, portal=_portal()), silent)


def _settle(
    voice: Voice, batches: Sequence[Batch], outcomes: Sequence[Outcome], at: datetime
) -> int:
    """Write down what became of each message; what was not tried stays as it is."""
    settled = 0
    for batch, outcome in zip(batches, outcomes, strict=False):
        with transaction.atomic():
            settled += _settle_one(voice, batch, outcome, at)
    return settled


def _settle_one(voice: Voice, batch: Batch, outcome: Outcome, at: datetime) -> int:
    if isinstance(outcome, Sent):
        return _sent(voice, batch, outcome, at)
    voice.failures = F("failures") + 1
    log.warning("alert.not_sent rows=%s reason=%s", len(batch.rows), outcome.reason)
    if isinstance(outcome, Never) and not outcome.voice:
        voice.save(update_fields=["failures"])
        return sum(_close(row, State.FAILED, reason=outcome.reason) for row in batch.rows)
    if isinstance(outcome, Never):
        voice.broken, voice.broken_at = outcome.reason, at
        voice.save(update_fields=["failures", "broken", "broken_at"])
    elif outcome.seconds is not None:
        voice.not_before = at + timedelta(seconds=outcome.seconds)
        voice.save(update_fields=["failures", "not_before"])
    else:
        voice.save(update_fields=["failures"])
    for row in batch.rows:
        _again(row, outcome, at)
    return 0


def _sent(voice: Voice, batch: Batch, outcome: Sent, at: datetime) -> int:
    voice.note_sent(1, at)
    voice.broken, voice.broken_at, voice.not_before = "", None, None
    if outcome.chat != (voice.chat or settings.TELEGRAM_CHAT_ID):
        voice.chat = outcome.chat
    voice.save(update_fields=SENDING)
    voice.refresh_from_db()
    together = f"with {len(batch.rows) - 1} others" if len(batch.rows) > 1 else ""
    told = {"transport": TELEGRAM, "sent_at": at, "message_id": outcome.message_id}
    return sum(_close(row, State.SENT, reason=together, **told) for row in batch.rows)


def _again(row: OutboxEntry, outcome: Later | Never, at: datetime) -> None:
    wait = min(FIRST_RETRY * 2 ** min(row.attempts, 10), LONGEST_RETRY)
    if isinstance(outcome, Later) and outcome.seconds is not None:
        wait = timedelta(seconds=outcome.seconds)
    OutboxEntry.objects.filter(pk=row.pk, state=State.PENDING).update(
        attempts=F("attempts") + 1, due_at=at + wait, reason=outcome.reason[:300]
    )


def _close(row: OutboxEntry, state: State, *, reason: str = "", **told: object) -> int:
    """Settle a row that is still pending; return 1, or 0 if another process was faster."""
    sent = 1 if state == State.SENT else 0
    return OutboxEntry.objects.filter(pk=row.pk, state=State.PENDING).update(
        state=state, reason=reason[:300], attempts=F("attempts") + sent, **told
    )


def _portal() -> str:
    return str(settings.MPX_PORTAL_URL).rstrip("/")


@transaction.atomic
def send_again(rows: QuerySet[OutboxEntry] | None = None, *, by: str, at: datetime) -> int:
    """Let failed rows wait to be told once more, None: all of them; return how many.

    All of them ends the stop of a voice, too. The audit chain has who did it.
    """
    if rows is None:
        Voice.objects.filter(name=TELEGRAM).update(broken="", broken_at=None, not_before=None)
    failed = (OutboxEntry.objects if rows is None else rows).filter(state=State.FAILED)
    keys = list(failed.values_list("key", flat=True)[:MOST_AT_ONCE])
    moved = failed.update(state=State.PENDING, due_at=at, attempts=0, reason="sent again by hand")
    if moved or rows is None:
        told = {"alerts": moved, "first": keys[:1], "all": rows is None}
        journal.record(kind="alert.sent_again", subject="outbox", actor=by, data=told, at=at)
    return moved


def send_test(text: str, *, at: datetime) -> tuple[str, Outcome | None]:
    """Send one message now; return (transport, outcome), the outcome None for a dry run."""
    voice, _ = Voice.objects.get_or_create(name=TELEGRAM)
    line = line_now(voice)
    words = words_of("test", {"text": text})
    if line is None:
        log.info("alert.dry_run key=test text=%r", as_text(words, portal=_portal()))
        return DRY_RUN, None
    message = _message(words)
    (outcome,) = line.send([message], apart=0)
    _settle_one(voice, Batch((), message), outcome, at)
    return TELEGRAM, outcome


def outcome_row(transport: str, outcome: Outcome | None) -> dict[str, object]:
    """Return what became of a message as a JSON object; the chat by its last digits only."""
    line = line_now(Voice.objects.filter(name=TELEGRAM).first())
    return {
        "transport": transport,
        "sent": isinstance(outcome, Sent),
        "chat": line.masked if line else "",
        "message_id": outcome.message_id if isinstance(outcome, Sent) else None,
        "reason": outcome.reason if isinstance(outcome, Later | Never) else "",
    }
