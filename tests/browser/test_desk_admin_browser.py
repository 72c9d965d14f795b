"""Orders, limits and switches in the admin, in a real browser: several are decided at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import test_desk_browser as orders
from tests.browser import test_portal_browser as portal
from tests.browser.test_desk_browser import OrdersDesk, People, shot, suggest_by_keys

pytestmark = portal.pytestmark
browser = portal.browser
sessions = orders.sessions
people = orders.people

LIST = "/admin/execution/orderintent/"
PAGES = (LIST, "/admin/risk/policy/1/change/", "/admin/risk/breaker/", "/admin/risk/breaker/trip/",
         "/admin/risk/killswitch/1/change/")  # fmt: skip


class AdminDesk(OrdersDesk):
    desk = "admin_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminDesk]:
    process = AdminDesk(tmp_path_factory.mktemp("admin"))
    yield process
    process.stop()


def widest(page: Page) -> int:
    """Return how much wider than the window the page is."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wide


def test_orders_are_approved_together_on_a_page_that_shows_what_is_signed(
    people: People, desk: AdminDesk
) -> None:
    dana, avi = people.page("dana"), people.page("avi")
    numbers = []
    for key in ("north", "south"):
        desk.tell(f"signal {key}")
        numbers.append(suggest_by_keys(dana, key))

    avi.goto(f"{LIST}?status__exact=SUGGESTED")
    avi.locator("#action-toggle").check()
    avi.get_by_label("Action:").select_option("approve")
    avi.get_by_role("button", name="Go").click()
    expect(avi.get_by_text("2 of 2 can be approved")).to_be_visible()
    expect(avi.get_by_role("link", name="Back, change nothing")).to_be_focused()
    avi.locator("summary", has_text="checks as of now").first.click()
    shot(avi, "admin-approve")

    avi.get_by_role("button", name="Approve").click()
    expect(avi.get_by_text("Type how many orders you decide on: 2 are chosen.")).to_be_visible()
    avi.get_by_label("How many do you decide on?").fill("2")
    avi.get_by_role("button", name="Approve").click()

    for number in numbers:
        expect(avi.get_by_text(f"Intent {number} approved.")).to_be_visible()
    wait_until_filled(avi, numbers[0])
    expect(avi.get_by_text("leg filled")).to_have_count(3)
    shot(avi, "admin-intent")


def wait_until_filled(page: Page, number: int) -> None:
    """Load the order's page until it is filled; orders take a second."""
    for _ in range(40):
        page.goto(f"{LIST}{number}/change/")
        if "FILLED" in page.title():
            return
        page.wait_for_timeout(500)
    raise AssertionError(page.title())


def test_own_order_cannot_be_ticked(people: People, desk: AdminDesk) -> None:
    desk.tell("signal own")
    dana = people.page("dana")
    number = suggest_by_keys(dana, "own")

    dana.goto(f"{LIST}decide/approve/?id={number}")

    expect(dana.get_by_text("Cannot be approved now.")).to_be_visible()
    expect(dana.locator("input[name=chosen]")).to_have_count(0)
    shot(dana, "admin-own")


@pytest.mark.parametrize("theme", portal.THEMES)
def test_pages_fit_a_phone_in_both_themes(people: People, desk: AdminDesk, theme: Any) -> None:
    avi = people.page("avi", viewport={"width": 360, "height": 740}, color_scheme=theme)
    for way in PAGES:
        avi.goto(way)
        expect(avi.locator("#content")).to_be_visible()
        shot(avi, f"admin-{way.strip('/').replace('/', '-')}-{theme}")
        if way != LIST:  # Django's own list scrolls inside itself
            assert widest(avi) <= 0, way


def test_everything_is_stopped_and_limits_are_tightened_by_keyboard(
    people: People, desk: AdminDesk
) -> None:
    avi, bo = people.page("avi"), people.page("bo")

    avi.goto("/admin/risk/killswitch/1/change/")
    avi.get_by_label("Reason").focus()
    avi.keyboard.type("prices look odd")
    avi.keyboard.press("Enter")
    expect(avi.get_by_text("It is on: nothing is approved or filled.")).to_be_visible()
    shot(avi, "admin-kill-on")
    bo.goto("/admin/risk/killswitch/1/change/")
    bo.get_by_label("Reason").fill("cause found")
    bo.get_by_role("button", name="Re-arm as another person").click()
    expect(bo.get_by_text("It is off: orders pass again.")).to_be_visible()

    avi.goto("/admin/risk/policy/1/change/")
    avi.get_by_label("Daily volume").fill("500")
    avi.get_by_label("Reason").fill("calmer")
    avi.keyboard.press("Enter")
    expect(avi.get_by_text("The new limits count from now on.")).to_be_visible()
    shot(avi, "admin-limits")
