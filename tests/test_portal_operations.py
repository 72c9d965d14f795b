"""Alerts, health and runbook: what waits for a person, and what to do about it."""

from __future__ import annotations

import html
import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from alerts import journal
from alerts.models import AuditEntry, OutboxEntry, Silence, Voice
from markets.models import Gap, Quarantine
from mpx_site import doctor
from mpx_site.doctor import Result
from mpx_site.doctor_words import fail, ok
from mpx_site.portal import audit_views, health_table, runbook
from risk import killswitch
from tests import portal_cast as cast
from tests.desk_cast import approver, person, prepare

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
HOSTILE = "</bdi><script>alert(1)</script>\u202e=cmd()"
ALERTS_QUERIES, HEALTH_QUERIES, RUNBOOK_QUERIES = 17, 27, 34
State = OutboxEntry.State


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Let no answer of another test be remembered."""
    health_table.forget()
    audit_views.memory.last = None


@pytest.fixture
def analyst(client: Client) -> Client:
    client.force_login(person("ana", "analyst"))
    return client


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


def words(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def alert(key: str = "signal:" + "a" * 32, state: str = State.PENDING, **told: Any) -> OutboxEntry:
    with transaction.atomic():
        journal.alert(key=key, kind=told.pop("kind", "signal.p1"), payload=told, at=timezone.now())
    OutboxEntry.objects.filter(key=key).update(state=state)
    return OutboxEntry.objects.get(key=key)


def shown(page: Client, query: str = "") -> list[int]:
    body = page.get(f"/alerts/?{query}").content.decode()
    return [int(number) for number in re.findall(r'id="alert-(\d+)"', body)]


# --- alerts --------------------------------------------------------------------------


def test_viewers_are_told_that_the_outbox_is_not_theirs(client: Client) -> None:
    client.force_login(person("vera", "viewer"))
    assert "shown to analyst" in words(client.get("/alerts/"))
    assert client.get("/alerts/?format=json").status_code == 403


def test_an_empty_outbox_says_what_would_fill_it(analyst: Client) -> None:
    told = words(analyst.get("/alerts/"))
    assert "No alerts yet. One is written with every P1 signal" in told


def test_the_page_says_plainly_that_nothing_sends(analyst: Client, settings: Any) -> None:
    settings.TELEGRAM_ENABLED = False
    assert "Nothing sends: Telegram is off" in words(analyst.get("/alerts/"))

    settings.TELEGRAM_ENABLED, settings.TELEGRAM_BOT_TOKEN = True, ""
    settings.TELEGRAM_CHAT_ID = "7"
    told = words(analyst.get("/alerts/"))
    assert "Nothing sends: Telegram is on, but without TELEGRAM_BOT_TOKEN." in told

    settings.TELEGRAM_BOT_TOKEN = "t"
    assert "Nothing sends" not in words(analyst.get("/alerts/"))
    alert()
    OutboxEntry.objects.update(due_at=timezone.now() - timedelta(minutes=3))
    assert "what is due is not being sent" in words(analyst.get("/alerts/"))

    Voice.objects.create(name="telegram", broken="the bot was blocked")
    assert "Telegram has stopped: the bot was blocked." in words(analyst.get("/alerts/"))


def test_what_was_only_written_down_does_not_count_as_told(analyst: Client) -> None:
    for number, transport in enumerate(("telegram", "dry_run", "dry_run")):
        entry = alert(f"signal:{number}", State.SENT)
        OutboxEntry.objects.filter(pk=entry.pk).update(
            transport=transport, sent_at=entry.created_at + timedelta(seconds=4)
        )

    told = words(analyst.get("/alerts/"))

    assert "Told 1 last" in told and "2 only written down" in told
    assert told.count("○ written down") == 2 and "● sent after 4 s" in told


def test_silences_are_named_with_their_reason(analyst: Client) -> None:
    Silence.objects.create(
        scope="RULE", value="DUTCH", until=timezone.now() + timedelta(hours=1), reason=HOSTILE,
        by=approver("avi"),
    )  # fmt: skip

    answer = analyst.get("/alerts/")

    assert "Silenced: a rule DUTCH until" in words(answer)
    assert f"by avi : {HOSTILE}" in words(answer)
    assert "<script>alert" not in answer.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["stop", "gone", "told", "waits"]),
        ("sort=oldest", ["waits", "told", "gone", "stop"]),
        ("state=FAILED", ["gone"]),
        ("kind=killswitch.", ["stop"]),
        ("state=FAILED&kind=killswitch.", []),
        ("state=NONE", ["stop", "gone", "told", "waits"]),
    ],
)
def test_filters(analyst: Client, query: str, found: list[str]) -> None:
    rows = {
        "waits": alert("signal:1"),
        "told": alert("signal:2", State.SENT),
        "gone": alert("signal:3", State.FAILED),
        "stop": alert("killswitch:4:tripped", kind="killswitch.tripped"),
    }
    assert shown(analyst, query) == [rows[name].pk for name in found]


def test_a_failed_alert_is_sent_again_once_and_the_chain_has_who(operator: Client) -> None:
    gone, told = alert("signal:1", State.FAILED), alert("signal:2", State.SENT)
    assert "Send again" in words(operator.get("/alerts/"))

    answers = [
        words(operator.post("/alerts/again/", {"number": number}, follow=True))
        for number in (gone.pk, gone.pk, told.pk, "x", "")
    ]

    assert "1 alert will be told again. But: Nothing sends: Telegram is off" in answers[0]
    assert all("Nothing was changed" in answer for answer in answers[1:])
    gone.refresh_from_db()
    told.refresh_from_db()
    assert (gone.state, told.state) == (State.PENDING, State.SENT)
    entry = AuditEntry.objects.get(kind="alert.sent_again")
    told = {"alerts": 1, "first": ["signal:1"], "all": False}
    assert (entry.actor, entry.data) == ("operator", told | {"trace_id": entry.data["trace_id"]})


def test_all_failed_ones_are_sent_again_together(operator: Client) -> None:
    for number in range(3):
        alert(f"signal:{number}", State.FAILED)
    Voice.objects.create(name="telegram", broken="the bot was blocked")

    assert "3 alerts will" in words(operator.post("/alerts/again/", {"number": "all"}, follow=True))
    assert not OutboxEntry.objects.filter(state=State.FAILED).exists()
    assert not Voice.objects.get().broken


def test_who_may_look_may_not_send(analyst: Client) -> None:
    gone = alert(state=State.FAILED)

    assert "Send again" not in words(analyst.get("/alerts/"))
    assert analyst.post("/alerts/again/", {"number": gone.pk}).status_code == 403
    gone.refresh_from_db()
    assert gone.state == State.FAILED


def test_hostile_alerts_are_text_on_the_page_and_in_the_file(analyst: Client) -> None:
    alert(f"signal:{HOSTILE}", event_title=HOSTILE)
    OutboxEntry.objects.update(reason="=cmd()")

    body = analyst.get("/alerts/").content.decode()
    file: Any = analyst.get("/alerts/?format=csv")

    assert "<script>alert" not in body and HOSTILE in html.unescape(body)
    assert b",'=cmd()," in b"".join(file.streaming_content)


def test_alerts_ask_as_much_however_many(analyst: Client, django_assert_num_queries: Any) -> None:
    for number in range(12):
        alert(f"signal:{number}")
    with django_assert_num_queries(ALERTS_QUERIES):
        analyst.get("/alerts/?size=10")
    with django_assert_num_queries(ALERTS_QUERIES):
        analyst.get("/alerts/?size=50")


# --- health --------------------------------------------------------------------------


def states(page: Client) -> dict[str, str]:
    file: Any = page.get("/health/?format=json")
    rows = json.loads(b"".join(file.streaming_content))["rows"]
    return {row["component"]: row["state"] for row in rows}


def test_a_desk_that_never_ran_has_no_data_and_says_how_to_start(analyst: Client) -> None:
    told = words(analyst.get("/health/"))

    assert states(analyst)["Stream"] == states(analyst)["Scheduled jobs"] == "no data"
    assert "□ no data" in told and "Start `manage.py up`" in told
    assert "No gap in 24 h." in told and "All input could be used." in told


def test_a_living_desk_is_ok_with_age_and_progress(analyst: Client) -> None:
    prepare()
    for component in ("stream", "worker", "desk"):
        cast.beat(at=timezone.now(), component=component)

    found = states(analyst)

    assert found["Market data"] == found["Stream"] == found["Scheduled jobs"] == "ok"
    assert "1,234" in words(analyst.get("/health/"))


def test_stale_data_and_a_dead_stream_are_down_while_others_run(analyst: Client) -> None:
    now = timezone.now()
    cast.beat(at=now - timedelta(minutes=5), component="stream")
    cast.beat(at=now, component="worker")

    assert states(analyst)["Stream"] == "down"
    told = words(analyst.get("/health/"))
    assert "■ down" in told and "Start `manage.py stream`" in told
    assert f'href="{reverse("runbook")}#stream-dead"' in analyst.get("/health/").content.decode()


def test_a_program_that_no_check_knows_is_shown_and_not_judged(analyst: Client) -> None:
    cast.beat(at=timezone.now() - timedelta(days=1), component="whatif")
    assert "Whatif Not judged: it runs when it has work." in words(analyst.get("/health/"))


def test_answers_are_shared_for_some_seconds(analyst: Client) -> None:
    first = states(analyst)["Alerts"]
    alert(state=State.FAILED)
    assert states(analyst)["Alerts"] == first == "ok"

    health_table.forget()
    assert states(analyst)["Alerts"] == "degraded"


def test_what_settings_are_unsafe_is_for_staff(analyst: Client, client: Client) -> None:
    assert "Safety" not in states(analyst)
    client.force_login(cast.operator())
    assert {"Safety", "Secret key"} <= set(states(client))


def test_gaps_and_unusable_input_are_shown(analyst: Client) -> None:
    now = timezone.now()
    Gap.objects.create(
        kind="CONNECTION", subject="3", reason=HOSTILE, books=40,
        opened_at=now - timedelta(minutes=9), healed_at=now - timedelta(minutes=8),
        healing_seconds=60.0, ending="HEALED",
    )  # fmt: skip
    Gap.objects.create(kind="ASSET", subject="700", books=1, opened_at=now)
    Quarantine.objects.create(
        source="ws", reason="bad_value", subject=HOSTILE, detail=HOSTILE, count=12,
        first_at=now, last_at=now,
    )  # fmt: skip

    answer = analyst.get("/health/")

    told = words(answer)
    assert "2 found · 1 open · healed in 1 min 0 s on average" in told
    assert "● after 1 min 0 s" in told and "■ open" in told
    assert "bad_value" in told and "12" in told
    assert "<script>alert" not in answer.content.decode()


def test_what_takes_a_while_is_looked_at_on_demand(
    analyst: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {name: ok("well") for name in health_table.SLOW} | {"redis": fail("gone", "Start it")}
    monkeypatch.setattr(
        doctor, "examine", lambda names: [Result(name, seen[name], 0.1) for name in names]
    )
    assert "Nobody has looked yet." in words(analyst.get("/health/"))

    told = words(analyst.post("/health/examine/", follow=True))

    assert "Looked at 10 things; down: redis." in told
    assert "■ down gone" in told and "Start it" in told


def test_every_check_of_the_doctor_is_on_the_page() -> None:
    shown_checks = {each.check for each in (*health_table.COMPONENTS, *health_table.ON_DEMAND)}
    assert shown_checks == set(doctor.NAMES)


def test_every_anchor_of_a_part_is_in_the_runbook() -> None:
    parts = (*health_table.COMPONENTS, *health_table.ON_DEMAND)
    assert {each.anchor for each in parts if each.anchor} <= set(runbook.anchors())


def test_every_alert_rule_that_ships_leads_to_an_entry_of_the_runbook() -> None:
    shipped = (settings.BASE_DIR / "deploy/prometheus/rules.yml").read_text()
    named = set(re.findall(r"/runbook/#([\w-]+)", shipped))
    assert named and named <= set(runbook.anchors())


def test_health_asks_as_much_however_much_there_is(
    analyst: Client, django_assert_num_queries: Any
) -> None:
    prepare()
    cast.beat(at=timezone.now())
    with django_assert_num_queries(HEALTH_QUERIES):
        analyst.get("/health/")
    health_table.forget()
    now = timezone.now()
    for number in range(14):
        Gap.objects.create(kind="ASSET", subject=str(number), books=1, opened_at=now)
        alert(f"signal:{number}")
    with django_assert_num_queries(HEALTH_QUERIES):
        analyst.get("/health/")


# --- runbook -------------------------------------------------------------------------


def test_the_seeds_four_symptoms_are_there(analyst: Client) -> None:
    body = analyst.get("/runbook/").content.decode()
    for anchor in ("no-signals", "markets-stale", "telegram-silent", "execution-rejected"):
        assert f'id="{anchor}"' in body


@pytest.mark.parametrize("entry", runbook.ENTRIES, ids=lambda entry: entry.anchor)
def test_every_command_can_be_pasted(entry: runbook.Entry) -> None:
    """Options that a command does not know, or lacks, would end it here with SystemExit."""
    pasted = [step.command for step in entry.steps if step.command.startswith("python manage.py")]
    for line in pasted:
        _, _, name, *arguments = shlex.split(line.replace("<", "").replace(">", ""))
        command = load_command_class(get_commands()[name], name)
        parsed = vars(command.create_parser("manage.py", name).parse_args(arguments))
        if name == "doctor" and parsed["only"]:
            assert set(parsed["only"].split(",")) <= set(doctor.NAMES)


@pytest.mark.parametrize("entry", runbook.ENTRIES, ids=lambda entry: entry.anchor)
def test_every_link_leads_somewhere_and_every_check_exists(
    operator: Client, entry: runbook.Entry
) -> None:
    for link in entry.links:
        assert operator.get(link.address).status_code == 200, link
    assert set(entry.checks) <= set(health_table.quick())
    assert entry.checks or entry.look


def test_entries_say_how_it_is_now(operator: Client) -> None:
    prepare()
    cast.beat(at=timezone.now())
    before = words(operator.get("/runbook/"))
    assert "the kill switch is off and no breaker is open" in before

    killswitch.trip(by=approver("avi"), at=timezone.now(), reason=HOSTILE)

    answer = operator.get("/runbook/")
    assert "Kill switch on, or a breaker open ■ down" in words(answer)
    assert f"the kill switch is on: {HOSTILE}" in words(answer)
    assert "<script>alert" not in answer.content.decode()


def test_what_is_in_trouble_is_named_first(operator: Client) -> None:
    cast.beat(at=timezone.now() - timedelta(minutes=5))
    cast.beat(at=timezone.now(), component="worker")

    told = words(operator.get("/runbook/"))

    assert told.index("▲ Now:") < told.index("The stream is dead")


def test_the_runbook_asks_as_much_however_much_there_is(
    operator: Client, django_assert_num_queries: Any
) -> None:
    prepare()
    with django_assert_num_queries(RUNBOOK_QUERIES):
        operator.get("/runbook/")
