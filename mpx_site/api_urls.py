"""Addresses under `/api/`, and `root_urls` for the probes that live at the top."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import IsAuthenticated

from mpx_site import api, api_seed, health, metrics

docs = SpectacularSwaggerSplitView.as_view(
    url_name="schema", template_name="mpx_site/api_docs.html"
)

urlpatterns = [
    path("v1/signals", api.Signals.as_view(), name="api-signals"),
    path("v1/signals/<str:key>", api.SignalByKey.as_view(), name="api-signal"),
    path("v1/markets", api.Markets.as_view(), name="api-markets"),
    path("v1/markets/<str:market_id>", api.MarketById.as_view(), name="api-market"),
    path("v1/<path:rest>", api.NoSuchPath.as_view()),
    path("healthz", health.Health.as_view(), name="api-health"),
    path("markets", api_seed.SeedMarkets.as_view(), name="seed-markets"),
    path("markets/<str:market_id>", api_seed.SeedMarketById.as_view(), name="seed-market"),
    path("signals", api_seed.SeedSignals.as_view(), name="seed-signals"),
    path(
        "schema/", SpectacularAPIView.as_view(permission_classes=[IsAuthenticated]), name="schema"
    ),
    path("docs/", login_required(docs), name="api-docs"),
]

root_urls = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
