"""Alerts, health, audit, runbook and settings in a real browser, as an operator uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import OVERLAPS, SHOTS, DeskProcess, Watched

pytestmark = portal.pytestmark
browser = portal.browser
session = portal.session
context = portal.context
page = portal.page

PAGES = {
    "alerts": "/alerts/",
    "alerts-none": "/alerts/?kind=breaker.",
    "health": "/health/",
    "data-quality": "/health/data/",
    "audit": "/audit/",
    "audit-none": "/audit/?actor=nobody",
    "runbook": "/runbook/",
    "settings": "/settings/",
    "orders": "/intents/",
}


class OperationsDesk(DeskProcess):
    desk = "operations_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationsDesk]:
    process = OperationsDesk(tmp_path_factory.mktemp("operations"))
    yield process
    process.stop()


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.mark.parametrize(("width", "theme"), portal.WINDOWS)
def test_every_page_is_clean_in_every_size_and_theme(
    browser: Browser, desk: DeskProcess, session: Any, width: int, theme: Any
) -> None:
    context = portal.window(browser, desk, session, width=width, theme=theme)
    watched = Watched(context)
    page = watched.page
    for name, address in PAGES.items():
        page.goto(address)
        expect(page.locator("#feed-state")).to_contain_text("live")
        shot(page, f"{name}-{width}-{theme}")
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen, f"{name} is {wide} px wide at {seen}"
        assert page.evaluate(OVERLAPS) == [], name
    context.close()
    assert watched.complaints == []


def test_a_view_is_kept_and_comes_back(page: Page) -> None:
    page.goto("/audit/")
    page.get_by_label("About").select_option("rule")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill("what rules did")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text("The view “what rules did” is kept.")).to_be_visible()
    page.goto("/audit/")
    page.get_by_role("link", name="what rules did").click()
    expect(page).to_have_url(re.compile(r"/audit/\?about=rule&size=10$"))


def test_what_is_exported_is_what_is_shown(page: Page) -> None:
    page.goto("/alerts/?state=FAILED")
    with page.expect_download() as told:
        page.get_by_role("link", name="CSV").click()

    file = told.value
    assert re.fullmatch(r"mpx-alerts-\d{8}T\d{4}Z\.csv", file.suggested_filename)
    assert file.path().read_text().count("FAILED") == 2


def test_looks_that_are_set_count_here_at_once(page: Page) -> None:
    page.goto("/settings/")
    page.locator(".theme-toggle").click()  # this browser has chosen something else before
    page.locator("#id_theme").select_option("dark")
    page.locator("#id_zone").select_option("local")
    page.get_by_role("button", name="Keep").click()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator(".zone-name")).to_have_text("Local")
    page.goto("/health/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/settings/")
    page.locator("#id_theme").select_option("auto")
    page.locator("#id_zone").select_option("utc")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".zone-name")).to_have_text("UTC")


def test_a_token_is_made_shown_once_and_revoked(page: Page) -> None:
    page.goto("/settings/")
    page.get_by_text("Make a token").click()
    page.get_by_label("What it is for").fill("nightly report")
    page.get_by_label("read everything its owner may read").check()
    page.get_by_role("button", name="Make it").click()

    expect(page.locator(".secret")).to_have_text(re.compile(r"^mpx_[a-z0-9]{8}_"))
    shot(page, "token-made")
    page.get_by_role("link", name="I have it").click()
    expect(page.locator(".secret")).to_have_count(0)
    page.get_by_role("button", name="Revoke the token nightly report").click()
    expect(page.get_by_text("The token “nightly report” opens nothing any more.")).to_be_visible()


def test_the_chain_is_verified_by_a_button(page: Page) -> None:
    page.goto("/audit/")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("The audit chain holds: all")).to_be_visible()
    page.locator("summary", has_text="all of it").first.click()
    expect(page.locator("pre").first).to_be_visible()
    shot(page, "audit-open")


def test_the_slow_checks_are_looked_at_on_demand_and_lead_to_the_runbook(page: Page) -> None:
    page.goto("/health/")
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_text("Looked at 10 things")).to_be_visible()
    shot(page, "health-examined")
    page.locator(".parts a", has_text="Runbook").first.click()
    expect(page).to_have_url(re.compile(r"/runbook/#"))


def test_a_failed_alert_is_sent_again(page: Page) -> None:
    page.goto("/alerts/?state=FAILED")
    page.get_by_role("button", name=re.compile("^Send alert")).first.click()
    expect(page.get_by_text("1 alert will be told again.")).to_be_visible()


def test_pages_work_without_script(browser: Browser, desk: DeskProcess, session: Any) -> None:
    context: BrowserContext = browser.new_context(
        base_url=desk.address, storage_state=session, java_script_enabled=False
    )
    page = context.new_page()
    page.goto("/audit/?size=10")
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="« Newest")).to_be_visible()
    page.goto("/runbook/#no-signals")
    expect(page.get_by_role("heading", name="No signals")).to_be_visible()
    context.close()


def test_logged_out_elsewhere_means_out(browser: Browser, desk: DeskProcess, session: Any) -> None:
    def log_in() -> Page:
        page = browser.new_context(base_url=desk.address).new_page()
        page.goto("/login/?next=/settings/")
        page.get_by_label("User name").fill("operator")
        page.get_by_label("Password").fill(portal.PASSWORD)
        page.get_by_role("button", name="Log in").click()
        return page

    here, there = log_in(), log_in()
    here.goto("/settings/")
    expect(here.get_by_text("Chrome on Linux").first).to_be_visible()
    here.get_by_role("button", name="Log out all others").click()
    expect(here.get_by_text(re.compile(r"Logged out in \d+ other browser"))).to_be_visible()
    there.goto("/settings/")
    expect(there).to_have_url(re.compile("/login/"))
