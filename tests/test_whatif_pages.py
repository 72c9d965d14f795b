"""The what-if pages: who may ask, what is refused, what an answer shows."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from markets import catalogue
from markets.frames import Frame, moment
from markets.models import Event
from markets.recording import RecordingWriter
from mpx_site.portal import whatif_pages
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from rules.load import publish
from rules.models import Rule
from signals import store, whatif_runs
from signals.pipeline import Pipeline
from signals.whatif_models import WhatIfRun
from tests.live_cast import SHIPPED, simulated
from tests.test_whatif_kept import aged

pytestmark = pytest.mark.django_db

CODE = "DUTCH_BOOK_DETECT"
ADDRESS = f"/rules/{CODE}/what-if/"
TEXT = SHIPPED.read_text()
HIGHER = TEXT.replace("min_profit_usd: 0.50", "min_profit_usd: 3")
FEWER = HIGHER.replace("kinds: [binary, yes_basket, no_basket]", "kinds: [yes_basket]")


@pytest.fixture(scope="module")
def half() -> list[Frame]:
    return list(simulated(seconds=30))


@pytest.fixture
def folder(tmp_path: Path, settings: Any, half: list[Frame]) -> Path:
    """The desk's folders; there is one recording and nothing kept."""
    settings.MPX_KEEP_DIR = tmp_path / "kept"
    settings.MPX_RECORDINGS = tmp_path / "recordings"
    settings.MPX_RECORDINGS.mkdir()
    with RecordingWriter(settings.MPX_RECORDINGS / "half.jsonl", header={}) as writer:
        for frame in half:
            writer.write(frame)
    return tmp_path


@pytest.fixture
def rule(folder: Path) -> Rule:
    publish(parse_rule(TEXT, source="test"), source=TEXT)
    return Rule.objects.get(code=CODE)


def logged_in(client: Client, name: str, *roles: str) -> Client:
    import_module("execution.migrations.0003_roles").create(apps)
    import_module("mpx_site.migrations.0006_whatif_roles").grant(apps)
    user = User.objects.create_user(name)
    user.groups.set(Group.objects.filter(name__in=roles))
    client.force_login(user)
    return client


@pytest.fixture
def analyst(client: Client) -> Client:
    return logged_in(client, "analyst", "analyst")


def words_of(response: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def ask(client: Client, **changed: str) -> HttpResponse:
    sent = {"candidate": "text", "text": HIGHER, "data": "recording:half.jsonl"}
    return client.post(ADDRESS, {**sent, **changed})


def answered(client: Client, folder: Path, **changed: str) -> WhatIfRun:
    """Ask, and run what was asked for."""
    assert ask(client, **changed).status_code == 302
    run = whatif_runs.claim(at=timezone.now())
    assert run
    whatif_runs.run(run.pk, kept_folder=folder / "kept", recordings_folder=folder / "recordings")
    return run


# --- asking --------------------------------------------------------------------------


def test_the_form_offers_versions_hours_and_recordings(rule, analyst, folder, settings):
    publish(parse_rule(HIGHER, source="test"), source=HIGHER)
    settings.MPX_KEEP_DIR.mkdir()
    aged(settings.MPX_KEEP_DIR, 1, hours_ago=0.1)

    page = words_of(analyst.get(ADDRESS))

    assert "beside the current v2" in page and "v1 published" in page
    assert "Last hour 15 min 0 s of it kept" in page or "Last hour 14 min 59 s of it kept" in page
    assert "half.jsonl" in page
    assert "min_profit_usd: 3" in page
    assert "Nothing has been asked about this rule yet." in page


def test_where_nothing_is_kept_the_page_says_what_would_fill_it(rule, analyst, folder):
    (folder / "recordings" / "half.jsonl").unlink()

    response = analyst.get(ADDRESS)

    assert "There is nothing to run over yet." in words_of(response)
    assert "manage.py up" in words_of(response)
    assert re.search(r'<button class="button primary" disabled>', response.content.decode())


def test_a_question_leads_to_its_own_page(rule, analyst):
    response = ask(analyst)

    run = WhatIfRun.objects.get()
    assert response["Location"] == f"{ADDRESS}{run.pk}/"
    assert (run.state, run.recording, run.hours) == ("WAITING", "half.jsonl", None)
    assert run.asked_by.get_username() == "analyst"
    assert "min_profit_usd: 3" in run.candidate_source


def test_a_broken_text_is_shown_again_with_the_place_of_each_error(rule, analyst):
    broken = HIGHER.replace("min_profit_usd: 3", "min_profit_usd: 1e-3\n  colour: red")

    response = ask(analyst, text=broken)

    line = broken.splitlines().index("  min_profit_usd: 1e-3") + 1
    page = words_of(response)
    assert response.status_code == 422
    assert f"Line {line}, column 19 : 1e-3" in page
    assert f"Line {line + 1}, column 3" in page and "colour: red" in page
    assert not WhatIfRun.objects.exists()


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"text": HIGHER.replace(CODE, "OTHER")}, "The text is of OTHER"),
        ({"candidate": "7"}, "Choose one of the versions"),
        ({"candidate": "x"}, "Choose one of the versions"),
        ({"data": ""}, "Choose over which data"),
        ({"candidate": "9" * 5_000}, "Choose one of the versions"),
        ({"data": "7"}, "Choose over which data"),
        ({"data": "9" * 5_000}, "Choose over which data"),
        ({"data": "recording:../kept/half.jsonl"}, "Choose over which data"),
        ({"data": "recording:/etc/passwd"}, "Choose over which data"),
    ],
)
def test_what_the_form_does_not_offer_is_refused(rule, analyst, changed, refusal):
    response = ask(analyst, **changed)

    assert response.status_code == 422
    assert refusal in words_of(response)
    assert not WhatIfRun.objects.exists()


