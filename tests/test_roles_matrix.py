"""Who may do what: every route of portal, API, admin and feed, for every role.

The routes come from the URL resolver. A route, method, model or channel that stands in no table
fails, and so does a row whose route is gone: whoever adds one writes down here who may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpResponseForbidden
from django.template.response import TemplateResponse
from django.views import defaults

from mpx_site import asgi, feed_ticket
from tests.roles_cast import NOW, ROLES, World, a_desk, routes

# Who is let in, whatever becomes of it then: a form that says what is missing, a check that
# failed, a 404. Everybody else is sent to the login or gets 401 (nobody), or 403.
GROUPS = {
    "all": ROLES,
    "account": ROLES[1:],  # any login, also one without a role
    "role": ROLES[2:],
    "none": (),
}
PORTAL = """
GET    /                                                      account
GET    /login/                                                all
POST   /login/                                                all
GET    /login/code/                                           all
POST   /login/code/                                           all
GET    /login/again/                                          account
POST   /login/again/                                          account
POST   /logout/                                               account
GET    /status/                                               account
GET    /signals/                                              account
GET    /signals/rows/                                         account
GET    /signals/rows/full/                                    account
POST   /signals/steps/                                        trader approver super
GET    /signals/<slug:key>/                                   account
GET    /signals/<slug:key>/execute/                           role
POST   /signals/<slug:key>/execute/                           trader super
GET    /approvals/                                            role
GET    /intents/                                              role
GET    /intents/<int:intent_id>/                              role
POST   /intents/<int:intent_id>/approve/                      approver super
POST   /intents/<int:intent_id>/reject/                       approver super
POST   /intents/<int:intent_id>/cancel/                       approver super
POST   /intents/<int:intent_id>/revise/                       none
GET    /positions/                                            role
GET    /risk/                                                 role
POST   /risk/kill/                                            trader approver admin super
POST   /risk/rearm/                                           approver admin super
POST   /risk/breakers/<int:number>/reset/                     approver admin super
POST   /risk/changes/<int:number>/confirm/                    approver admin super
POST   /risk/changes/<int:number>/refuse/                     approver admin super
GET    /alerts/                                               trader approver admin super
POST   /alerts/again/                                         trader approver admin super
GET    /health/                                               role
GET    /health/data/                                          role
POST   /health/examine/                                       role
GET    /runbook/                                              role
GET    /audit/                                                trader approver admin super
POST   /audit/verify/                                         trader approver admin super
GET    /settings/                                             account
POST   /settings/looks/                                       account
POST   /settings/sessions/end/                                account
GET    /settings/second-factor/                               account
POST   /settings/second-factor/                               account
POST   /settings/tokens/                                      account
POST   /settings/tokens/revoke/                               account
POST   /settings/telegram/                                    account
POST   /settings/telegram/unlink/                             account
POST   /settings/views/                                       account
POST   /settings/views/delete/                                account
GET    /opportunities/                                        account
GET    /kpi/                                                  account
GET    /scoreboard/                                           account
GET    /models/                                               account
GET    /backtests/                                            account
POST   /backtests/                                            trader approver admin super
GET    /backtests/compare/                                    account
GET    /backtests/<int:run_id>/                               account
GET    /backtests/<int:run_id>/progress/                      account
POST   /backtests/<int:run_id>/cancel/                        trader approver admin super
POST   /backtests/<int:run_id>/again/                         trader approver admin super
GET    /backtests/<int:run_id>/episodes.csv                   account
GET    /rules/                                                account
GET    /rules/<str:code>/                                     account
POST   /rules/<str:code>/enable/                              admin super
POST   /rules/<str:code>/disable/                             admin super
POST   /rules/<str:code>/back/                                admin super
GET    /rules/<slug:code>/what-if/                            account
POST   /rules/<slug:code>/what-if/                            trader approver admin super
GET    /rules/<slug:code>/what-if/<int:run_id>/               account
GET    /rules/<slug:code>/what-if/<int:run_id>/progress/      account
POST   /rules/<slug:code>/what-if/<int:run_id>/cancel/        trader approver admin super
GET    /groups/                                               role
GET    /groups/<int:number>/                                  role
POST   /groups/<int:number>/decide/                           approver admin super
GET    /relations/                                            role
GET    /relations/<int:number>/                               role
POST   /relations/<int:number>/decide/                        approver admin super
GET    /events/<str:event_id>/                                account
GET    /markets/                                              account
GET    /markets/<str:market_id>/                              account
GET    /livez                                                 all
POST   /livez                                                 all
GET    /readyz                                                all
POST   /readyz                                                all
GET    /metrics                                               all
POST   /metrics                                               all
"""
# `none` may revise an order: only its proposer may, who is none of these.
API = """
GET    /api/v1/signals                                        account
GET    /api/v1/signals/<str:key>                              account
GET    /api/v1/markets                                        account
GET    /api/v1/markets/<str:market_id>                        account
GET    /api/v1/markets/<str:market_id>/candles                account
GET    /api/v1/markets/<str:market_id>/similar                account
GET    /api/v1/intents                                        role
POST   /api/v1/intents                                        trader super
POST   /api/v1/intents/preview                                role
GET    /api/v1/intents/<int:intent_id>                        role
POST   /api/v1/intents/<int:intent_id>/approve                approver super
POST   /api/v1/intents/<int:intent_id>/reject                 approver super
POST   /api/v1/intents/<int:intent_id>/cancel                 approver super
POST   /api/v1/intents/<int:intent_id>/revise                 none
GET    /api/v1/positions                                      role
GET    /api/v1/risk                                           role
POST   /api/v1/risk/kill-switch                               trader approver admin super
GET    /api/v1/rules                                          account
POST   /api/v1/rules                                          admin super
POST   /api/v1/rules/validate                                 account
GET    /api/v1/rules/<str:code>                               account
GET    /api/v1/rules/<str:code>/diff                          account
POST   /api/v1/rules/<str:code>/enable                        admin super
POST   /api/v1/rules/<str:code>/disable                       admin super
POST   /api/v1/rules/<str:code>/rollback                      admin super
GET    /api/v1/alerts                                         trader approver admin super
POST   /api/v1/alerts/test                                    trader approver admin super
GET    /api/v1/audit                                          trader approver admin super
GET    /api/v1/kpi/daily                                      account
GET    /api/v1/data-quality                                   account
GET    /api/v1/backtests                                      account
GET    /api/v1/backtests/<int:run_id>                         account
GET    /api/v1/tokens                                         account
POST   /api/v1/tokens                                         account
DELETE /api/v1/tokens/<str:prefix>                            account
POST   /api/v1/ws-ticket                                      account
GET    /api/healthz                                           all
GET    /api/markets                                           account
GET    /api/markets/<str:market_id>                           account
GET    /api/kpi/daily                                         account
GET    /api/rules                                             account
POST   /api/rules                                             admin super
GET    /api/signals                                           account
POST   /api/alerts/test                                       trader approver admin super
POST   /api/execution/intent                                  trader super
POST   /api/execution/confirm/<int:intent_id>                 approver super
GET    /api/execution/intents                                 role
GET    /api/schema/                                           account
GET    /api/docs/                                             account
GET    /api/^(?!(?:schema|docs)$)(?P<rest>.*)$                account
POST   /api/^(?!(?:schema|docs)$)(?P<rest>.*)$                account
PUT    /api/^(?!(?:schema|docs)$)(?P<rest>.*)$                account
PATCH  /api/^(?!(?:schema|docs)$)(?P<rest>.*)$                account
DELETE /api/^(?!(?:schema|docs)$)(?P<rest>.*)$                account
"""
OF_ADMIN = """
GET    /admin/                                                account
POST   /admin/                                                account
GET    /admin/login/                                          account
POST   /admin/login/                                          account
POST   /admin/logout/                                         account
GET    /admin/password_change/                                account
POST   /admin/password_change/                                account
GET    /admin/autocomplete/                                   none
GET    /admin/jsi18n/                                         account
GET    /admin/r/<path:content_type_id>/<path:object_id>/      account
POST   /admin/r/<path:content_type_id>/<path:object_id>/      account
GET    /admin/auth/user/<id>/password/                        admin super
POST   /admin/auth/user/<id>/password/                        admin super
GET    /admin/markets/relation/inbox/                         role
POST   /admin/markets/relation/inbox/                         role
POST   /admin/rules/rule/<int:pk>/switch/                     admin super
GET    /admin/rules/rule/<int:pk>/back/<int:number>/          admin super
POST   /admin/rules/rule/<int:pk>/back/<int:number>/          admin super
GET    /admin/risk/breaker/trip/                              role
POST   /admin/risk/breaker/trip/                              approver admin super
GET    /admin/execution/orderintent/decide/<str:act_name>/    role
POST   /admin/execution/orderintent/decide/<str:act_name>/    approver super
GET    /admin/^(?P<app_label>APPS)/$                          account
POST   /admin/^(?P<app_label>APPS)/$                          account
GET    /admin/(?P<url>.*)$                                    account
POST   /admin/(?P<url>.*)$                                    account
"""
# What each role may do with a model in the admin, once its account is staff: view, add, change,
# delete. Nobody is sent to the login.
MODELS = """
#                                     bare     viewer   trader   approver admin    super
auth.group                            -        -        -        -        vacd     vacd
auth.user                             -        -        -        -        vacd     vacd
django_celery_beat.crontabschedule    -        -        -        -        -        vacd
django_celery_beat.intervalschedule   -        -        -        -        -        vacd
alerts.voice                          -        -        v        v        vc       vc
alerts.manner                         -        -        v        v        vacd     vacd
alerts.silence                        -        -        vac      vac      vac      vac
alerts.auditentry                     -        -        v        v        v        v
alerts.feedentry                      -        -        v        v        v        v
alerts.outboxentry                    -        -        vc       vc       vc       vc
alerts.heartbeat                      -        v        v        v        v        v
markets.relation                      -        v        v        vac      vac      vac
markets.synonymgroup                  -        v        v        vac      vac      vac
markets.event                         -        v        v        v        v        v
markets.market                        -        v        v        v        v        v
markets.outcome                       -        v        v        v        v        v
markets.quote                         -        v        v        v        v        v
markets.quarantine                    -        v        v        v        v        v
markets.termschange                   -        v        v        v        v        v
markets.syncrun                       -        v        v        v        v        v
markets.gap                           -        v        v        v        v        v
markets.watchrule                     -        v        v        v        vacd     vacd
rules.rule                            -        v        v        v        vac      vac
rules.ruleversion                     -        v        v        v        v        v
rules.mlmodel                         -        v        v        vc       vc       vc
signals.signal                        -        v        v        v        v        v
signals.whatifrun                     -        v        v        v        v        v
risk.policy                           -        v        v        vc       vc       vc
risk.policychange                     -        v        v        vc       vc       vc
risk.breaker                          -        v        v        vc       vc       vc
risk.killswitch                       -        v        vc       vc       vc       vc
execution.orderintent                 -        v        v        v        v        v
execution.intentevent                 -        v        v        v        v        v
execution.intentleg                   -        v        v        v        v        v
execution.fill                        -        v        v        v        v        v
execution.positionentry               -        v        v        v        v        v
execution.livebook                    -        v        v        v        v        v
mpx_site.apitoken                     -        -        -        -        v        v
mpx_site.telegramlink                 -        -        -        -        vd       vd
django_celery_beat.periodictask       -        -        -        -        -        vacd
"""
SOCKETS = """
ws/v1/feed   signals     account
ws/v1/feed   intents     role
ws/v1/feed   positions   role
ws/v1/feed   risk        role
ws/v1/feed   health      account
ws/v1/feed   quotes      account
"""
ONE_MODEL = re.compile(r"/admin/\w+/\w+/(add/|<path:object_id>/.*)?")  # Django's own of each model
TABLES = {"portal": PORTAL, "API": API, "admin": OF_ADMIN}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    return a_desk()


def rows_of(table: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return who is let in, by method (or channel's route) and route (or channel)."""
    rows = (line.split() for line in table.strip().splitlines())
    return {(row[0], row[1]): GROUPS.get(row[2]) or tuple(row[2:]) for row in rows}


