"""The page of models: which one weighs the signals, and what it showed."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mpx_site.portal.models_page import models_page


@require_safe
@never_cache
def models(request: HttpRequest) -> HttpResponse:
    page = models_page(number=request.GET.get("model", ""), at=timezone.now())
    return render(request, "portal/models.html", {"page": page})
