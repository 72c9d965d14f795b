"""From a signal to a position and to a refusal, in a real browser and by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import test_portal_browser as portal
from tests.browser.test_portal_browser import SHOTS, DeskProcess, Watched

pytestmark = portal.pytestmark
browser = portal.browser

CONTROLS = """() => {
  const found = [...document.querySelectorAll(
    'main :is(a[href], button, input:not([type=hidden]), select, summary)')]
    .filter((it) => !it.disabled && !it.closest('fieldset:disabled') && it.checkVisibility());
  found.forEach((control, number) => { control.dataset.n = number; });
  return found.length;
}"""
FOCUS = """() => {
  const at = document.activeElement;
  return [at.dataset.n ?? '', at.textContent.trim() || at.name || at.tagName,
    getComputedStyle(at).outlineStyle, at === document.body];
}"""


class OrdersDesk(DeskProcess):
    desk = "orders_desk"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDesk]:
    process = OrdersDesk(tmp_path_factory.mktemp("orders"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def sessions(browser: Browser, desk: OrdersDesk) -> dict[str, Any]:
    """Log each person in through the page, once."""
    return {name: portal.logged_in(browser, desk, name) for name in ("dana", "avi", "bo")}


class People:
    """Browsers of several people; none of their pages may complain."""

    def __init__(self, browser: Browser, desk: OrdersDesk, sessions: dict[str, Any]) -> None:
        self._browser, self._desk, self._sessions = browser, desk, sessions
        self._open: list[tuple[BrowserContext, Watched]] = []

    def page(self, name: str, **settings: Any) -> Page:
        context = self._browser.new_context(
            base_url=self._desk.address,
            storage_state=self._sessions[name],
            **{"viewport": {"width": 1440, "height": 900}, **settings},
        )
        watched = Watched(context)
        self._open.append((context, watched))
        return watched.page

    def close(self) -> list[str]:
        for context, _ in self._open:
            context.close()
        return [complaint for _, watched in self._open for complaint in watched.complaints]


@pytest.fixture
def people(browser: Browser, desk: OrdersDesk, sessions: dict[str, Any]) -> Iterator[People]:
    found = People(browser, desk, sessions)
    yield found
    assert found.close() == []


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def plannable(page: Page, key: str) -> None:
    """Open the order page of a signal once its books are there."""
    page.goto(f"/signals/{key}/execute/")
    expect(page.locator("#shown-plan")).to_contain_text("all 18 checks pass", timeout=15_000)


def suggest_by_keys(page: Page, key: str, *, rehearsal: str = "") -> int:
    """Go from a signal to a suggested order; return its number."""
    page.goto(f"/signals/{key}/")
    page.keyboard.press("e")
    page.wait_for_url(f"**/signals/{key}/execute/")
    expect(page.locator("#shown-plan")).to_contain_text("all 18 checks pass", timeout=15_000)
    if rehearsal:
        page.get_by_text("Rehearse a failure").press("Enter")
        page.get_by_label("The paper venue").select_option(rehearsal)
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Suggest this order")).to_be_focused()
    shot(page, f"order-{key}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/intents/*/")
    expect(page.get_by_text("It waits for approval.")).to_be_visible()
    return int(page.url.rstrip("/").rpartition("/")[2])


def open_from_inbox(page: Page, number: int) -> None:
    """Find an order in the inbox by keys and open it."""
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/approvals/")
    row = page.locator(f'.row-link[href="/intents/{number}/"]')
    expect(row).to_be_visible()
    shot(page, f"inbox-{number}")
    for _ in range(page.locator(".row-link").count()):
        page.keyboard.press("j")
        if row.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/intents/{number}/")


# --- the two ways of an order --------------------------------------------------------


def test_order_of_two_people_fills_by_keyboard_alone(people: People, desk: OrdersDesk) -> None:
    desk.tell("signal fills")
    dana, avi = people.page("dana"), people.page("avi")

    number = suggest_by_keys(dana, "fills")
    expect(dana.get_by_text("You cannot approve this.")).to_be_visible()
    expect(dana.locator("#decide")).to_contain_text("needs the permission approve_intent")
    shot(dana, "own-order")
    open_from_inbox(avi, number)
    shot(avi, "to-approve")
    avi.keyboard.press("d")
    expect(avi.get_by_role("button", name="Approve this plan")).to_be_focused()
    avi.keyboard.press("Enter")
    expect(avi.get_by_text(f"Order {number} is approved.")).to_be_visible()

    for page in (avi, dana):  # it comes to those who look by itself
        expect(page.locator("#intent-head")).to_contain_text("filled", timeout=15_000)
        expect(page.locator("#intent-steps")).to_contain_text("leg filled by system")
        expect(page.locator("#intent-legs .state[data-state=ok]")).to_have_count(3)
    shot(avi, "filled")
    avi.keyboard.press("g")
    avi.keyboard.press("p")
    avi.wait_for_url("**/positions/")
    expect(avi.locator("#positions-live")).to_contain_text("Who wins fills?")
    expect(avi.locator(".positions .row")).to_have_count(3)
    shot(avi, "positions")


def test_order_is_refused_then_rejected_by_keyboard_alone(people: People, desk: OrdersDesk) -> None:
    desk.tell("signal refused")
    dana, avi = people.page("dana"), people.page("avi")
    number = suggest_by_keys(dana, "refused")
    stop_by_keys(dana, "prices look odd")

    open_from_inbox(avi, number)
    avi.keyboard.press("d")
    avi.keyboard.press("Enter")
    refused = avi.locator("#refused")
    expect(refused).to_contain_text("The approval was refused")
    expect(refused).to_contain_text("Kill switch: on: prices look odd (limit: off).")
    expect(refused).to_contain_text("another person re-arms it on the risk page")
    shot(avi, "refused")
    rearm_by_keys(avi, "they were right")

    avi.goto(f"/intents/{number}/")
    avi.keyboard.press("d")
    avi.keyboard.press("Tab")
    expect(avi.get_by_label("Reason")).to_be_focused()
    avi.keyboard.type("not worth it; d e [ ] change nothing here")
    avi.keyboard.press("Enter")
    expect(avi.get_by_text(f"Order {number} is rejected.")).to_be_visible()
    shot(avi, "rejected")

    expect(dana.locator("#kill")).to_contain_text("off: orders may be", timeout=15_000)
    dana.goto(f"/intents/{number}/")
    expect(dana.locator("#intent-head")).to_contain_text("not worth it")
    expect(dana.locator("#intent-steps")).to_contain_text("approval refused by avi")


def stop_by_keys(page: Page, reason: str) -> None:
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/risk/")
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Stop everything now")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.type(reason)
    page.keyboard.press("Enter")
    expect(page.locator("#kill-chip")).to_have_text("■ KILL SWITCH ON")
    expect(page.get_by_text("You cannot re-arm it.")).to_be_visible()
    shot(page, "stopped")


def rearm_by_keys(page: Page, reason: str) -> None:
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/risk/")
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Re-arm")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.type(reason)
    page.keyboard.press("Enter")
    expect(page.locator("#kill-chip")).to_contain_text("off")


# --- what is shown is what is signed -------------------------------------------------


def test_plan_does_not_change_under_who_reads_it(people: People, desk: OrdersDesk) -> None:
    desk.tell("signal revised")
    dana, avi = people.page("dana"), people.page("avi")
    number = suggest_by_keys(dana, "revised")
    avi.goto(f"/intents/{number}/")
    shown = avi.locator("#decide code").inner_text()

    dana.get_by_label("Order size, USD").fill("40")
    dana.keyboard.press("Enter")
    expect(dana.get_by_text("is planned anew")).to_be_visible()

    moved = avi.locator(".moved")
    expect(moved).to_contain_text("The plan was changed while you were looking.", timeout=10_000)
    expect(avi.get_by_role("button", name="Approve this plan")).to_be_disabled()
    assert avi.locator("#decide code").inner_text() == shown
    shot(avi, "revised")
    moved.get_by_role("link").click()
    expect(avi.get_by_role("table", name="What has changed")).to_contain_text("Costs at most")
    expect(avi.locator("#decide code")).not_to_have_text(shown)
    shot(avi, "difference")
    avi.get_by_role("button", name="Approve this plan").click()
    expect(avi.get_by_text(f"Order {number} is approved.")).to_be_visible()


def test_who_is_about_to_decide_learns_that_another_has(people: People, desk: OrdersDesk) -> None:
    desk.tell("signal raced")
    number = suggest_by_keys(people.page("dana"), "raced")
    avi, bo = people.page("avi"), people.page("bo")
    for page in (avi, bo):
        page.goto(f"/intents/{number}/")
    avi.get_by_label("Reason").focus()
    avi.keyboard.type("I think")

    bo.get_by_role("button", name="Approve this plan").click()

    expect(avi.locator(".moved")).to_contain_text("Somebody decided meanwhile.", timeout=10_000)
    expect(avi.get_by_role("button", name="Reject")).to_be_disabled()
    expect(avi.locator("#intent-head")).to_contain_text("approved by bo")
    avi.get_by_role("link", name="Show how it stands").click()
    expect(avi.locator("#intent-head")).to_contain_text("filled", timeout=15_000)


def test_double_click_is_one_order(people: People, desk: OrdersDesk) -> None:
    desk.tell("signal twice")
    page = people.page("dana")
    plannable(page, "twice")

    page.get_by_role("button", name="Suggest this order").dblclick()

    page.wait_for_url("**/intents/*/")
    expect(page.get_by_text("It waits for approval.")).to_be_visible()
    page.reload()
    page.goto("/intents/?size=50")
    expect(page.get_by_role("link", name="Who wins twice?")).to_have_count(1)


def test_order_is_made_and_decided_without_script(
    browser: Browser, desk: OrdersDesk, sessions: dict[str, Any], people: People
) -> None:
    desk.tell("signal plain")
    plannable(people.page("dana"), "plain")
    plain = {
        name: browser.new_context(
            base_url=desk.address, storage_state=sessions[name], java_script_enabled=False
        )
        for name in ("dana", "avi")
    }
    dana, avi = (context.new_page() for context in plain.values())

    dana.goto("/signals/plain/")
    dana.get_by_role("link", name="Trade this").click()
    dana.get_by_label("Order size, USD").fill("30")
    dana.get_by_role("button", name="Preview this size").click()
    assert "capital=30" in dana.url
    dana.get_by_role("button", name="Suggest this order").click()
    number = dana.url.rstrip("/").rpartition("/")[2]
    avi.goto("/approvals/")
    avi.locator(f'a[href="/intents/{number}/"]').click()
    avi.get_by_role("button", name="Approve this plan").click()

    assert avi.get_by_text(f"Order {number} is approved.").is_visible()
    for context in plain.values():
        context.close()


def test_time_that_is_left_runs_down(
    browser: Browser, desk: OrdersDesk, sessions: dict[str, Any], people: People
) -> None:
    desk.tell("signal timed")
    number = suggest_by_keys(people.page("dana"), "timed")
    context = browser.new_context(base_url=desk.address, storage_state=sessions["avi"])
    avi = context.new_page()
    avi.clock.install()
    avi.goto(f"/intents/{number}/")
    left = avi.locator("#intent-figures .left")
    expect(left).to_have_attribute("data-state", "ok")
    before = left.inner_text()

    context.set_offline(True)
    avi.clock.run_for(100_000)
    expect(left).not_to_have_text(before)
    avi.clock.run_for(100_000)

    expect(left).to_have_text("over")
    expect(left).to_have_attribute("data-state", "stale")
    context.close()


# --- every page, every size ----------------------------------------------------------

PAGES = {
    "execution": "/signals/hostile/execute/",
    "execution-odd": "/signals/hostile/execute/?capital=99999",
    "approvals": "/approvals/",
    "orders": "/intents/",
    "orders-none": "/intents/?status=FAILED",
    "order": "/intents/{hostile}/",
    "order-done": "/intents/1/",
    "positions": "/positions/",
    "risk": "/risk/",
    "signal": "/signals/hostile/",
}


@pytest.fixture(scope="module")
def hostile(browser: Browser, desk: OrdersDesk, sessions: dict[str, Any]) -> int:
    """Return the number of an order whose event would like to be more than words."""
    found = People(browser, desk, sessions)
    page = found.page("dana")
    number = suggest_by_keys(page, "hostile", rehearsal="UNKNOWN")  # the longest words
    found.close()
    return number


@pytest.mark.parametrize(("width", "theme"), portal.WINDOWS)
def test_every_page_is_clean_in_every_size_and_theme(
    people: People, hostile: int, width: int, theme: Any
) -> None:
    page = people.page("avi", viewport={"width": width, "height": 900}, color_scheme=theme)
    for name, address in PAGES.items():
        page.goto(address.format(hostile=hostile))
        expect(page.locator("#feed-state")).to_contain_text("live")
        shot(page, f"{name}-{width}-{theme}")
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen, f"{name} is {wide} px wide at {seen}"
        assert page.evaluate(portal.OVERLAPS) == [], name


@pytest.mark.parametrize("address", ["/signals/hostile/execute/", "/intents/{hostile}/", "/risk/"])
def test_every_control_is_reached_by_tab_and_seen(
    people: People, hostile: int, address: str
) -> None:
    page = people.page("avi")
    page.goto(address.format(hostile=hostile))
    page.route("**/*", lambda route: route.fulfill(status=204))  # nothing changes meanwhile
    controls = page.evaluate(CONTROLS)

    reached = set()
    for _ in range(controls + 60):
        page.keyboard.press("Tab")
        number, name, outline, nowhere = page.evaluate(FOCUS)
        if nowhere:
            break
        assert outline != "none", name
        reached.add(number)

    assert len(reached - {""}) == controls > 2


def test_keys_decide_nothing(people: People, hostile: int) -> None:
    page = people.page("avi")
    page.goto(f"/intents/{hostile}/")

    for key in "abcdefhijklmnoqrstuvwxyz0123456789":
        page.keyboard.press(key)
    page.goto(f"/intents/{hostile}/")

    expect(page.locator("#intent-head .state").first).to_have_text(re.compile("suggested"))
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("to the first thing to decide")