def routes_of(surface: str) -> Iterator[str]:
    for route in routes():
        home = {"/api": "API", "/adm": "admin"}.get(route[:4], "portal")
        if home == surface and not ONE_MODEL.fullmatch(route):
            yield route


def expected(route: str, role: str, let_in: tuple[str, ...]) -> str:
    if role in let_in:
        return "ok"
    if role != "nobody":
        return "no"
    return "401" if route.startswith("/api/") and route != "/api/docs/" else "login"


@pytest.mark.parametrize("surface", TABLES)
def test_every_route_lets_in_whom_its_row_names(world: World, surface: str) -> None:
    rows = rows_of(TABLES[surface])
    wrong = []
    for route in routes_of(surface):
        for method in METHODS if surface == "API" else METHODS[:2]:
            let_in = rows.pop((method, route), None)
            if let_in is None:
                if world.asked(method, route, "super") != "405":
                    now = [role for role in ROLES if world.asked(method, route, role) == "ok"]
                    wrong.append(f"{method} {route} has no row; now it lets in: {' '.join(now)}")
                continue
            for role in ROLES:
                told, wanted = world.asked(method, route, role), expected(route, role, let_in)
                if told != wanted:
                    wrong.append(f"{method} {route} as {role}: {told}, and its row says {wanted}")
    wrong += [f"{method} {route} has a row, but is no route" for method, route in rows]

    assert not wrong, "\n".join(wrong)