def test_too_many_questions_are_refused_in_words(rule, analyst):
    for _ in range(whatif_runs.MOST_WAITING):
        ask(analyst)

    response = ask(analyst)

    assert response.status_code == 422
    assert "Try again when some of them are answered." in words_of(response)


def test_a_viewer_reads_but_does_not_ask_or_cancel(rule, client, folder):
    viewer = logged_in(client, "viewer", "viewer")
    run = whatif_runs.ask(
        rule, source=HIGHER, version=None, by=User.objects.get(), at=timezone.now(), hours=1
    )

    assert "Your account may read answers" in words_of(viewer.get(ADDRESS))
    assert "Cancel" not in words_of(viewer.get(f"{ADDRESS}{run.pk}/"))
    assert ask(viewer).status_code == 403
    assert viewer.post(f"{ADDRESS}{run.pk}/cancel/").status_code == 403
    run.refresh_from_db()
    assert run.state == "WAITING"


def test_an_unknown_rule_or_run_is_not_found(rule, analyst):
    ask(analyst)
    other = publish_other()
    number = WhatIfRun.objects.get().pk

    for address in (
        "/rules/NONE/what-if/",
        f"{ADDRESS}999/",
        f"{ADDRESS}999/progress/",
        f"/rules/{other}/what-if/{number}/",
        f"/rules/{other}/what-if/{number}/progress/",
    ):
        assert analyst.get(address).status_code == 404
    assert analyst.post(f"/rules/{other}/what-if/{number}/cancel/").status_code == 404


def publish_other() -> str:
    text = TEXT.replace(CODE, "OTHER_BOOK")
    publish(parse_rule(text, source="test"), source=text)
    return "OTHER_BOOK"


# --- waiting -------------------------------------------------------------------------


def test_progress_is_told_to_the_page_that_waits(rule, analyst):
    ask(analyst)
    ask(analyst)
    first, second = WhatIfRun.objects.order_by("pk")
    whatif_runs.claim(at=timezone.now() - timedelta(seconds=10))
    WhatIfRun.objects.filter(pk=first.pk).update(permille=420, frames=12_345)

    running = analyst.get(f"{ADDRESS}{first.pk}/progress/").json()
    waiting = analyst.get(f"{ADDRESS}{second.pk}/progress/").json()

    assert running == {
        "state": "RUNNING", "over": False, "permille": 420, "frames": 12_345, "before": 0,
        "seconds": running["seconds"],
    }  # fmt: skip
    assert 10 <= running["seconds"] < 60
    assert (waiting["state"], waiting["before"]) == ("WAITING", 1)
    assert "1 before it" in words_of(analyst.get(f"{ADDRESS}{second.pk}/"))


def test_cancelling_ends_it_and_says_so(rule, analyst):
    ask(analyst)
    run = WhatIfRun.objects.get()

    page = words_of(analyst.post(f"{ADDRESS}{run.pk}/cancel/", follow=True))
    again = words_of(analyst.post(f"{ADDRESS}{run.pk}/cancel/", follow=True))

    assert "Cancelled." in page and "Ask again" in page
    assert "It was over already." in again


def test_a_failed_one_says_why(rule, analyst, folder):
    run = answered(analyst, folder, data="1")

    page = words_of(analyst.get(f"{ADDRESS}{run.pk}/"))

    assert "It failed: Nothing is kept of the last 1 h." in page


# --- the answer ----------------------------------------------------------------------


