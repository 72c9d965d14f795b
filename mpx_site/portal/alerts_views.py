"""The alert outbox as a page: what waits, what was told, what failed and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.paginator import Page
from django.db.models import Count, Min, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from alerts import delivery, voices
from alerts.composing import BUDGET_SPENT
from alerts.lines import line_of
from alerts.models import OutboxEntry, Silence, Voice
from alerts.standing import standing
from mpx_site.portal import exports, steps
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import Asked
from mpx_site.portal.numbers import row_number
from mpx_site.portal.subjects import Place, place_of

SEE_OUTBOX, SEND_AGAIN = "alerts.view_outboxentry", "alerts.change_outboxentry"
SEE_WHY = "The outbox is shown to analyst, trader, approver or admin."
SEND_WHY = "Alerts are sent again by trader, approver or admin."

State = OutboxEntry.State
STATES: Mapping[str, tuple[str, str, str]] = {
    State.PENDING: ("late", "◇", "Waits to be told."),
    State.SENT: ("ok", "●", "Told."),
    State.FAILED: ("stale", "■", "Given up; it may be sent again."),
    State.SUPPRESSED: ("off", "○", "Held back on purpose; the reason says why."),
}
WRITTEN = ("off", "○", "Only written down: nothing was set up that sends.")
VOICE_LOOKS = {"✓": "ok", "◔": "late", "✕": "stale", "○": "off"}
KINDS = [
    ("", "All kinds"),
    ("signal.", "Signals"),
    ("intent.", "Orders"),
    ("breaker.", "Circuit breakers"),
    ("killswitch.", "Kill switch"),
]
ALERTS = (
    Column("id", "pk"),
    Column("key", "key"),
    Column("voice", "voice"),
    Column("kind", "kind"),
    Column("state", "state"),
    Column("created_at", "created_at"),
    Column("due_at", "due_at"),
    Column("attempts", "attempts"),
    Column("reason", "reason"),
    Column("sent_at", "sent_at"),
    Column("transport", "transport"),
    Column("payload", "payload"),
)


class AskedAlerts(Asked):
    state = forms.ChoiceField(choices=[("", "All states"), *State.choices], required=False)
    kind = forms.ChoiceField(choices=KINDS, required=False)
    voice = forms.ChoiceField(choices=[("", "All voices"), *voices.LABELS.items()], required=False)
    sort = forms.ChoiceField(
        choices=[("", "Newest first"), ("oldest", "Oldest first")], required=False, label="Order"
    )
    field_order = ("state", "kind", "voice", "sort", "size")

    def rows(self) -> QuerySet[OutboxEntry]:
        rows = OutboxEntry.objects.order_by("id" if self.value("sort") else "-id")
        if state := self.value("state"):
            rows = rows.filter(state=state)
        if kind := self.value("kind"):
            rows = rows.filter(kind__startswith=kind)
        if voice := self.value("voice"):
            rows = rows.filter(voice=voice)
        return rows


@dataclass(frozen=True, slots=True)
class Line:
    """One alert. `look` is how its state is shown: style, sign, meaning; `word` names it."""

    entry: OutboxEntry
    voice: str
    word: str
    look: tuple[str, str, str]
    place: Place
    title: str
    told_after: timedelta | None


@dataclass(frozen=True, slots=True)
class Speaker:
    """One voice that is set up. `look` is style, sign and sentence of its state."""

    label: str
    look: tuple[str, str, str]
    place: str
    waiting: int
    failed: int
    last_ok_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outbox:
    """How many there are of each state, and whether anybody sends them.

    `written` is how many of the sent ones were only written down. `silent` says in one sentence
    why nothing is sent, or by which voices not; empty while alerts go out.
    """

    speakers: tuple[Speaker, ...]

    counts: dict[str, int]
    written: int
    oldest: datetime | None
    last_sent: datetime | None
    silent: str

    @property
    def told(self) -> int:
        return self.counts[State.SENT] - self.written


@dataclass(frozen=True, slots=True)
class AlertsPage:
    asked: AskedAlerts
    lines: tuple[Line, ...]
    rows: Page[OutboxEntry]
    outbox: Outbox
    silences: tuple[Silence, ...]
    may_send: bool


@require_safe
@never_cache
@steps.for_permission(SEE_OUTBOX, SEE_WHY)
def alerts(request: HttpRequest) -> HttpResponseBase:
    asked = AskedAlerts(request.GET)
    if (file := exports.answer(request, asked.rows, ALERTS, name="alerts")) is not None:
        return file
    rows = asked.page_of(asked.rows(), number=request.GET.get("page"))
    at = timezone.now()
    silences = Silence.objects.filter(until__gt=at).select_related("by").order_by("until", "id")
    page = AlertsPage(
        asked=asked,
        lines=tuple(map(_line, rows)),
        rows=rows,
        outbox=outbox(at=at),
        silences=tuple(silences),
        may_send=request.user.has_perm(SEND_AGAIN),
    )
    return render(request, "portal/alerts.html", {"page": page})


@require_POST
@steps.for_permission(SEND_AGAIN, SEND_WHY)
def send_again(request: HttpRequest) -> HttpResponse:
    """Let one failed alert, or all of them, wait to be told once more."""
    number, at = request.POST.get("number"), timezone.now()
    one = OutboxEntry.objects.filter(pk=row_number(number) or 0)
    who = steps.person(request).get_username()
    moved = delivery.send_again(None if number == "all" else one, by=who, at=at)
    if moved:
        silent = outbox(at=at).silent
        told = f"{moved} alert{'' if moved == 1 else 's'} will be told again."
        told += f" But: {silent}" if silent else ""
        messages.success(request, told)
    else:
        messages.error(request, "Nothing was changed: only what failed can be sent again.")
    return HttpResponseRedirect(f"{reverse('alerts')}?state=FAILED", status=303)


# --- what the page says --------------------------------------------------------------


def outbox(*, at: datetime) -> Outbox:
    rows = OutboxEntry.objects.order_by()
    found = rows.values_list("voice", "state").annotate(n=Count("id"))
    by_voice = {(voice, state): count for voice, state, count in found}
    counts = dict.fromkeys(State.values, 0)
    for (_, state), count in by_voice.items():
        counts[state] += count
    told = rows.aggregate(
        written=Count("id", filter=Q(state=State.SENT, transport=delivery.DRY_RUN)),
        oldest=Min("due_at", filter=Q(state=State.PENDING)),
        stuck=Min("due_at", filter=Q(state=State.PENDING) & ~Q(reason=BUDGET_SPENT)),
    )
    sent = OutboxEntry.objects.filter(state=State.SENT).exclude(transport=delivery.DRY_RUN)
    last = sent.order_by("-id").values_list("sent_at", flat=True).first()
    stands = {voice.name: voice for voice in Voice.objects.all()}
    silent = _silent(stands)
    if not silent and told["stuck"] is not None and at - told["stuck"] > delivery.LONG:
        names = " and ".join(map(voices.label, voices.set_up()))
        silent = f"{names}: on, but what is due is not being sent: see whether the worker runs."
    speakers = tuple(_speaker(name, stands, by_voice, at) for name in voices.set_up())
    return Outbox(speakers, counts, told["written"], told["oldest"], last, silent)


def _speaker(
    name: str,
    stands: Mapping[str, Voice],
    counts: Mapping[tuple[str, str], int],
    at: datetime,
) -> Speaker:
    voice = stands.get(name, Voice(name=name))  # one that has not spoken yet has no row
    sign, sentence = standing(voice, at=at)
    line = line_of(name, voice)
    return Speaker(
        label=voices.label(name),
        look=(VOICE_LOOKS[sign], sign, sentence),
        place=line.masked if line else "",
        waiting=counts.get((name, State.PENDING), 0),
        failed=counts.get((name, State.FAILED), 0),
        last_ok_at=voice.last_ok_at,
    )


def _silent(stands: Mapping[str, Voice]) -> str:
    """Say why nothing can be sent now, or by which voices not; empty if all can speak."""
    if not voices.set_up():
        return f"Nothing sends: {_lacking()}. Alerts are only written down."
    stopped = [stands[name] for name in voices.set_up() if name in stands and stands[name].broken]
    return " ".join(f"{voices.label(each.name)} has stopped: {each.broken}." for each in stopped)


def _lacking() -> str:
    if not settings.TELEGRAM_ENABLED:
        return "Telegram is off (TELEGRAM_ENABLED)"
    return f"Telegram is on, but without {' and '.join(voices.lacking())}"


def _line(entry: OutboxEntry) -> Line:
    told: Mapping[str, Any] = entry.payload if isinstance(entry.payload, Mapping) else {}
    title = told.get("event_title") or told.get("reason") or told.get("text") or ""
    written = entry.state == State.SENT and entry.transport == delivery.DRY_RUN
    return Line(
        entry=entry,
        voice=voices.label(entry.voice),
        word="written down" if written else entry.state.lower(),
        look=WRITTEN if written else STATES[entry.state],
        place=place_of(entry.key),
        title=str(title),
        told_after=entry.sent_at - entry.created_at if entry.sent_at else None,
    )
