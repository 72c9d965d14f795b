"""A what-if from the form to its answer, in a real browser, on a desk that keeps its own hours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.test_portal_browser import CHROMIUM, FLAGS
from tests.servers import wait_for
from tests.test_up import Desk, desks, start  # noqa: F401 (a fixture)

pytestmark = pytest.mark.timeout(180)

ANSWER_MS = 90_000
ADDRESS = "/rules/DUTCH_BOOK_DETECT/what-if/"


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


def log_in(page: Page, desk: Desk) -> None:
    password = re.findall(r"password: (\S+)", "".join(desk.said))[0]
    page.goto(f"http://127.0.0.1:{desk.port}/login/?next={ADDRESS}")
    page.locator("#id_username").fill("operator")
    page.locator("#id_password").fill(password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What if?")).to_be_visible()


def test_a_candidate_runs_over_what_the_desk_has_just_kept(
    desks: list[Desk],  # noqa: F811
    page: Page,
    tmp_path: Path,
) -> None:
    desk = start(desks, tmp_path)
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    wait_for(
        lambda: desk.ask("SELECT 1 FROM signals_signal WHERE level = 'P1'"),
        seconds=60,
        what="a signal",
    )

    log_in(page, desk)
    text = page.get_by_label("Text of the rule, in YAML")
    candidate = text.input_value().replace("min_profit_usd: 0.50", "min_profit_usd: 10000")
    assert "10000" in candidate
    text.fill(candidate)
    page.get_by_label(re.compile("Last hour")).check()
    page.get_by_role("button", name="Run the what-if").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("heading", name="Both versions")).to_be_visible(timeout=ANSWER_MS)

    told = page.get_by_role("row", name=re.compile("Candidate"))
    assert told.get_by_role("cell").nth(1).inner_text() == "0"  # P1
    changed = page.get_by_role("table", name="Changed signals")
    changed.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/signals/\w{32}/"))
    assert refused == []

    page.go_back()
    page.set_viewport_size({"width": 360, "height": 900})
    too_wide = page.evaluate("document.documentElement.scrollWidth > 360")
    assert not too_wide


def test_one_that_runs_can_be_cancelled_with_the_keyboard(
    desks: list[Desk],  # noqa: F811
    page: Page,
    tmp_path: Path,
) -> None:
    desk = start(desks, tmp_path)
    wait_for(lambda: list((tmp_path / "kept").glob("kept-*")), seconds=60, what="kept frames")
    log_in(page, desk)
    page.get_by_role("button", name="Run the what-if").focus()
    page.keyboard.press("Enter")

    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_text("Cancelled", exact=False).first).to_be_visible()
    assert desk.ask("SELECT state FROM signals_whatifrun") == [("CANCELLED",)]
