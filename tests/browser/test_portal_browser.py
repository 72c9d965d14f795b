"""The portal in a real browser: it moves by itself, never under the pointer, and breaks no rule."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from tests.portal_cast import PASSWORD

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SHOTS = os.environ.get("MPX_SHOTS")  # a folder for screenshots, when somebody wants to look
SERVE = "import django; django.setup(); from tests.browser import {desk} as d; d.serve({port})"
FULL = os.environ.get("MPX_WALK") == "full"
WIDTHS = (1440, 360)
THEMES = ("light", "dark")
# What a page is looked at in: both sizes and both themes; each size in each theme only when asked.
WINDOWS = [(w, t) for w in WIDTHS for t in THEMES] if FULL else [(1440, "light"), (360, "dark")]

pytestmark = [
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="chromium is not installed"),
    pytest.mark.timeout(300),
]


class DeskProcess:
    """The app in a process of its own; `tell` does something to its rows."""

    desk = "desk"  # the module of `tests.browser` that it runs

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
            "MPX_HOME": str(home),
            "DATABASE_URL": "",
            "POSTGRES_HOST": "",
            "DATA_SOURCE": "mock",
            "DEBUG": "false",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(desk=self.desk, port=self.port)],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wait_for("ready")

    @property
    def _in(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def tell(self, order: str) -> None:
        self._in.write(f"{order}\n")
        self._in.flush()
        self._wait_for("done")

    def _wait_for(self, word: str) -> None:
        line = self._out.readline().strip()
        assert line == word, f"the desk said {line!r}, not {word!r}"

    def stop(self) -> None:
        self._in.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._out.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    process = DeskProcess(tmp_path_factory.mktemp("desk"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(browser: Browser, desk: DeskProcess) -> Any:
    return logged_in(browser, desk, "operator")


def logged_in(browser: Browser, desk: DeskProcess, name: str) -> Any:
    """Log a person in through the page, once; return what a context takes to go on as them."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{desk.address}/login/?next=/signals/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{desk.address}/signals/")
    state = context.storage_state()
    context.close()
    return state


def window(
    browser: Browser, desk: DeskProcess, state: Any, *, width: int, theme: Any
) -> BrowserContext:
    """Open a window of somebody who is logged in, in one size and theme."""
    return browser.new_context(
        base_url=desk.address,
        storage_state=state,
        viewport={"width": width, "height": 900},
        color_scheme=theme,
    )


def serious(page: Page) -> list[str]:
    """Return what keeps people from using a page, as axe sees it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{bad['id']}: {bad['help']} at {[node['target'] for node in bad['nodes'][:3]]}"
        for bad in found
        if bad["impact"] in ("serious", "critical")
    ]


class Watched:
    """A page whose complaints are kept."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("response", self._answered)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} on {self.page.url}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")


