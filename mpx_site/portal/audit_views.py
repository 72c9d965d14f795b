"""The audit chain as a page: who did what, what it was before and after, and whether it holds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from alerts import journal
from alerts.models import AuditEntry, AuditHead
from mpx_site.doctor import looked
from mpx_site.doctor_inside import audit as look_at_links
from mpx_site.portal import exports, steps
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import SIZES, Asked
from mpx_site.portal.numbers import row_number
from mpx_site.portal.subjects import Place, place_of
from rules.load import SYSTEM

SEE_AUDIT = "alerts.view_auditentry"
WHOLE = 200_000  # a longer chain is verified as a whole by the command: that takes seconds
ABOUT = [
    ("", "Everything"),
    ("signal", "Signals"),
    ("intent", "Orders"),
    ("market", "Positions and settlements"),
    ("policy", "Limits"),
    ("killswitch", "Kill switch"),
    ("breaker", "Circuit breakers"),
    ("rule", "Rules"),
    ("relation", "Relations"),
    ("group", "Synonym groups"),
    ("schedule", "Schedule"),
    ("token", "API tokens"),
]
ENTRIES = (
    Column("id", "pk"),
    Column("at", "at"),
    Column("kind", "kind"),
    Column("subject", "subject"),
    Column("actor", "actor"),
    Column("data", "data"),
    Column("previous_hash", "previous_hash"),
    Column("hash", "hash"),
)


class AskedAudit(Asked):
    """Filters of the chain. `kind` is a whole kind, or its beginning up to a dot."""

    about = forms.ChoiceField(choices=ABOUT, required=False)
    kind = forms.RegexField(r"^[a-z_]+(\.[a-z0-9_]*)?$", max_length=60, required=False)
    actor = forms.CharField(max_length=150, required=False)
    subject = forms.CharField(max_length=120, required=False)
    since = forms.DateTimeField(required=False, label="Since, UTC")
    until = forms.DateTimeField(required=False, label="Until, UTC")
    field_order = ("about", "kind", "actor", "subject", "since", "until", "size")

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        for name in ("since", "until"):
            self.fields[name].widget = forms.DateTimeInput(
                attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
            )
        for name, example in (("kind", "rule.enabled"), ("subject", "rule:DUTCH")):
            self.fields[name].widget.attrs["placeholder"] = example

    def rows(self) -> QuerySet[AuditEntry]:
        rows = AuditEntry.objects.filter(self._subjects(), self._period()).order_by("-id")
        if kind := self.value("kind"):
            rows = rows.filter(**{"kind" if "." in kind[:-1] else "kind__startswith": kind})
        if actor := self.value("actor"):
            rows = rows.filter(Q(actor=actor) | Q(actor__startswith=f"{actor} via "))
        return rows

    def _subjects(self) -> Q:
        """Subjects are KIND:KEY or KIND alone."""
        about, subject = self.value("about"), self.value("subject")
        wanted = _begins_with(f"{about}:") | Q(subject=about) if about else Q()
        return wanted & _begins_with(subject) if subject else wanted

    def _period(self) -> Q:
        """Times grow with the ids, so the entries of a period are found by where it begins."""
        since, until = (self.cleaned_data.get(name) for name in ("since", "until"))
        period = Q()
        if since is not None:
            period &= Q(at__gte=since, id__gt=_last_before(since))
        return period & Q(at__lte=until) if until is not None else period


def _begins_with(text: str) -> Q:
    """SQLite finds a beginning through the index only where it is asked for a range."""
    begins = Q(subject__startswith=text)
    if connection.vendor != "sqlite":
        return begins  # a range would be one of the language's order, not of characters
    return begins & Q(subject__gte=text, subject__lt=f"{text}\U0010ffff")


def _last_before(moment: datetime) -> int:
    """Return the last entry older than a moment, as far as clocks agree; 0 if there is none."""
    older = AuditEntry.objects.filter(at__lt=moment).order_by("-id")
    return older.values_list("id", flat=True).first() or 0


# --- the page ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One value before and after, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Line:
    """One entry: what it is about, what it changed if it tells, and all that it holds."""

    entry: AuditEntry
    place: Place
    by: str
    changes: tuple[Change, ...]
    reason: str
    data: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """`older` and `newest` are where the next entries begin; None where there are none."""

    asked: AskedAudit
    lines: tuple[Line, ...]
    older: int | None
    begun: bool
    head: AuditHead | None
    verified: Verified | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the chain found. `whole`: all of it was read, not only its end."""

    at: datetime
    ok: bool
    told: str
    whole: bool
    seconds: float


