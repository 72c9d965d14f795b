"""The portal's addresses."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from mpx_site.portal import (
    audit_views,
    execution_views,
    positions_views,
    risk_views,
    rules_views,
    scoreboard_views,
    settings_views,
    views,
    views_saved,
    whatif_views,
)

urlpatterns = [
    path("", views.home, name="home"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("status/", views.status, name="status"),
    path("signals/", views.signals, name="signals"),
    path("signals/rows/", views.signal_rows, name="signal-rows"),
    path("signals/<slug:key>/", views.signal, name="signal"),
    path("signals/<slug:key>/execute/", execution_views.execution, name="execution"),
    path("approvals/", execution_views.approvals, name="approvals"),
    path("intents/", execution_views.intent_list, name="intents"),
    path("intents/<int:intent_id>/", execution_views.intent, name="intent"),
    path("intents/<int:intent_id>/approve/", execution_views.approve, name="intent-approve"),
    path("intents/<int:intent_id>/reject/", execution_views.reject, name="intent-reject"),
    path("intents/<int:intent_id>/cancel/", execution_views.cancel, name="intent-cancel"),
    path("intents/<int:intent_id>/revise/", execution_views.revise, name="intent-revise"),
    path("positions/", positions_views.position_list, name="positions"),
    path("risk/", risk_views.risk, name="risk"),
    path("risk/kill/", risk_views.trip, name="risk-kill"),
    path("risk/rearm/", risk_views.rearm, name="risk-rearm"),
    path("risk/breakers/<int:number>/reset/", risk_views.reset, name="risk-reset"),
    path("risk/changes/<int:number>/confirm/", risk_views.confirm, name="risk-confirm"),
    path("risk/changes/<int:number>/refuse/", risk_views.refuse, name="risk-refuse"),
    path("audit/", audit_views.audit, name="audit"),
    path("audit/verify/", audit_views.verify, name="audit-verify"),
    path("settings/", settings_views.settings, name="settings"),
    path("settings/looks/", settings_views.looks, name="settings-looks"),
    path("settings/sessions/end/", settings_views.end, name="settings-sessions-end"),
    path("settings/tokens/", settings_views.make_token, name="settings-token-make"),
    path("settings/tokens/revoke/", settings_views.revoke_token, name="settings-token-revoke"),
    path("settings/views/", views_saved.save, name="view-save"),
    path("settings/views/delete/", views_saved.delete, name="view-delete"),
    path("scoreboard/", scoreboard_views.scoreboard, name="scoreboard"),
    path("rules/", rules_views.rules, name="rules"),
    path("rules/<str:code>/", rules_views.rule, name="rule"),
    path("rules/<str:code>/enable/", rules_views.enable, name="rule-enable"),
    path("rules/<str:code>/disable/", rules_views.disable, name="rule-disable"),
    path("rules/<str:code>/back/", rules_views.back, name="rule-back"),
    path("rules/<slug:code>/what-if/", whatif_views.what_if, name="rule-what-if"),
    path("rules/<slug:code>/what-if/<int:run_id>/", whatif_views.run, name="rule-what-if-run"),
    path(
        "rules/<slug:code>/what-if/<int:run_id>/progress/",
        whatif_views.progress,
        name="rule-what-if-progress",
    ),
    path(
        "rules/<slug:code>/what-if/<int:run_id>/cancel/",
        whatif_views.cancel,
        name="rule-what-if-cancel",
    ),
    path("events/<str:event_id>/", views.event, name="event"),
    path("markets/", views.markets, name="markets"),
    path("markets/<str:market_id>/", views.market, name="market"),
]
