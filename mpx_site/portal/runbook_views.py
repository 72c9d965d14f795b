"""The runbook as a page: each symptom with how it is right now."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mpx_site.portal import runbook, steps


@require_safe
@never_cache
@steps.for_roles
def page(request: HttpRequest) -> HttpResponseBase:
    answers = runbook.answers(at=timezone.now())
    troubled = [answer for answer in answers if answer.state in ("degraded", "down")]
    context = {"answers": answers, "troubled": troubled}
    return render(request, "portal/runbook.html", context)
