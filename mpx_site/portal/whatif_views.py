"""What-if pages of a rule: ask, watch the progress, read the answer, cancel."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from mpx_site.portal import whatif_pages
from mpx_site.portal.numbers import row_number
from rules.dsl import RuleError, parse_rule
from rules.models import Rule, RuleVersion
from signals import whatif_runs
from signals.whatif_models import WhatIfRun
from signals.whatif_runs import TooManyWaiting

PERMISSION = "signals.run_whatif"
TEXT = "text"


class Refused(Exception):
    """What was asked for cannot be done; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Over:
    """The data of a question: hours of what is kept, or a recording's name."""

    hours: int | None
    recording: str


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def what_if(request: HttpRequest, code: str) -> HttpResponse:
    """Show what can be asked; take what is asked for."""
    rule = _rule(code)
    if request.method == "POST":
        return _ask(request, rule)
    chosen = request.GET.get("version", TEXT)
    page = whatif_pages.form_page(rule, at=timezone.now(), chosen=chosen)
    return _form(request, page)


@require_safe
@never_cache
def run(request: HttpRequest, code: str, run_id: int) -> HttpResponse:
    try:
        page = whatif_pages.run_page(_rule(code), run_id)
    except WhatIfRun.DoesNotExist:
        raise Http404("There is no what-if of this number.") from None
    context = {"page": page, "may_run": request.user.has_perm(PERMISSION)}
    return render(request, "portal/what_if_run.html", context)


@require_safe
@never_cache
def progress(request: HttpRequest, code: str, run_id: int) -> JsonResponse:
    """Answer how far a run is, for the page that waits for it."""
    found = WhatIfRun.objects.filter(pk=run_id, rule__code=code).defer("result").first()
    if found is None:
        return JsonResponse({"error": "There is no what-if of this number."}, status=404)
    elapsed = (timezone.now() - found.started_at).total_seconds() if found.started_at else 0
    told = {
        "state": found.state,
        "over": found.over,
        "permille": found.permille,
        "frames": found.frames,
        "seconds": round(elapsed),
        "before": whatif_pages.before(found),
    }
    return JsonResponse(told)


@require_POST
def cancel(request: HttpRequest, code: str, run_id: int) -> HttpResponse:
    _runner(request)
    if not WhatIfRun.objects.filter(pk=run_id, rule=_rule(code)).exists():
        raise Http404("There is no what-if of this number.")
    if whatif_runs.cancel(run_id, at=timezone.now()):
        messages.success(request, "Cancelled.")
    else:
        messages.error(request, "It was over already.")
    return HttpResponseRedirect(reverse("rule-what-if-run", args=[code, run_id]))


def _ask(request: HttpRequest, rule: Rule) -> HttpResponse:
    """Take a question, or show the form again with what is wrong about it."""
    by, at = _runner(request), timezone.now()
    sent = whatif_pages.Sent(
        text=request.POST.get("text", "").replace("\r\n", "\n"),
        chosen=request.POST.get("candidate", TEXT),
        data=request.POST.get("data", ""),
    )
    try:
        version, data = _version(rule, sent.chosen), _data(sent.data)
        asked = whatif_runs.ask(
            rule,
            source=version.canonical if version else _checked(rule, sent.text),
            version=version,
            by=by,
            at=at,
            hours=data.hours,
            recording=data.recording,
        )
    except RuleError as error:
        page = whatif_pages.form_page(rule, at=at, problems=error.problems, sent=sent)
    except Refused as error:
        page = whatif_pages.form_page(rule, at=at, refusal=str(error), sent=sent)
    except TooManyWaiting:
        refusal = "Too many what-ifs are waiting. Try again when some of them are answered."
        page = whatif_pages.form_page(rule, at=at, refusal=refusal, sent=sent)
    else:
        return HttpResponseRedirect(reverse("rule-what-if-run", args=[rule.code, asked.pk]))
    return _form(request, page, status=422)


def _form(request: HttpRequest, page: whatif_pages.FormPage, *, status: int = 200) -> HttpResponse:
    context = {"page": page, "may_run": request.user.has_perm(PERMISSION)}
    return render(request, "portal/what_if.html", context, status=status)


def _version(rule: Rule, chosen: str) -> RuleVersion | None:
    """Return the version that was chosen; None if a text was sent instead."""
    if chosen == TEXT:
        return None
    number = row_number(chosen)
    found = rule.versions.filter(number=number).first() if number is not None else None
    if found is None:
        raise Refused("Choose one of the versions, or write a text.")
    return found


def _checked(rule: Rule, text: str) -> str:
    """Return a text that defines a version of this rule; raise `RuleError` or `Refused`."""
    definition = parse_rule(text, source="text")
    if definition.code != rule.code:
        raise Refused(f"The text is of {definition.code}; write code: {rule.code}.")
    return text


def _data(chosen: str) -> Over:
    """Read the choice of data; only what the form offers is taken."""
    hours = row_number(chosen)
    if hours in whatif_pages.HOURS:
        return Over(hours, "")
    offered = {path.name for path in whatif_runs.recordings(settings.MPX_RECORDINGS)}
    kind, _, name = chosen.partition(":")
    if kind == "recording" and name in offered:
        return Over(None, name)
    raise Refused("Choose over which data it is to run.")


def _runner(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not request.user.has_perm(PERMISSION):
        raise PermissionDenied("Your account may not run what-ifs.")
    return request.user


def _rule(code: str) -> Rule:
    try:
        return Rule.objects.select_related("current").get(code=code)
    except Rule.DoesNotExist:
        raise Http404("There is no rule of this code.") from None
