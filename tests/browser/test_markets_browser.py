"""Home, markets, groups and relations in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import (
    SHOTS,
    DeskProcess,
    Watched,
    browser,  # noqa: F401 (a fixture)
    session,  # noqa: F401 (a fixture)
)

pytestmark = pytest.mark.timeout(300)

PAGES = ("/", "/markets/", "/markets/800/", "/events/8/", "/groups/", "/groups/1/", "/relations/")
MENUS = ("Orders", "Research", "Desk")


class MarketsDesk(DeskProcess):
    desk = "markets_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketsDesk]:
    process = MarketsDesk(tmp_path_factory.mktemp("desk"))
    yield process
    process.stop()


@pytest.mark.parametrize(("width", "theme"), portal.WINDOWS)
def test_pages_fit_and_do_not_complain(
    browser: Browser,  # noqa: F811
    desk: MarketsDesk,
    session: Any,  # noqa: F811
    width: int,
    theme: Any,
) -> None:
    context = portal.window(browser, desk, session, width=width, theme=theme)
    watched = Watched(context)
    for address in PAGES:
        watched.page.goto(address)
        wide = watched.page.evaluate("document.documentElement.scrollWidth")
        if SHOTS:
            name = address.strip("/").replace("/", "-") or "home"
            path = f"{SHOTS}/m-{name}-{width}-{theme}.png"
            watched.page.screenshot(path=path, full_page=True)
        assert wide <= width, f"{address} is {wide} wide"
    context.close()

    assert watched.complaints == []


@pytest.fixture
def context(
    browser: Browser,  # noqa: F811
    desk: MarketsDesk,
    session: Any,  # noqa: F811
) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=desk.address, storage_state=session)
    yield context
    context.close()


def test_menus_open_one_at_a_time_and_close_with_escape(context: BrowserContext) -> None:
    page = Watched(context).page
    page.goto("/markets/")
    nav = page.get_by_role("navigation", name="Main")

    for name in MENUS:
        nav.locator("summary", has_text=name).focus()
        page.keyboard.press("Enter")
        expect(nav.locator("details[open]")).to_have_count(1)
        expect(nav.locator("details[open] a").first).to_be_visible()
    page.keyboard.press("Escape")

    expect(nav.locator("details[open]")).to_have_count(0)
    expect(nav.locator("summary", has_text="Desk")).to_be_focused()


def test_menus_and_pages_work_without_script(
    browser: Browser,  # noqa: F811
    desk: MarketsDesk,
    session: Any,  # noqa: F811
) -> None:
    context = browser.new_context(
        base_url=desk.address,
        storage_state=session,
        java_script_enabled=False,
        viewport={"width": 360, "height": 800},
    )
    page = context.new_page()
    page.goto("/")

    page.locator(".nav summary", has_text="Research").click()
    page.locator(".nav a", has_text="Relations").click()
    page.locator(".row-link").first.click()
    page.get_by_label("Reason").fill("not the same")
    page.get_by_role("button", name="Reject").click()

    expect(page.locator(".note").first).to_contain_text("Rejected for good.")
    context.close()


def test_newcomer_comes_from_home_to_the_order_in_one_step(context: BrowserContext) -> None:
    page = Watched(context).page
    page.goto("/")

    expect(page.locator("#now")).to_contain_text("Are the data fresh?")
    expect(page.locator("#now .level")).to_contain_text("P1")
    page.locator("#now").get_by_role("link", name="Prepare an order").click()

    expect(page).to_have_url(re.compile(r"/signals/\w+/execute/$"))
