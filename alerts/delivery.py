"""From the outbox to people: what is due is told at least once, and each row says how it ended.

Each voice has rows, a lease (`Voice.held_until`), a budget and troubles of its own. A process
that dies between sending and writing it down leaves its rows pending, so they are told a
second time and never lost. What one voice waits for, no other does.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Min, Q, QuerySet
from django.utils import timezone

from alerts import clocks, journal, threads, trace, voices
from alerts.composing import ALWAYS_TOLD, BUDGET_SPENT, Batch, batches, manner_of, portal
from alerts.lines import line_of
from alerts.messages import Alert, Later, Line, Message, Never, Outcome, Sent
from alerts.models import Manner, OutboxEntry, Silence, Voice
from alerts.pace import Pace
from alerts.words import as_text, words_of

log = structlog.stdlib.get_logger(__name__)

LONG = timedelta(minutes=2)  # what waits for longer than this, nobody sends
LEASE = timedelta(seconds=60)
GIVE_UP = 45.0  # seconds for one pass of a line: within the lease, whatever the far side does
MOST_AT_ONCE = 1_000
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=5), timedelta(minutes=10)
DRY_RUN = "dry_run"
MAY_TEST = "alerts.test_voice"
SENDING = ("sent", "told", "last_ok_at", "broken", "broken_at", "not_before", "chat")
State = OutboxEntry.State
CLOSED = {
    State.SENT: "alert.sent",
    State.FAILED: "alert.failed",
    State.SUPPRESSED: "alert.suppressed",
}


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many alerts wait, and since when the first of those does that nobody holds back.

    None while there is none: what waits for the next hour's budget is not stuck.
    """

    count: int
    first: datetime | None


@dataclass(frozen=True, slots=True)
class Call:
    """What one voice has to say in this pass, and the line that it says it on."""

    voice: Voice
    line: Line
    batches: tuple[Batch, ...]


def backlog() -> Backlog:
    waiting = OutboxEntry.objects.filter(state=State.PENDING)
    unheld = ~Q(reason=BUDGET_SPENT)
    found = waiting.aggregate(count=Count("id"), first=Min("created_at", filter=unheld))
    return Backlog(found["count"], found["first"])


def deliver(*, at: datetime, clock: Callable[[], datetime] = timezone.now) -> int:
    """Make one pass of every voice; return how many rows it settled. Safe at any time, from
    anywhere: a voice that another process speaks with is left to it."""
    names = list(_due(at).order_by().values_list("voice", flat=True).distinct())
    held = [voice for name in names if (voice := _turn(name)) is not None]
    try:
        return _pass(held, at, clock)
    finally:
        for voice in held:
            _release(voice)


def _due(at: datetime) -> QuerySet[OutboxEntry]:
    due = OutboxEntry.objects.filter(state=State.PENDING, due_at__lte=at)
    return due.order_by("due_at", "id")


def _turn(name: str) -> Voice | None:
    """Take a voice's lease; None while another process has it."""
    voices.row_of(name)
    now, _ = clocks.database_now()  # one clock for all who take turns: theirs may differ
    free = Q(held_until=None) | Q(held_until__lt=now)
    taken = Voice.objects.filter(free, name=name).update(held_until=now + LEASE)
    return Voice.objects.get(name=name) if taken else None


def _release(voice: Voice) -> None:
    """End a lease, unless it has ended and is another's by now."""
    Voice.objects.filter(pk=voice.pk, held_until=voice.held_until).update(held_until=None)


def _pass(held: Sequence[Voice], at: datetime, clock: Callable[[], datetime]) -> int:
    """Let the voices speak side by side; the database is this thread's alone."""
    settled, calls = 0, []
    for voice in held:
        done, call = _prepared(voice, at)
        settled += done
        if call is not None:
            calls.append(call)
    for call, outcomes in _answered(calls):
        settled += _settle(call, outcomes, clock())
        _release(call.voice)
    return settled


