"""The portal's pages: parse, one call, answer."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from markets.models import Event, Market
from mpx_site.portal import exports, history, market_list, pages
from mpx_site.portal import home as home_page
from mpx_site.portal.desk import Desk
from mpx_site.portal.filters import AskedMarkets


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    desk = Desk(at=timezone.now())
    page = home_page.home(request.GET, desk)
    return render(request, "portal/home.html", {"page": page, "desk": desk})


@require_safe
@never_cache
def status(request: HttpRequest) -> HttpResponse:
    """Answer the top bar's badges alone, for pages that stay open."""
    return render(request, "portal/status.html")


@require_safe
@never_cache
def signal_rows(request: HttpRequest) -> HttpResponse:
    """Answer the table rows of `?keys=`, for lists that stay open."""
    keys = request.GET.get("keys", "").split(",")
    return render(request, "portal/rows.html", {"signals": pages.rows(keys)})


@require_safe
@never_cache
def markets(request: HttpRequest) -> HttpResponseBase:
    at, asked = timezone.now(), AskedMarkets(request.GET)
    rows = market_list.file_rows(asked, at=at)
    if (file := exports.answer(request, rows, market_list.COLUMNS, name="markets")) is not None:
        return file
    page = market_list.market_list(asked, request.GET, at=at)
    context = {"asked": asked, "markets": page.markets, "rows": page.rows}
    return render(request, "portal/markets.html", context)


@require_safe
@never_cache
def market(request: HttpRequest, market_id: str) -> HttpResponse:
    desk = Desk(at=timezone.now())
    span = request.GET.get("span", "")
    try:
        page = pages.market(market_id, span=span, at=desk.at, trusted=desk.data.trusted)
    except Market.DoesNotExist:
        raise Http404("There is no market of this id.") from None
    context = {"page": page, "spans": tuple(history.RANGES), "desk": desk}
    return render(request, "portal/market.html", context)


@require_safe
@never_cache
def event(request: HttpRequest, event_id: str) -> HttpResponse:
    try:
        page = pages.event(event_id, at=timezone.now())
    except Event.DoesNotExist:
        raise Http404("There is no event of this id.") from None
    return render(request, "portal/event.html", {"page": page})
