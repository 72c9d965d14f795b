"""Addresses under `/api/`, and `root_urls` for the probes that live at the top."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import IsAuthenticated

from mpx_site import (
    api,
    api_alert_test,
    api_backtests,
    api_candles,
    api_execution,
    api_journal,
    api_kpi,
    api_quality,
    api_rules,
    api_seed,
    api_token_views,
    feed_ticket,
    health,
    metrics,
)
from mpx_site import api_seed_execution as seed_desk

docs = SpectacularSwaggerSplitView.as_view(
    url_name="schema", template_name="mpx_site/api_docs.html"
)

urlpatterns = [
    path("v1/signals", api.Signals.as_view(), name="api-signals"),
    path("v1/signals/<str:key>", api.SignalByKey.as_view(), name="api-signal"),
    path("v1/markets", api.Markets.as_view(), name="api-markets"),
    path("v1/markets/<str:market_id>", api.MarketById.as_view(), name="api-market"),
    path("v1/markets/<str:market_id>/candles", api_candles.MarketCandles.as_view()),
    path("v1/markets/<str:market_id>/similar", api.SimilarMarkets.as_view(), name="api-similar"),
    path("v1/intents", api_execution.Intents.as_view(), name="api-intents"),
    path("v1/intents/preview", api_execution.Preview.as_view(), name="api-intent-preview"),
    path("v1/intents/<int:intent_id>", api_execution.IntentById.as_view(), name="api-intent"),
    path("v1/intents/<int:intent_id>/approve", api_execution.Approve.as_view()),
    path("v1/intents/<int:intent_id>/reject", api_execution.Reject.as_view()),
    path("v1/intents/<int:intent_id>/cancel", api_execution.Cancel.as_view()),
    path("v1/intents/<int:intent_id>/revise", api_execution.Revise.as_view()),
    path("v1/positions", api_execution.PositionList.as_view(), name="api-positions"),
    path("v1/risk", api_execution.RiskNow.as_view(), name="api-risk"),
    path("v1/risk/kill-switch", api_execution.Switch.as_view(), name="api-kill-switch"),
    path("v1/rules", api_rules.Rules.as_view(), name="api-rules"),
    path("v1/rules/validate", api_rules.ValidateRule.as_view(), name="api-rule-validate"),
    path("v1/rules/<str:code>", api_rules.RuleByCode.as_view(), name="api-rule"),
    path("v1/rules/<str:code>/diff", api_rules.RuleDiff.as_view(), name="api-rule-diff"),
    path("v1/rules/<str:code>/enable", api_rules.EnableRule.as_view(), name="api-rule-enable"),
    path("v1/rules/<str:code>/disable", api_rules.DisableRule.as_view(), name="api-rule-disable"),
    path(
        "v1/rules/<str:code>/rollback", api_rules.RollBackRule.as_view(), name="api-rule-rollback"
    ),
    path("v1/alerts", api_journal.Alerts.as_view(), name="api-alerts"),
    path("v1/alerts/test", api_alert_test.TestAlert.as_view(), name="api-alert-test"),
    path("v1/audit", api_journal.Audit.as_view(), name="api-audit"),
    path("v1/kpi/daily", api_kpi.KpiDaily.as_view(), name="api-kpi"),
    path("v1/backtests", api_backtests.Backtests.as_view(), name="api-backtests"),
    path("v1/backtests/<int:run_id>", api_backtests.BacktestById.as_view(), name="api-backtest"),
    path("v1/data-quality", api_quality.DataQuality.as_view(), name="api-data-quality"),
    path("v1/tokens", api_token_views.Tokens.as_view(), name="api-tokens"),
    path("v1/tokens/<str:prefix>", api_token_views.TokenByPrefix.as_view(), name="api-token"),
    path("v1/ws-ticket", feed_ticket.WsTicket.as_view(), name="api-ws-ticket"),
    path("healthz", health.Health.as_view(), name="api-health"),
    path("markets", api_seed.SeedMarkets.as_view(), name="seed-markets"),
    path("markets/<str:market_id>", api_seed.SeedMarketById.as_view(), name="seed-market"),
    path("kpi/daily", api_kpi.SeedKpiDaily.as_view(), name="seed-kpi"),
    path("rules", api_rules.SeedRules.as_view(), name="seed-rules"),
    path("signals", api_seed.SeedSignals.as_view(), name="seed-signals"),
    path("alerts/test", api_alert_test.SeedTestAlert.as_view(), name="seed-alert-test"),
    path("execution/intent", seed_desk.SeedIntent.as_view(), name="seed-intent"),
    path("execution/confirm/<int:intent_id>", seed_desk.SeedConfirm.as_view()),
    path("execution/intents", seed_desk.SeedIntents.as_view(), name="seed-intents"),
    path(
        "schema/", SpectacularAPIView.as_view(permission_classes=[IsAuthenticated]), name="schema"
    ),
    path("docs/", login_required(docs), name="api-docs"),
    # Whatever else, but for the two that Django sends on to their slash.
    re_path(r"^(?!(?:schema|docs)$)(?P<rest>.*)$", api.NoSuchPath.as_view()),
]

root_urls = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
