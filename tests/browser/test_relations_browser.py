"""The inbox of relations in a real browser: any screen, by keyboard alone, by no single key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import DeskProcess, Watched

pytestmark = portal.pytestmark

desk, browser, session = portal.desk, portal.browser, portal.session
context, page = portal.context, portal.page

TOO_SMALL = """() => [...document.querySelectorAll('.decide :is(button, nav a, label)')]
  .filter((target) => target.getBoundingClientRect().height < 24).map((it) => it.textContent)"""
INBOX = "/admin/markets/relation/inbox/"


def add_relation(page: Page, members: str) -> None:
    """Add a relation through the admin's own form; it waits in the inbox."""
    page.goto("/admin/markets/relation/add/")
    page.locator("#id_type").select_option("EXCLUSIVE")
    page.locator("#id_members").fill(members)
    page.locator("#id_reason").fill("only one can win")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("It waits for approval like any other.")).to_be_visible()


@pytest.fixture(scope="module")
def waiting(browser: Browser, desk: DeskProcess, session: Any) -> Iterator[None]:
    """Three relations, one of them with words that would like to be more than words."""
    context = browser.new_context(base_url=desk.address, storage_state=session)
    page = context.new_page()
    for members in ("800 801", "801 900", "800 802"):
        add_relation(page, members)
    context.close()
    yield


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(("width", "theme"), portal.WINDOWS)
def test_the_inbox_is_clean_in_every_size_and_theme(
    browser: Browser, desk: DeskProcess, session: Any, width: int, theme: Any
) -> None:
    context = portal.window(browser, desk, session, width=width, theme=theme)
    watched = Watched(context)

    for number in (1, 2):
        watched.page.goto(f"/admin/markets/relation/{number}/change/")
        expect(watched.page.get_by_text("Do they settle on the same facts?")).to_be_visible()
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        assert watched.page.evaluate(portal.OVERLAPS) == []
        assert watched.page.evaluate(TOO_SMALL) == []
    assert watched.complaints == []
    context.close()


@pytest.mark.usefixtures("waiting")
def test_keys_move_and_do_not_decide(page: Page) -> None:
    page.goto(INBOX)
    page.wait_for_url("**/1/change/")

    page.keyboard.press("j")
    page.wait_for_url("**/2/change/")
    page.keyboard.press("k")
    page.wait_for_url("**/1/change/")
    for key in ("a", "y", "x", "t", " "):
        page.keyboard.press(key)
    page.keyboard.press("r")
    page.keyboard.type("jkxy")
    page.keyboard.press("Enter")

    expect(page.get_by_label("Reason")).to_have_value("jkxy")
    expect(page.locator(".decide-facts")).to_contain_text("PROPOSED")
    page.wait_for_url("**/1/change/")


@pytest.mark.usefixtures("waiting")
def test_a_relation_is_decided_by_keyboard_alone(page: Page) -> None:
    page.goto("/admin/markets/relation/3/change/")
    while page.locator("input[type=checkbox]:not(:checked)").count():
        page.keyboard.press("t")
        page.keyboard.press("Space")
    page.keyboard.press("r")
    page.keyboard.type("one event")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Approved: ")).to_be_visible()
    page.goto("/admin/markets/relation/3/change/")
    expect(page.locator(".decide-facts")).to_contain_text("APPROVED")
    expect(page.get_by_text("relation.approved by operator: one event")).to_be_visible()