def test_an_answer_shows_tiles_bars_and_lists(rule, analyst, folder):
    run = answered(analyst, folder, text=FEWER)
    run.refresh_from_db()
    counts, live, candidate = run.counts, run.result["live"], run.result["candidate"]

    page = words_of(analyst.get(f"{ADDRESS}{run.pk}/"))

    assert counts["lost"] > 0 < counts["changed"]
    assert f"Lost {counts['lost']} only by the current version" in page
    assert f"Changed {counts['changed']} by both" in page
    assert f"{candidate['alerts']} instead of {live['alerts']}" in page
    assert "NO basket" in page and "P1 → ◆ P2" in page.replace("▲ ", "")
    assert "200 to 500" in page and "2 s to 5 s" in page
    assert "- kinds: [" in page and "+ kinds: [" in page


def test_bars_are_as_long_as_their_counts(rule, analyst, folder):
    run = answered(analyst, folder, text=FEWER)
    run.refresh_from_db()

    answer = whatif_pages.answer_of(run)

    rows = answer.edge
    assert sum(row.live for row in rows) == run.result["live"]["signals"]
    assert sum(row.candidate for row in rows) == run.result["candidate"]["signals"]
    most = max(max(row.live, row.candidate) for row in rows)
    for row in rows:
        assert row.live_width == pytest.approx(row.live / most * 100, abs=0.06)
        assert row.candidate_width == pytest.approx(row.candidate / most * 100, abs=0.06)
    assert rows[0].live or rows[0].candidate
    assert rows[-1].live or rows[-1].candidate


def test_signals_that_the_desk_stored_are_linked(rule, analyst, folder, half):
    keys = store_signals(half)
    run = answered(analyst, folder, text=FEWER)

    page = analyst.get(f"{ADDRESS}{run.pk}/").content.decode()

    linked = set(re.findall(r'href="/signals/(\w{32})/"', page))
    lost = {row["key"] for row in run_of(run).result["lost"]["rows"]}
    assert lost and lost <= linked <= keys


def test_one_that_was_open_before_the_data_is_linked_by_place_and_time(rule, analyst, folder, half):
    keys = store_signals(half)
    with RecordingWriter(folder / "recordings" / "half.jsonl", header={}) as writer:
        for frame in half:
            writer.write(Frame(frame.t + 1, frame.ch, frame.body, frame.conn, frame.req))

    run = answered(analyst, folder, text=FEWER)

    page = analyst.get(f"{ADDRESS}{run.pk}/").content.decode()
    rows = run_of(run).result["lost"]["rows"]
    assert not {row["key"] for row in rows} & keys
    assert len(re.findall(r'href="/signals/(\w{32})/"', page)) >= len(rows)


def run_of(run: WhatIfRun) -> WhatIfRun:
    return WhatIfRun.objects.get(pk=run.pk)


def store_signals(frames: list[Frame]) -> set[str]:
    """Store the signals that the live path would have stored, without their updates."""
    pipeline = Pipeline((ActiveRule.of(parse_rule(TEXT, source="test")),))
    keys: set[str] = set()
    known: set[str | None] = set()
    for frame in frames:
        changes = [each for each in pipeline.feed(frame).changes if each.change != "updated"]
        for event_id in {each.finding.event_id for each in changes} - known:
            catalogue.store([pipeline.events[event_id or ""]], seen_at=moment(frame.t))
            known.add(event_id)
        store.save(changes)
        keys |= {change.key for change in changes}
    return keys


def test_venue_text_is_escaped(rule, analyst, folder, half):
    store_signals(half)
    Event.objects.update(title="<script>alert(1)</script>")
    run = answered(analyst, folder, text=FEWER)

    page = analyst.get(f"{ADDRESS}{run.pk}/").content.decode()

    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page


def test_an_answer_asks_the_database_few_questions(
    rule, analyst, folder, half, django_assert_max_num_queries
):
    store_signals(half)
    run = answered(analyst, folder, text=FEWER)

    with django_assert_max_num_queries(16):
        analyst.get(f"{ADDRESS}{run.pk}/")


def test_where_no_version_is_published_all_is_new(client, folder):
    analyst = logged_in(client, "analyst", "analyst")
    rule = Rule.objects.create(code=CODE, title="Dutch book", changed_at=timezone.now())

    assert "no version is published yet" in words_of(analyst.get(ADDRESS))
    run = answered(analyst, folder)

    page = words_of(analyst.get(f"{ADDRESS}{run.pk}/"))
    assert run.rule == rule and "of which no version is published" in page
    assert "New" in page and "instead of" not in page


def test_the_admin_lists_what_was_asked(rule, analyst, admin_client):
    ask(analyst)

    page = words_of(admin_client.get("/admin/signals/whatifrun/"))

    assert "a new text" in page and "half.jsonl" in page and "comparison" in page
