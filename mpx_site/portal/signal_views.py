"""The pages of signals: parse, one call, answer."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mpx_site.portal import exports, signal_pages
from mpx_site.portal.filters import AskedSignals
from mpx_site.portal.signal_pages import COLUMNS
from mpx_site.portal.signal_steps import SNOOZES
from mpx_site.portal.steps import person
from signals.handling import PERMISSION
from signals.models import Signal


@require_safe
@never_cache
def signals(request: HttpRequest) -> HttpResponseBase:
    asked, by, now = AskedSignals(request.GET), person(request), timezone.now()
    rows = signal_pages.for_export(asked.rows(by=by, at=now))
    if (file := exports.answer(request, rows, COLUMNS, name="signals")) is not None:
        return file
    page = signal_pages.signal_list(asked, number=request.GET.get("page"), by=by, at=now)
    context = {"stream": page, "may_step": by.has_perm(PERMISSION), "snoozes": SNOOZES}
    return render(request, "portal/signals.html", context)


@require_safe
@never_cache
def signal_rows(request: HttpRequest) -> HttpResponse:
    """Answer the table rows of `?keys=`, for lists that stay open."""
    keys = request.GET.get("keys", "").split(",")
    rows = signal_pages.rows_of(keys, at=timezone.now())
    context = {"rows": rows, "may_step": person(request).has_perm(PERMISSION)}
    return render(request, "portal/signal_rows.html", context)


@require_safe
@never_cache
def signal(request: HttpRequest, key: str) -> HttpResponse:
    try:
        page = signal_pages.signal(key, at=timezone.now())
    except Signal.DoesNotExist:
        raise Http404("There is no signal of this key.") from None
    may_step = person(request).has_perm(PERMISSION)
    context = {"page": page, "may_step": may_step, "snoozes": SNOOZES}
    return render(request, "portal/signal.html", context)
