"""The cast of the roles matrix: a desk with one of everything, and what each form sends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from alerts.models import AuditEntry
from execution.backtest.asking import Asked
from execution.backtest_models import BacktestRun
from execution.models import OrderIntent
from markets.relation_models import Relation, SynonymGroup
from risk import limits
from risk.models import Breaker, Policy, PolicyChange
from rules.load import SHIPPED
from signals.whatif_models import WhatIfRun
from tests.desk_cast import NOW, basket, person, prepare, show, suggested, trader
from tests.relation_cast import proposed, two_deals

# Nobody is not logged in, `bare` has an account without a role, `super` is a superuser.
ROLES = ("nobody", "bare", "viewer", "trader", "approver", "admin", "super")
ONE_ROW = ("risk.policy", "risk.killswitch")  # whose list only leads to its row
PERSONAL = frozenset({"PERMISSION", "FOUR_EYES"})  # checks of who it is, not of how things are
RULE = (SHIPPED / "dutch_book_detect.yaml").read_text()


@dataclass(frozen=True)
class World:
    intent: OrderIntent
    sessions: Mapping[str, str]
    parts: Mapping[str, Any]
    form: Mapping[str, Any]
    bodies: Mapping[str, Mapping[str, Any]]

    def ask(self, method: str, address: str, role: str, body: Mapping[str, Any]) -> str:
        """Return what a request comes to: `ok`, `no`, `login`, or the status; undo its effect."""
        client = Client(raise_request_exception=False)
        if role in self.sessions:
            client.cookies["sessionid"] = self.sessions[role]
        json = {"content_type": "application/json"} if method != "GET" else {}
        more: Any = json if address.startswith("/api/") else {}
        last = AuditEntry.objects.count()
        with transaction.atomic():
            send = getattr(client, method.lower())
            answer = send(address, body, headers={"Idempotency-Key": "matrix"}, **more)
            refused = _refused_for_who_it_is(AuditEntry.objects.filter(id__gt=last))
            transaction.set_rollback(True)
        return "no" if refused else _class_of(answer)

    def asked(self, method: str, route: str, role: str) -> str:
        """Return what a request to a route comes to, with what it takes to be let in."""
        told = self.bodies.get(route, {} if route.startswith("/api/") else self.form)
        return self.ask(method, self._address(route), role, told if method != "GET" else {})

    def in_admin(self, model: ModelAdmin[Any], role: str) -> str:
        """Return what a role may do with a model in the admin: `v`iew, `a`dd, `c`hange, `d`elete.

        Looking and changing is tried, with a row of the desk if it has one; adding and deleting
        is asked of the screen, for Django's own pages ask it too.
        """
        label = model.opts.label_lower
        at = f"/admin/{label.replace('.', '/')}/"
        row = model.model._default_manager.order_by("pk").first()
        change = f"{at}{row.pk if row else 1}/change/"
        told = {**self.form, **self.bodies.get(label, {})}
        asked = {"v": self.ask("GET", at, role, {}), "c": self.ask("POST", change, role, told)}
        if label in ONE_ROW:
            asked["v"] = self.ask("GET", change, role, {})
        request = RequestFactory().get(at)
        request.user = User.objects.get(username=f"the {role}")
        may = {
            "a": model.has_add_permission(request),
            "d": model.has_delete_permission(request, row),
            **{act: came == "ok" for act, came in asked.items()},
        }
        return "".join(act for act in "vacd" if may[act])

    def _address(self, route: str) -> str:
        parts = dict(self.parts)
        for name in ("breaker", "change", "group", "relation"):
            if f"/{name}s/<" in route:
                parts["number"] = parts[name]
        route = re.sub(r"\^?\(.*<app_label>.*", "signals/", route)
        route = re.sub(r"\^?\(.*", "nothing", route)  # what catches the rest
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(parts[found[1]]), route)


def _class_of(answer: Any) -> str:
    status: int = answer.status_code
    if status == 302 and answer["Location"].startswith(("/login/?next=", "/admin/login/?next=")):
        return "login"
    return {403: "no"}.get(
        status, "ok" if status < 500 and status not in (401, 405) else f"{status}"
    )


def _refused_for_who_it_is(entries: Iterable[AuditEntry]) -> bool:
    """Pages answer a refused step by leading back to where it is explained."""
    return any(_lacked_a_right(entry) for entry in entries)


def _lacked_a_right(entry: AuditEntry) -> bool:
    if entry.kind.endswith("refused") and "needs" in entry.data:
        return True
    checks = entry.data.get("checks", [])
    return any(check["name"] in PERSONAL and not check["ok"] for check in checks)


def routes() -> Iterator[str]:
    """Return every route of the desk as the resolver writes it."""

    def walk(patterns: Iterable[Any], before: str) -> Iterator[str]:
        for pattern in patterns:
            apps = r"(?<=<app_label>)[^)]*"  # all that have a model in the admin
            route = before + re.sub(apps, "APPS", str(pattern.pattern))
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern):
                yield route

    yield from walk(get_resolver().url_patterns, "/")


def a_desk() -> World:
    prepare()
    view, signal = basket()
    show(view)
    another = trader("another")
    intent = suggested(signal, another)
    breaker = Breaker.objects.create(scope="GLOBAL", subject="", state="OPEN", reason="by hand")
    change = PolicyChange.objects.create(
        state="PROPOSED", proposer=another, at=NOW, before={}, after={}, loosens=[], reason="more"
    )
    proposed(two_deals())
    SynonymGroup.objects.create(name="matrix", method=SynonymGroup.Method.KEYWORD, created_at=NOW)
    people = {role: person(f"the {role}", role) for role in ROLES[1:-1]}
    people["super"] = User.objects.create_superuser("the super")
    User.objects.update(is_staff=True)  # in the admin the permission decides, not the door
    run = WhatIfRun.objects.create(
        rule=signal.rule, candidate_source=RULE, hours=1, asked_by=people["trader"], asked_at=NOW
    )
    BacktestRun.objects.create(pk=run.pk, title="matrix", asked=Asked((RULE,)).row(), asked_at=NOW)
    return World(
        intent=intent,
        sessions={role: _session(who) for role, who in people.items()},
        parts=_parts(intent, breaker=breaker, change=change, run=run),
        form=_form(intent),
        bodies=_bodies(intent),
    )


def _parts(
    intent: OrderIntent, *, breaker: Breaker, change: PolicyChange, run: WhatIfRun
) -> dict[str, Any]:
    """Return what stands for each part of an address."""
    rule = intent.signal.rule
    return {
        "key": intent.signal.key, "intent_id": intent.pk, "code": rule.code, "pk": rule.pk,
        "event_id": "7", "market_id": "700", "run_id": run.pk, "prefix": "abcdefgh",
        "breaker": breaker.pk, "change": change.pk, "number": 1,
        "group": SynonymGroup.objects.get().pk, "relation": Relation.objects.get().pk,
        "act_name": "approve", "id": intent.proposer_id, "content_type_id": 1, "object_id": 1,
    }  # fmt: skip


def _form(intent: OrderIntent) -> dict[str, Any]:
    """Return what any form of a page may ask for."""
    return {
        "key": "matrix", "plan": intent.plan_hash, "reason": "matrix", "scope": "RULE",
        "subject": intent.signal.rule.code, "chosen": [intent.pk], "id": [intent.pk],
        f"hash-{intent.pk}": intent.plan_hash, "act": "trip", "number": "1",
    }  # fmt: skip


def _bodies(intent: OrderIntent) -> dict[str, dict[str, Any]]:
    """Return what a program sends, by route; nothing where it sends nothing."""
    signed = {"plan_hash": intent.plan_hash}
    one = "/api/v1/intents/<int:intent_id>"
    return {
        "/api/v1/intents": {"signal": intent.signal.key},
        "/api/v1/intents/preview": {"signal": intent.signal.key},
        f"{one}/approve": signed,
        f"{one}/reject": {"reason": "matrix"},
        "/api/v1/risk/kill-switch": {"tripped": True, "reason": "matrix"},
        "/api/v1/rules": {"text": RULE},
        "/api/v1/rules/validate": {"text": RULE},
        "/api/v1/rules/<str:code>/rollback": {"number": 1},
        "/api/v1/tokens": {"name": "matrix", "scopes": ["read"]},
        "/api/rules": {"text": RULE},
        "/api/execution/intent": {"signal_id": intent.signal_id},
        "/api/execution/confirm/<int:intent_id>": signed,
        "/groups/<int:number>/decide/": {"act": "reject", "reason": "matrix"},
        "/relations/<int:number>/decide/": {"act": "reject", "reason": "matrix"},
        "/signals/steps/": {"act": "ACK", "key": intent.signal.key},
        "risk.policy": {**_policy(), "book_age_ms": 1},
        "risk.policychange": {"act": "confirm"},
        "markets.relation": {"act": "reject"},
        "markets.synonymgroup": {"act": "reject"},
    }


def _policy() -> dict[str, Any]:
    policy = Policy.objects.get()
    kept = {name: getattr(policy, name) for name in limits.LIMITS}
    return {name: "" if value is None else value for name, value in kept.items()}


def _session(who: User) -> str:
    client = Client()
    client.force_login(who)
    return client.cookies["sessionid"].value
