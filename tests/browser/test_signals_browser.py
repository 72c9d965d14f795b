"""Signals and opportunities in a real browser: clean in every size, worked through by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import (
    OVERLAPS,
    SHOTS,
    DeskProcess,
    Watched,
    logged_in,
    serious,
)

pytestmark = portal.pytestmark
browser = portal.browser

PAGES = {
    "signals": "/signals/?size=20",
    "signals-closed": "/signals/?status=CLOSED",
    "signals-nothing": "/signals/?kind=ladder",
    "signal-live": "/signals/live1/",
    "signal-closed": "/signals/closed/",
    "signal-hostile": "/signals/hostile/",
    "opportunities": "/opportunities/",
    "opportunities-said": "/opportunities/?rule=NO_SUCH&level=P1&seconds=61",
    "opportunities-rule": "/opportunities/?rule=CROSS_MARKET_MISPRICE&level=P1&days=7",
}


AXE_AT = ((1440, "light"), (360, "dark"))
OPEN_ALL = "document.querySelectorAll('main details').forEach((it) => { it.open = true; })"


class SignalsDesk(DeskProcess):
    desk = "signals_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignalsDesk]:
    process = SignalsDesk(tmp_path_factory.mktemp("signals"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def dana(browser: Browser, desk: SignalsDesk) -> Any:
    return logged_in(browser, desk, "dana")


@pytest.fixture
def page(browser: Browser, desk: SignalsDesk, dana: Any) -> Iterator[Page]:
    """Open a page of a trader that must not complain."""
    context = browser.new_context(
        base_url=desk.address, storage_state=dana, viewport={"width": 1440, "height": 900}
    )
    watched = Watched(context)
    yield watched.page
    context.close()
    assert watched.complaints == []


@pytest.mark.parametrize(("width", "theme"), portal.WINDOWS)
def test_pages_are_clean_in_every_size_and_theme(
    browser: Browser, desk: SignalsDesk, dana: Any, width: int, theme: Any
) -> None:
    context = portal.window(browser, desk, dana, width=width, theme=theme)
    watched = Watched(context)
    for name, address in PAGES.items():
        watched.page.goto(address)
        expect(watched.page.locator("#feed-state")).to_contain_text("live")
        if SHOTS:
            watched.page.screenshot(path=f"{SHOTS}/{name}-{width}-{theme}.png", full_page=True)
        for state in ("closed", "open"):
            wide, seen = watched.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= seen, f"{name} is {wide} px wide at {seen}, details {state}"
            watched.page.evaluate(OPEN_ALL)
        assert watched.page.evaluate(OVERLAPS) == [], name
        if (width, theme) in AXE_AT:
            assert serious(watched.page) == [], name
    context.close()
    assert watched.complaints == []


def test_row_in_focus_is_acknowledged_and_snoozed_by_key(page: Page, desk: SignalsDesk) -> None:
    page.goto("/signals/?status=OPEN")
    expect(page.locator("#feed-state")).to_contain_text("live")
    row = page.locator("#signal-live3")
    row.locator(".row-link").focus()

    page.keyboard.press("a")

    expect(row.locator(".c-handling")).to_contain_text("acknowledged by dana")
    expect(page.locator(".steps-said")).to_have_text("1 signal acknowledged.")
    expect(row.locator(".row-link")).to_be_focused()

    page.keyboard.press("s")

    expect(row.locator(".c-handling")).to_contain_text("snoozed by dana until")


def test_ticks_outlive_a_row_that_comes_anew_and_all_go_at_once(
    page: Page, desk: SignalsDesk
) -> None:
    for key in ("bulk1", "bulk2"):
        desk.tell(f"open {key}")
    page.goto("/signals/?status=OPEN")
    expect(page.locator("#feed-state")).to_contain_text("live")
    for key in ("bulk1", "bulk2"):
        page.locator(f"#signal-{key} .tick input").check()

    edge = page.locator("#signal-bulk1 b")
    before = edge.inner_text()

    desk.tell("touch bulk1")

    expect(edge).not_to_have_text(before)
    expect(page.locator("#signal-bulk1 .tick input")).to_be_checked()
    page.get_by_label("Reason").fill("both of the same book")
    page.get_by_role("button", name="Dismiss").click()

    expect(page.locator("main > .note").first).to_have_text("2 signals dismissed.")
    expect(page.locator("#signal-bulk2 .c-handling")).to_contain_text("both of the same book")


def test_enter_in_the_reason_takes_no_step(page: Page) -> None:
    page.goto("/signals/live4/")
    page.get_by_label("Reason or comment").fill("half a thou")

    page.keyboard.press("Enter")

    expect(page.get_by_label("Reason or comment")).to_have_value("half a thou")
    expect(page.locator(".page-head")).to_contain_text("new")


def test_a_key_acknowledges_on_the_signals_page_and_none_orders(page: Page) -> None:
    page.goto("/signals/live4/")

    page.keyboard.press("a")

    expect(page.locator("main > .note").first).to_have_text("1 signal acknowledged.")
    expect(page.locator(".page-head")).to_contain_text("acknowledged by dana")


def test_slider_tells_what_the_table_has(page: Page) -> None:
    page.goto("/opportunities/")
    before = page.locator(".catch-words").inner_text()
    slider = page.locator(".slider input")

    slider.focus()
    page.keyboard.press("End")

    expect(page.locator(".catch-name").first).to_have_text("1 d")
    last = page.locator(".catches tbody tr").last.locator("td").nth(1).text_content()
    expect(page.locator(".catch-count")).to_have_text(last or "")
    assert page.locator(".catch-words").inner_text() != before


def test_opportunities_and_steps_work_without_script(
    browser: Browser, desk: SignalsDesk, dana: Any
) -> None:
    desk.tell("open plain")
    context = browser.new_context(
        base_url=desk.address, storage_state=dana, java_script_enabled=False
    )
    page = context.new_page()
    page.goto("/opportunities/")
    page.get_by_label("A person needs, seconds").fill("61")
    page.get_by_role("button", name="Show").click()

    assert page.locator(".catch-name").first.inner_text() == "61 s"
    assert not page.locator(".slider").is_visible()

    page.goto("/signals/?status=OPEN")
    page.locator("#signal-plain .tick input").check()
    page.get_by_role("button", name="Acknowledge").click()

    assert "status=OPEN" in page.url
    assert "acknowledged by dana" in page.locator("#signal-plain").inner_text().replace("\n", " ")
    context.close()


def test_viewer_reads_and_is_offered_no_step(browser: Browser, desk: SignalsDesk) -> None:
    context = browser.new_context(
        base_url=desk.address, storage_state=logged_in(browser, desk, "vic")
    )
    page = context.new_page()
    page.goto("/signals/?status=OPEN")

    assert page.locator(".tick").count() == 0
    assert page.locator("#steps").count() == 0
    assert "analyst, trader or approver" in page.locator("main").inner_text()
    page.keyboard.press("a")
    context.close()