def _answered(calls: Sequence[Call]) -> Iterator[tuple[Call, list[Outcome]]]:
    """Make the calls at once and return each as it ends; one that does not is given up."""
    ended: queue.SimpleQueue[tuple[Call, list[Outcome]]] = queue.SimpleQueue()
    for call in calls:
        threading.Thread(target=_made, args=(call, ended), daemon=True).start()
    open_calls = {call.voice.name: call for call in calls}
    give_up = time.monotonic() + GIVE_UP
    while open_calls:
        try:
            call, outcomes = ended.get(timeout=max(0.0, give_up - time.monotonic()))
        except queue.Empty:
            break
        del open_calls[call.voice.name]
        yield call, outcomes
    for call in open_calls.values():
        yield call, [Later(f"no end within {GIVE_UP:g} s")]


def _made(call: Call, ended: queue.SimpleQueue[tuple[Call, list[Outcome]]]) -> None:
    try:
        outcomes = call.line.send([batch.message for batch in call.batches])
    except Exception as error:  # a fault of this voice must stop neither the pass nor the others
        log.exception("alert.line_failed", voice=call.voice.name)
        outcomes = [Later(f"fault of this desk: {type(error).__name__}")]
    ended.put((call, outcomes))


def _prepared(voice: Voice, at: datetime) -> tuple[int, Call | None]:
    """Settle what needs no message; return how many rows, and what is to be said now."""
    due = _due(at).filter(voice=voice.name)[:MOST_AT_ONCE]
    wanted, held = _told_and_held(due, at)
    turn = threads.turn(wanted)
    held += sum(
        OutboxEntry.objects.filter(pk=pk, state=State.PENDING).update(
            state=State.SUPPRESSED, reason=why
        )
        for pk, why in turn.settled.items()
    )
    if not turn.rows:
        return held, None
    line = line_of(voice.name, voice)
    if line is None:
        return held + _rehearse(voice, turn.rows, at), None
    if voice.broken or (voice.not_before and at < voice.not_before):
        return held, None
    pace = Pace(line.limits, voice.budget)
    if pace.wait(voice.sent, at=at.timestamp()) > 0:
        return held + _wait(wanted, spent=pace.spent(voice.sent, at=at.timestamp())), None
    return held, Call(voice, line, batches(turn, line, voice, at))


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
    if manner_of(row) in off:
        return f"{row.kind} is switched off"
    for silence in silences:
        if silence.covers(row.kind, row.payload):
            who = silence.by.get_username()
            return f"silenced by {who} until {silence.until:%d %b %H:%M} UTC: {silence.reason}"
    return ""


def _rehearse(voice: Voice, rows: Sequence[OutboxEntry], at: datetime) -> int:
    """Do everything but send, and say so in the log and on the rows."""
    for row in rows:
        words = words_of(row.kind, row.payload)
        _log("alert.dry_run", row, text=as_text(words, portal=portal()))
    why = f"{voices.label(voice.name)} is off"
    return sum(_close(row, State.SENT, reason=why, transport=DRY_RUN, sent_at=at) for row in rows)


def _settle(call: Call, outcomes: Sequence[Outcome], at: datetime) -> int:
    """Write down what became of each message; what was not tried stays as it is."""
    settled = 0
    for batch, outcome in zip(call.batches, outcomes, strict=False):
        with transaction.atomic():
            settled += _settle_one(call.voice, batch, outcome, at)
    return settled


def _settle_one(voice: Voice, batch: Batch, outcome: Outcome, at: datetime) -> int:
    if isinstance(outcome, Sent):
        return _sent(voice, batch, outcome, at)
    voice.failures = F("failures") + 1
    log.warning("alert.not_sent", voice=voice.name, rows=len(batch.rows), reason=outcome.reason)
    if isinstance(outcome, Never) and not outcome.voice:
        voice.save(update_fields=["failures"])
        return sum(_close(row, State.FAILED, reason=outcome.reason) for row in batch.rows)
    if isinstance(outcome, Never):
        voice.broken, voice.broken_at = outcome.reason, at
        voice.save(update_fields=["failures", "broken", "broken_at"])
    else:
        # New rows would go into the same trouble, and take their time of the pass.
        wait = FIRST_RETRY if outcome.seconds is None else timedelta(seconds=outcome.seconds)
        voice.not_before = at + wait
        voice.save(update_fields=["failures", "not_before"])
    for row in batch.rows:
        _again(row, outcome, at)
    return 0


