"""Backtest pages: runs, ask for one, watch its progress, read it, compare, cancel, take its CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from execution.backtest import runs, writing
from execution.backtest.asking import DESK, RECORDING, Asked
from execution.backtest.grid import BadGrid
from execution.backtest.jobs import hits_in_order
from execution.backtest.places import desk_places
from execution.backtest.runs import TooManyWaiting
from execution.backtest.terms import FillTerms
from execution.backtest_models import BacktestRun
from markets.frames import unix_ns
from mpx_site.portal import backtests_pages, backtests_run
from mpx_site.portal.backtests_pages import Sent
from mpx_site.portal.exports import Streamed, too_often
from mpx_site.portal.numbers import row_number
from mpx_site.portal.whatif_pages import HOURS
from rules.dsl import RuleDefinition, RuleError
from rules.load import definition_of
from rules.models import Rule
from signals import whatif_runs

PERMISSION = "execution.run_backtest"
MOST_LATENCY_MS = 600_000
MOST_CAPITAL = Decimal(1_000_000)


class Refused(Exception):
    """What was asked for cannot be done; the text says what to do instead."""


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def backtests(request: HttpRequest) -> HttpResponse:
    """Show the runs and what can be asked; take what is asked for."""
    if request.method == "POST":
        return _ask(request)
    return _list(request, backtests_pages.list_page(at=timezone.now()))


@require_safe
@never_cache
def backtest(request: HttpRequest, run_id: int) -> HttpResponse:
    try:
        page = backtests_run.run_page(run_id)
    except BacktestRun.DoesNotExist:
        raise Http404("There is no backtest of this number.") from None
    shown = row_number(request.GET.get("result", "0")) or 0
    result = page.results[min(shown, len(page.results) - 1)] if page.results else None
    context = {"page": page, "result": result, "may_run": request.user.has_perm(PERMISSION)}
    return render(request, "portal/backtest.html", context)


@require_safe
@never_cache
def compare(request: HttpRequest) -> HttpResponse:
    ids = [number for text in request.GET.getlist("run") if (number := row_number(text))]
    page = backtests_pages.compare_page(ids)
    return render(request, "portal/backtests_compare.html", {"page": page})


@require_safe
@never_cache
def progress(request: HttpRequest, run_id: int) -> JsonResponse:
    """Answer how far a run is, for the page that waits for it."""
    found = BacktestRun.objects.filter(pk=run_id).defer("asked", "data", "notes").first()
    if found is None:
        return JsonResponse({"error": "There is no backtest of this number."}, status=404)
    elapsed = (timezone.now() - found.started_at).total_seconds() if found.started_at else 0
    told = {
        "state": found.state,
        "over": found.over,
        "permille": found.permille,
        "frames": round(found.frames_per_s * elapsed),
        "seconds": round(elapsed),
        "before": backtests_run.before(found),
    }
    return JsonResponse(told)


@require_POST
def cancel(request: HttpRequest, run_id: int) -> HttpResponse:
    _runner(request)
    if not BacktestRun.objects.filter(pk=run_id).exists():
        raise Http404("There is no backtest of this number.")
    if runs.cancel(run_id, at=timezone.now()):
        messages.success(request, "Cancelled. What it has done is kept for another start.")
    else:
        messages.error(request, "It was over already.")
    return HttpResponseRedirect(reverse("backtest", args=[run_id]))


@require_POST
def again(request: HttpRequest, run_id: int) -> HttpResponse:
    """Start one again that failed or was cancelled; it goes on from the groups that are done."""
    _runner(request)
    BacktestRun.objects.filter(pk=run_id).exclude(state=BacktestRun.State.RUNNING).update(
        by_desk=True
    )
    if runs.again(run_id, at=timezone.now()):
        messages.success(request, "It waits for its turn.")
    else:
        messages.error(request, "Only what failed or was cancelled can be started again.")
    return HttpResponseRedirect(reverse("backtest", args=[run_id]))


@require_safe
@never_cache
def episodes(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Send the run's episodes as CSV, as `--csv-out` writes them."""
    run = BacktestRun.objects.filter(pk=run_id, state=BacktestRun.State.DONE).first()
    if run is None:
        raise Http404("There is no finished backtest of this number.")
    if (refused := too_often(request)) is not None:
        return refused
    answer = Streamed(_csv(run), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="backtest-{run_id}.csv"'
    return answer


class _Line:
    """A file that gives each line back."""

    def write(self, text: str) -> str:
        return text


def _csv(run: BacktestRun) -> Iterator[str]:
    rows = list(run.results.order_by("place").values_list("summary", flat=True))
    trades = {trade["key"]: trade for row in rows for trade in row["trade_rows"]}
    names = runs.names_of(run)
    paths = sorted((desk_places().runs / str(run.pk)).glob("hits-*.jsonl"))
    writer = csv.writer(_Line())
    yield writer.writerow(writing.COLUMNS)
    for row in writing.hit_rows(hits_in_order(paths), names=names, trades=trades):
        yield writer.writerow(writing.cells(row))


# --- asking ----------------------------------------------------------------------------------


def _ask(request: HttpRequest) -> HttpResponse:
    """Take a question, or show the form again with what is wrong about it."""
    by, at = _runner(request), timezone.now()
    sent = Sent(
        rules=tuple(request.POST.getlist("rule")),
        data=request.POST.get("data", ""),
        sets=request.POST.get("sets", "")[:2_000],
        latency_ms=request.POST.get("latency_ms", "")[:20],
        haircut=request.POST.get("haircut", "")[:20],
        capital=request.POST.get("capital", "")[:20],
    )
    try:
        asked = runs.ask(_asked(sent, at), desk_places(), by=by, at=at)
    except (BadGrid, RuleError, Refused) as error:
        page = backtests_pages.list_page(at=at, sent=sent, refusal=str(error)[:500])
    except TooManyWaiting:
        refusal = "Too many backtests are waiting. Try again when some of them are answered."
        page = backtests_pages.list_page(at=at, sent=sent, refusal=refusal)
    else:
        return HttpResponseRedirect(reverse("backtest", args=[asked.pk]))
    return _list(request, page, status=422)


def _list(
    request: HttpRequest, page: backtests_pages.ListPage, *, status: int = 200
) -> HttpResponse:
    context = {"page": page, "may_run": request.user.has_perm(PERMISSION)}
    return render(request, "portal/backtests.html", context, status=status)


def _asked(sent: Sent, at: datetime) -> Asked:
    definitions = _definitions(sent.rules)
    source, since, until = _data(sent.data, at)
    return Asked(
        rules=tuple(each.canonical() for each in definitions),
        sets=tuple(line.strip() for line in sent.sets.splitlines() if line.strip()),
        terms=_terms(sent),
        source=source,
        since=since,
        until=until,
    )


def _definitions(codes: tuple[str, ...]) -> list[RuleDefinition]:
    found = Rule.objects.enabled().filter(code__in=codes).select_related("current")
    rules = [rule for rule in found.order_by("code") if rule.current is not None]
    if not rules:
        raise Refused("Choose at least one rule.")
    return [definition_of(rule.current) for rule in rules if rule.current is not None]


def _data(chosen: str, at: datetime) -> tuple[str, int | None, int | None]:
    """Read the choice of data; only what the form offers is taken."""
    hours = row_number(chosen)
    if hours in HOURS:
        return DESK, unix_ns(at - timedelta(hours=hours)), unix_ns(at)
    offered = {path.name for path in whatif_runs.recordings(desk_places().recordings)}
    if chosen.startswith(RECORDING) and chosen.removeprefix(RECORDING) in offered:
        return chosen, None, None
    raise Refused("Choose over which data it is to run.")


def _terms(sent: Sent) -> FillTerms:
    latency = row_number(sent.latency_ms)
    if latency is None or latency > MOST_LATENCY_MS:
        raise Refused(f"Latency: whole milliseconds, 0 to {MOST_LATENCY_MS}.")
    haircut, capital = _number(sent.haircut), _number(sent.capital)
    if haircut is None or not 0 < haircut <= 1:
        raise Refused("Part of displayed sizes: above 0 and at most 1, as 0.5.")
    if capital is None or not 1 <= capital <= MOST_CAPITAL:
        raise Refused(f"Capital of an order: 1 to {MOST_CAPITAL} USD.")
    return FillTerms(latency_ms=latency, depth_share=haircut, capital_usd=capital)


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _runner(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not request.user.has_perm(PERMISSION):
        raise PermissionDenied("Your account may not run backtests.")
    return request.user