class Memory:
    """The last verification of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0.0
        self.last: Verified | None = None

    def verify(self) -> Verified:
        """Read the chain now; who asks while it is about to be read shares the answer."""
        asked = time.monotonic()
        with self._lock:
            if self.last is None or self._begun < asked:
                self._begun = time.monotonic()
                self.last = verified()
            return self.last


memory = Memory()


@require_safe
@never_cache
@steps.for_permission(SEE_AUDIT, "The audit chain is shown to analyst, trader, approver or admin.")
def audit(request: HttpRequest) -> HttpResponseBase:
    asked = AskedAudit(request.GET)
    rows = asked.rows()
    if (file := exports.answer(request, rows, ENTRIES, name="audit")) is not None:
        return file
    page = _page(asked, rows, before=row_number(request.GET.get("before")))
    return render(request, "portal/audit.html", {"page": page})


@require_POST
@steps.for_permission(SEE_AUDIT, "The audit chain is shown to analyst, trader, approver or admin.")
def verify(request: HttpRequest) -> HttpResponseBase:
    """Read the chain now and say whether it holds."""
    found = memory.verify()
    say = messages.success if found.ok else messages.error
    say(request, f"The audit chain {'holds' if found.ok else 'is BROKEN'}: {found.told}.")
    return HttpResponseRedirect(reverse("audit"), status=303)


def verified() -> Verified:
    """Verify the whole chain, or the end of a very long one."""
    at, begun = timezone.now(), time.monotonic()
    head = AuditHead.objects.first()
    if head is not None and head.length > WHOLE:
        seen = looked(look_at_links)
        return Verified(at, seen.state == "ok", seen.text, False, time.monotonic() - begun)
    try:
        ok, told = True, f"all {journal.verify_head():,} links"
    except journal.ChainBroken as broken:
        ok, told = False, str(broken)
    return Verified(at, ok, told, True, time.monotonic() - begun)


def _page(asked: AskedAudit, rows: QuerySet[AuditEntry], *, before: int | None) -> AuditPage:
    size = int(asked.value("size") or SIZES[0])
    shown = rows.filter(id__lt=before) if before is not None else rows
    found = list(shown[: size + 1])
    return AuditPage(
        asked=asked,
        lines=tuple(map(line_of, found[:size])),
        older=found[size - 1].pk if len(found) > size else None,
        begun=before is None,
        head=AuditHead.objects.first(),
        verified=memory.last,
    )


def line_of(entry: AuditEntry) -> Line:
    told: Mapping[str, Any] = entry.data if isinstance(entry.data, Mapping) else {}
    return Line(
        entry=entry,
        place=place_of(entry.subject),
        by="the desk" if entry.actor == SYSTEM else entry.actor,
        changes=_changes(told),
        reason=_text(told.get("reason") or ""),
        data=json.dumps(entry.data, indent=1, ensure_ascii=False),
    )


def _changes(told: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what was before and after, where an entry tells: of one value or of several."""
    before, after = told.get("before"), told.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return tuple(_change(name, before.get(name), after[name]) for name in after)
    if before is not None and "number" in told:
        return (_change("version", before, told["number"]),)
    return (_change("value", before, after),) if before is not None and after is not None else ()


def _change(name: str, before: object, after: object) -> Change:
    return Change(name.replace("_", " "), _text(before), _text(after))


def _text(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