def test_every_model_of_the_admin_is_open_as_its_row_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who is let in is known before a page is drawn, which is most of the work.
    monkeypatch.setattr(TemplateResponse, "rendered_content", "")
    monkeypatch.setattr(defaults, "permission_denied", lambda *_, **__: HttpResponseForbidden())
    rows = {row[0]: row[1:] for row in map(str.split, MODELS.strip().splitlines()[1:])}
    wrong = []
    for model, screens in admin.site._registry.items():
        label = model._meta.label_lower
        may = [world.in_admin(screens, role) or "-" for role in ROLES[1:]]
        if rows.pop(label, None) != may:
            wrong.append(f"{label:37} {' '.join(f'{each:8}' for each in may)}")
    wrong += [f"{label} has a row, but is no model of the admin" for label in rows]

    assert not wrong, "\n".join(wrong)


def test_every_channel_is_heard_by_whom_its_row_names(world: World) -> None:
    rows = rows_of(SOCKETS)
    served = {str(route.pattern) for route in asgi.sockets.routes} - {""}
    people = {role: User.objects.get(username=f"the {role}") for role in ROLES[1:]}

    assert {route for route, _ in rows} == served
    assert {channel for _, channel in rows} == set(feed_ticket.CHANNELS)
    for (_, channel), let_in in rows.items():
        hears = [role for role, who in people.items() if channel in feed_ticket.hearable_now(who)]
        assert hears == list(let_in), channel