def _sent(voice: Voice, batch: Batch, outcome: Sent, at: datetime) -> int:
    voice.note_sent(1, at)
    voice.broken, voice.broken_at, voice.not_before = "", None, None
    if outcome.chat and outcome.chat != (voice.chat or settings.TELEGRAM_CHAT_ID):
        voice.chat = outcome.chat
    voice.save(update_fields=SENDING)
    voice.refresh_from_db()
    alone = len(batch.rows) == 1
    together = "" if alone else f"with {len(batch.rows) - 1} others"
    number = outcome.message_id if alone else None
    told = {"transport": voice.name, "sent_at": at, "message_id": number}
    return sum(_close(row, State.SENT, reason=together, **told) for row in batch.rows)


def _again(row: OutboxEntry, outcome: Later | Never, at: datetime) -> None:
    wait = min(FIRST_RETRY * 2 ** min(row.attempts, 10), LONGEST_RETRY)
    if isinstance(outcome, Later) and outcome.seconds is not None:
        wait = timedelta(seconds=outcome.seconds)
    OutboxEntry.objects.filter(pk=row.pk, state=State.PENDING).update(
        attempts=F("attempts") + 1, due_at=at + wait, reason=outcome.reason[:300]
    )
    _log("alert.later", row, seconds=wait.total_seconds(), reason=outcome.reason)


def _close(row: OutboxEntry, state: State, *, reason: str = "", **told: object) -> int:
    """Settle a row that is still pending; return 1, or 0 if another process was faster."""
    sent = 1 if state == State.SENT else 0
    closed = OutboxEntry.objects.filter(pk=row.pk, state=State.PENDING).update(
        state=state, reason=reason[:300], attempts=F("attempts") + sent, **told
    )
    if closed:
        _log(CLOSED[state], row, reason=reason)
    return closed


def _log(event: str, row: OutboxEntry, **fields: object) -> None:
    """Log what became of a row under the id of what it tells of."""
    trace_id = row.payload.get(trace.FIELD) or trace.current()
    log.info(event, trace_id=trace_id, key=row.key, voice=row.voice, **fields)


@transaction.atomic
def send_again(
    rows: QuerySet[OutboxEntry] | None = None,
    *,
    by: str,
    at: datetime,
    names: Iterable[str] = voices.NAMES,
) -> int:
    """Let failed rows wait to be told once more, None: all those of the named voices; return how
    many.

    All of them ends the stop of these voices, too. The audit chain has who did it.
    """
    wanted = OutboxEntry.objects.filter(voice__in=names) if rows is None else rows
    if rows is None:
        stopped = Voice.objects.filter(name__in=names)
        stopped.update(broken="", broken_at=None, not_before=None)
    failed = wanted.filter(state=State.FAILED)
    keys = list(failed.values_list("key", flat=True)[:MOST_AT_ONCE])
    moved = failed.update(state=State.PENDING, due_at=at, attempts=0, reason="sent again by hand")
    if moved or rows is None:
        told = {"alerts": moved, "first": keys[:1], "all": rows is None}
        journal.record(kind="alert.sent_again", subject="outbox", actor=by, data=told, at=at)
    return moved


@dataclass(frozen=True, slots=True)
class Tested:
    """What became of a test message; the outcome is None for a dry run."""

    transport: str
    chat: str
    outcome: Outcome | None

    @property
    def row(self) -> dict[str, object]:
        """Return it as a JSON object; where it went to only by what gives nothing away."""
        outcome = self.outcome
        return {
            "transport": self.transport,
            "sent": isinstance(outcome, Sent),
            "chat": self.chat,
            "message_id": outcome.message_id if isinstance(outcome, Sent) else None,
            "reason": outcome.reason if isinstance(outcome, Later | Never) else "",
        }


def send_test(text: str, *, at: datetime, name: str = voices.TELEGRAM) -> Tested:
    """Send one message by a voice now. That it gets through ends the voice's stop."""
    voice = voices.row_of(name)
    line = line_of(name, voice)
    words = words_of("test", {"text": text})
    if line is None:
        log.info("alert.dry_run", key="test", text=as_text(words, portal=portal()))
        return Tested(DRY_RUN, "", None)
    key = f"test:{secrets.token_hex(8)}"
    alert = Alert(key, "test", at, key, words, {"text": text})
    message = Message(key, words, portal(), (alert,))
    call = Call(voice, line, (Batch((), message),))
    for _, (outcome,) in _answered([call]):
        _settle_one(voice, call.batches[0], outcome, at)
    return Tested(name, line.masked, outcome)
