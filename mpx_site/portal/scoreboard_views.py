"""The scoreboard's page: how good the detectors are, as last measured."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mpx_site.scoreboard.result import load, stored_at
from mpx_site.scoreboard.shown import COMMAND, board


@require_safe
@never_cache
def scoreboard(request: HttpRequest) -> HttpResponse:
    context = {"board": board(load(stored_at())), "command": COMMAND}
    return render(request, "portal/scoreboard.html", context)
