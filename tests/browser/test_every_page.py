"""All pages, as every role, in every size and theme: nothing complains, nothing is cut off.

`MPX_WALK=full` walks every page as everybody in all sizes and themes, with axe; else the trader
goes in a wide light and a narrow dark window, and a viewer once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.urls import URLPattern
from playwright.sync_api import Browser, expect

from mpx_site.portal.urls import urlpatterns
from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import OVERLAPS, SHOTS, DeskProcess, Watched

pytestmark = [*portal.pytestmark, pytest.mark.timeout(1_800)]
browser = portal.browser
PEOPLE = ("vic", "dana", "avi", "olga")

# Every address of the portal that is a page, by its name; what takes a key is given one.
PAGES = {
    "home": "/",
    "signals": "/signals/",
    "signal": "/signals/waits/",
    "execution": "/signals/waits/execute/",
    "approvals": "/approvals/",
    "intents": "/intents/",
    "intent": "/intents/2/",
    "positions": "/positions/",
    "risk": "/risk/",
    "alerts": "/alerts/",
    "health": "/health/",
    "data-quality": "/health/data/",
    "runbook": "/runbook/",
    "audit": "/audit/",
    "settings": "/settings/",
    "second-factor": "/settings/second-factor/",
    "login-again": "/login/again/",
    "opportunities": "/opportunities/",
    "kpis": "/kpi/",
    "scoreboard": "/scoreboard/",
    "backtests": "/backtests/",
    "backtests-compare": "/backtests/compare/",
    "ml": "/models/",
    "rules": "/rules/",
    "rule": "/rules/DUTCH_BOOK_DETECT/",
    "rule-what-if": "/rules/DUTCH_BOOK_DETECT/what-if/",
    "event": "/events/12/",
    "groups": "/groups/",
    "group": "/groups/1/",
    "relations": "/relations/",
    "relation": "/relations/1/",
    "markets": "/markets/",
    "market": "/markets/1200/",
}
# Pages that are not of this list: steps (POST), parts of pages, and what is walked elsewhere.
ELSEWHERE = {
    "login", "login-code", "logout", "status", "signal-rows", "signal-rows-full", "signal-steps",
    "intent-approve", "intent-reject", "intent-cancel", "intent-revise",
    "risk-kill", "risk-rearm", "risk-reset", "risk-confirm", "risk-refuse",
    "alerts-again", "health-examine", "audit-verify",
    "settings-looks", "settings-sessions-end", "settings-token-make", "settings-token-revoke",
    "settings-telegram-code", "settings-telegram-unlink",
    "view-save", "view-delete", "rule-enable", "rule-disable", "rule-back", "rule-what-if-run",
    "backtest", "backtest-progress", "backtest-cancel", "backtest-again", "backtest-csv",
    "rule-what-if-progress", "rule-what-if-cancel", "group-decide", "relation-decide",
}  # fmt: skip
MORE = {
    "signal-hostile": "/signals/hostile/",
    "signal-closed": "/signals/ends/",
    "intent-rejected": "/intents/3/",
    "signals-none": "/signals/?level=P2",
}
ADMIN = {
    "admin": "/admin/",
    "admin-signals": "/admin/signals/signal/",
    "admin-orders": "/admin/execution/orderintent/",
    "admin-policy": "/admin/risk/policy/1/change/",
    "admin-voices": "/admin/alerts/voice/",
    "admin-relations": "/admin/markets/relation/",
}


class WholeDesk(DeskProcess):
    desk = "whole_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeDesk]:
    process = WholeDesk(tmp_path_factory.mktemp("whole"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def sessions(browser: Browser, desk: WholeDesk) -> dict[str, Any]:
    return {name: portal.logged_in(browser, desk, name) for name in PEOPLE}


@dataclass(frozen=True)
class Walk:
    """One person with one window."""

    who: str
    width: int
    theme: str
    axe: bool

    def __str__(self) -> str:
        return f"{self.who}-{self.width}-{self.theme}"


def walks() -> list[Walk]:
    if portal.FULL:
        return [
            Walk(who, width, theme, axe=True) for who in PEOPLE for width, theme in portal.WINDOWS
        ]
    return [
        Walk("dana", 1440, "light", axe=True),
        Walk("dana", 360, "dark", axe=True),
        Walk("vic", 360, "light", axe=False),
    ]


def test_every_page_of_the_portal_is_walked():
    names = {route.name for route in urlpatterns if isinstance(route, URLPattern)}

    assert names == set(PAGES) | ELSEWHERE
    assert not set(PAGES) & ELSEWHERE


@pytest.mark.parametrize("walk", walks(), ids=str)
def test_no_page_complains_or_is_cut_off(
    browser: Browser, desk: WholeDesk, sessions: dict[str, Any], walk: Walk
) -> None:
    state = sessions[walk.who]
    context = portal.window(browser, desk, state, width=walk.width, theme=walk.theme)
    watched = Watched(context)
    found: list[str] = []
    pages = {**PAGES, **MORE, **(ADMIN if walk.who == "olga" else {})}
    for name, address in pages.items():
        found += _look(watched, name, address, walk)
        found += [f"{name}: {told}" for told in _told(watched, name)]
    context.close()
    assert found == []


def _look(watched: Watched, name: str, address: str, walk: Walk) -> Iterator[str]:
    page = watched.page
    answer = page.goto(address)
    if answer is not None and answer.status == 403:
        return
    expect(page.locator("#feed-state")).to_contain_text("live")
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}-{walk}.png", full_page=True)
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    if wide > seen:
        yield f"{name} is {wide} px wide at {seen}"
    if not name.startswith("admin-"):  # the admin's own lists scroll inside themselves
        yield from (f"{name}: {both} overlap" for both in page.evaluate(OVERLAPS))
    if walk.axe:
        yield from (f"{name}: {told}" for told in portal.serious(page))


def _told(watched: Watched, name: str) -> list[str]:
    """Take what the page complained of; that somebody may not see it is no complaint."""
    told = [each for each in watched.complaints if "403" not in each]
    watched.complaints.clear()
    return told