@pytest.fixture
def context(browser: Browser, desk: DeskProcess, session: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(
        base_url=desk.address,
        storage_state=session,
        viewport={"width": 1440, "height": 900},
        timezone_id="America/New_York",
    )
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Open a page that must not complain."""
    watched = Watched(context)
    yield watched.page
    assert watched.complaints == []


def first_keys(page: Page, count: int = 3) -> list[str]:
    keys = page.locator(".signal-row").evaluate_all("rows => rows.map(row => row.dataset.key)")
    return list(keys[:count])


def open_home(page: Page) -> None:
    """Open the home page and wait until it is live; the pointer is away from the list."""
    page.mouse.move(1, 1)
    page.goto("/")
    expect(page.locator("#feed-state")).to_contain_text("live")


# --- every page, every size, every theme ---------------------------------------------

PAGES = {
    "home": "/",
    "home-empty": "/?level=P2",
    "signals": "/signals/?size=20",
    "signal": "/signals/first3/",
    "signal-hostile": "/signals/hostile/",
    "markets": "/markets/?size=20",
    "market": "/markets/800/",
    "market-hostile": "/markets/900/",
    "admin": "/admin/",
    "admin-signals": "/admin/signals/signal/",
    "admin-audit": "/admin/alerts/auditentry/",
}

# Elements with words of their own that lie over each other by more than a hair.
OVERLAPS = """() => {
  const worded = [...document.querySelectorAll('body *')].filter((element) =>
    element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
    && !element.closest('.sr, .skip, .skip-to-content-link, option, svg, dialog, .visually-hidden')
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const seen = (element) => {  // the lines of its words, less what its ancestors clip
    const range = document.createRange();
    range.selectNodeContents(element);
    const clips = [];
    for (let clip = element; clip; clip = clip.parentElement) {
      if (getComputedStyle(clip).overflow !== 'visible') clips.push(clip.getBoundingClientRect());
    }
    return [...range.getClientRects()].map((line) => [element, {
      left: Math.max(line.left, ...clips.map((clip) => clip.left)),
      top: Math.max(line.top, ...clips.map((clip) => clip.top)),
      right: Math.min(line.right, ...clips.map((clip) => clip.right)),
      bottom: Math.min(line.bottom, ...clips.map((clip) => clip.bottom)),
    }]);
  };
  const boxes = worded.flatMap(seen);
  const found = [];
  for (const [i, [one, a]] of boxes.entries()) {
    for (const [other, b] of boxes.slice(i + 1)) {
      if (one.contains(other) || other.contains(one)) continue;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 3 && down > 5) found.push([one.textContent.trim(), other.textContent.trim()]);
    }
  }
  return found.slice(0, 5);
}"""


@pytest.mark.parametrize(("width", "theme"), WINDOWS)
def test_every_page_is_clean_in_every_size_and_theme(
    browser: Browser, desk: DeskProcess, session: Any, width: int, theme: Any
) -> None:
    context = window(browser, desk, session, width=width, theme=theme)
    watched = Watched(context)
    page = watched.page
    for name, address in PAGES.items():
        page.goto(address)
        expect(page.locator("#feed-state")).to_contain_text("live")
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{width}-{theme}.png", full_page=True)
        wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen, f"{name} is {wide} px wide at {seen}"
        if not name.startswith("admin-"):  # the admin's own lists scroll inside themselves
            assert page.evaluate(OVERLAPS) == [], name
    context.close()
    assert watched.complaints == []


def test_login_is_clean_and_small(browser: Browser, desk: DeskProcess) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 700})
    watched = Watched(context)
    watched.page.goto(f"{desk.address}/login/")

    wide = watched.page.evaluate("document.documentElement.scrollWidth")

    context.close()
    assert wide <= 360
    assert watched.complaints == []


def test_lists_work_without_script(browser: Browser, desk: DeskProcess, session: Any) -> None:
    context = browser.new_context(
        base_url=desk.address, storage_state=session, java_script_enabled=False
    )
    page = context.new_page()
    page.goto("/")

    page.locator("a[rel=next]").first.click()
    assert page.locator(".signal-row").count() > 0
    page.goto("/signals/")
    page.get_by_label("Status").select_option("CLOSED")
    page.get_by_role("button", name="Show").click()

    assert "status=CLOSED" in page.url
    assert page.locator(".signal-row").count() >= 1
    assert not page.locator(".pause").is_visible()
    context.close()


# --- live ----------------------------------------------------------------------------


def test_signal_appears_by_itself_at_the_top(page: Page, desk: DeskProcess) -> None:
    open_home(page)

    desk.tell("open live1")

    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "live1")
    expect(page.locator("#p1-new")).to_have_text("▲ 1 new P1")
    expect(page.locator("#announce")).to_contain_text("P1: 808 bps, Who wins the cup?")

    desk.tell("raise live1b")

    expect(page.locator("#p1-new")).to_have_text("▲ 2 new P1")
    expect(page.locator("#kpis .kpi-levels li").first).to_contain_text("12", timeout=2000)
    assert page.locator(".signal-row").count() == 10


def test_signal_closes_in_its_place(page: Page, desk: DeskProcess) -> None:
    desk.tell("open live2")
    open_home(page)
    before = first_keys(page)

    desk.tell("close live2")

    row = page.locator("#signal-live2")
    expect(row).to_have_attribute("data-status", "CLOSED")
    expect(row).to_contain_text("edge gone")
    assert first_keys(page) == before


def test_nothing_moves_under_the_pointer(page: Page, desk: DeskProcess) -> None:
    open_home(page)
    row = page.locator(".signal-row").nth(2)
    row.hover()
    before, place = first_keys(page, 10), row.bounding_box()

    desk.tell("open held1")
    desk.tell("open held2")

    expect(page.locator(".new-rows")).to_have_text("2 new ↑")
    assert first_keys(page, 10) == before
    assert row.bounding_box() == place
    page.mouse.move(1, 1)
    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "held2")
    expect(page.locator(".new-rows")).to_be_hidden()


def test_scrolled_list_tells_what_is_new_and_leads_up_to_it(page: Page, desk: DeskProcess) -> None:
    page.set_viewport_size({"width": 1440, "height": 300})
    open_home(page)
    page.mouse.wheel(0, 1_000)
    page.wait_for_function("document.getElementById('stream').getBoundingClientRect().top < -60")
    before = first_keys(page, 10)

    desk.tell("open scrolled1")

    pill = page.locator(".new-rows")
    expect(pill).to_have_text("1 new ↑")
    expect(pill).to_be_in_viewport()
    assert first_keys(page, 10) == before
    pill.click()
    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "scrolled1")
    expect(page.locator(".signal-row").first).to_be_in_viewport()


def test_paused_list_waits_for_its_reader(page: Page, desk: DeskProcess) -> None:
    open_home(page)
    page.keyboard.press("p")
    before = first_keys(page, 10)

    desk.tell("open paused1")

    expect(page.locator(".new-rows")).to_have_text("1 new ↑")
    assert first_keys(page, 10) == before
    assert page.locator(".pause").get_attribute("aria-pressed") == "true"
    page.keyboard.press("p")
    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "paused1")


def test_pill_of_a_paused_list_shows_the_rows_and_stays_paused(
    page: Page, desk: DeskProcess
) -> None:
    open_home(page)
    page.keyboard.press("p")
    desk.tell("open paused2")

    page.locator(".new-rows").click()

    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "paused2")
    assert page.locator(".pause").get_attribute("aria-pressed") == "true"


def test_focus_stays_in_a_row_that_changes(page: Page, desk: DeskProcess) -> None:
    desk.tell("open focus1")
    open_home(page)
    page.locator("#signal-focus1 .row-link").focus()

    desk.tell("close focus1")

    expect(page.locator("#signal-focus1")).to_have_attribute("data-status", "CLOSED")
    expect(page.locator("#signal-focus1 .row-link")).to_be_focused()


def test_filtered_list_takes_only_what_fits(page: Page, desk: DeskProcess) -> None:
    page.mouse.move(1, 1)
    page.goto("/signals/?level=P3")
    expect(page.locator("#feed-state")).to_contain_text("live")
    before = first_keys(page, 50)

    desk.tell("open other1")

    expect(page.locator("#p1-new")).to_be_visible()  # it was heard of
    assert first_keys(page, 50) == before


def test_signal_page_follows_its_signal(page: Page, desk: DeskProcess) -> None:
    desk.tell("open follow1")
    page.goto("/signals/follow1/")
    expect(page.locator("#feed-state")).to_contain_text("live")
    page.mouse.move(1, 1)

    desk.tell("close follow1")

    expect(page.locator("main")).to_contain_text("Prices moved and the basket no longer pays")


def test_cut_feed_comes_back_and_misses_nothing(page: Page, desk: DeskProcess) -> None:
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket(re.compile("/ws/v1/feed"), through)
    open_home(page)

    sockets[-1].close()
    desk.tell("open cut1")

    expect(page.locator("#feed-state")).to_contain_text("live", timeout=10_000)
    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "cut1")
    assert len(sockets) == 2


def test_list_is_polled_while_there_is_no_feed(page: Page, desk: DeskProcess) -> None:
    page.route_web_socket(re.compile("/ws/v1/feed"), lambda socket: socket.close())
    page.mouse.move(1, 1)
    page.goto("/")

    expect(page.locator("#feed-state")).to_contain_text("polling", timeout=20_000)
    expect(page.locator(".stale-banner")).to_contain_text("read again every 5 seconds")
    desk.tell("open polled1")

    expect(page.locator(".signal-row").first).to_have_attribute(
        "data-key", "polled1", timeout=10_000
    )


def test_silent_feed_is_called_silent_and_left(page: Page) -> None:
    heard: list[WebSocketRoute] = []

    def mute(socket: WebSocketRoute) -> None:
        heard.append(socket)
        socket.on_message(
            lambda _: (
                socket.send('{"op":"ack","channel":"signals","seq":1}') if len(heard) == 1 else None
            )
        )

    page.clock.install()
    page.route_web_socket(re.compile("/ws/v1/feed"), mute)
    page.goto("/")
    page.clock.run_for(1_000)
    expect(page.locator("#feed-state")).to_contain_text("live")

    page.clock.run_for(13_000)

    expect(page.locator("#feed-state")).to_contain_text("silent")
    expect(page.locator(".stale-banner")).to_contain_text("may be behind")
    page.clock.run_for(2_000)
    assert len(heard) == 2


def test_gap_in_the_feed_reads_the_list_again(page: Page, desk: DeskProcess) -> None:
    sockets: list[WebSocketRoute] = []
    page.route_web_socket(
        re.compile("/ws/v1/feed"),
        lambda socket: (
            sockets.append(socket),
            socket.on_message(
                lambda _: socket.send('{"op":"ack","channel":"signals","seq":100000}')
            ),
        ),
    )
    open_home(page)
    desk.tell("open gap1")

    sockets[-1].send('{"op":"gap","channel":"signals"}')

    expect(page.locator(".signal-row").first).to_have_attribute("data-key", "gap1")


def test_data_goes_stale_before_the_readers_eyes(
    browser: Browser, desk: DeskProcess, session: Any
) -> None:
    context = browser.new_context(base_url=desk.address, storage_state=session)
    page = context.new_page()
    page.clock.install()
    page.goto("/")
    age = page.locator("#data-age")
    expect(age).to_have_attribute("data-state", "ok")

    context.set_offline(True)
    page.clock.run_for(15_000)
    expect(age).to_have_attribute("data-state", "late")
    page.clock.run_for(20_000)

    expect(age).to_have_attribute("data-state", "stale")
    expect(age).to_contain_text("STALE")
    context.close()


# --- keys, theme, zone ---------------------------------------------------------------


def test_keyboard_reaches_everything(page: Page) -> None:
    open_home(page)

    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator(".signal-row .row-link").first
    expect(first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/signals/*/")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/markets/")
    page.keyboard.press("/")
    expect(page.locator("main input[type=search]")).to_be_focused()
    page.keyboard.type("g s?")
    expect(page.locator("main input[type=search]")).to_have_value("g s?")
    expect(page.locator("#help")).to_be_hidden()


def test_skip_link_is_the_first_stop(page: Page) -> None:
    page.goto("/")

    page.keyboard.press("Tab")

    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_theme_is_kept_and_shared_with_the_admin(page: Page) -> None:
    page.goto("/")
    for name in ("Light", "Dark"):
        page.locator(".theme-toggle").click()
        expect(page.locator(".theme-name")).to_have_text(name)

    for address in ("/signals/", "/admin/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", ground)[:3])) < 80, address


def test_times_are_utc_until_the_reader_wants_their_own(page: Page) -> None:
    page.goto("/signals/first3/")
    opened = page.locator(".trail time").first
    expect(opened).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
    utc = opened.text_content() or ""

    page.locator(".zone-toggle").click()

    expect(opened).not_to_contain_text("UTC")
    local = opened.text_content() or ""
    hours = (int(utc[11:13]) - int(local[11:13])) % 24
    assert hours in (4, 5)  # New York
    assert "UTC" in (opened.get_attribute("title") or "")
    page.reload()
    expect(page.locator(".zone-name")).to_have_text("Local")


def test_log_out_ends_every_open_page(browser: Browser, desk: DeskProcess, session: Any) -> None:
    context = browser.new_context(base_url=desk.address)
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("User name").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#feed-state")).to_contain_text("live")
    other = context.new_page()
    other.goto("/")

    page.locator("details.menu summary.tool").click()
    page.get_by_role("button", name="Log out").click()

    page.wait_for_url("**/login/")
    other.wait_for_url("**/login/**", timeout=15_000)
    context.close()
