"""Where a list of the admin has its page in the portal."""

from __future__ import annotations

from django import template
from django.urls import reverse

register = template.Library()

PAGES = {
    "alerts.auditentry": "audit",
    "alerts.heartbeat": "health",
    "alerts.outboxentry": "alerts",
    "alerts.silence": "alerts",
    "alerts.voice": "alerts",
    "execution.fill": "intents",
    "execution.intentevent": "intents",
    "execution.intentleg": "intents",
    "execution.orderintent": "intents",
    "execution.positionentry": "positions",
    "markets.event": "markets",
    "markets.gap": "health",
    "markets.market": "markets",
    "markets.outcome": "markets",
    "markets.quarantine": "health",
    "markets.quote": "markets",
    "markets.relation": "relations",
    "markets.synonymgroup": "groups",
    "mpx_site.apitoken": "settings",
    "risk.breaker": "risk",
    "risk.killswitch": "risk",
    "risk.policy": "risk",
    "risk.policychange": "risk",
    "rules.rule": "rules",
    "rules.ruleversion": "rules",
    "signals.signal": "signals",
}


@register.filter
def portal_page(label: str) -> str:
    """Return the address of a model's page in the portal; empty where it has none."""
    return reverse(PAGES[label]) if label in PAGES else ""
