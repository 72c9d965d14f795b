"""What operators do with the desk's voice: test it, silence it, set it going again."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from alerts.models import AuditEntry, OutboxEntry, Silence, Voice
from tests import bot_api
from tests.bot_api import CHAT, TOKEN, Answer
from tests.test_alert_delivery import put

pytestmark = pytest.mark.django_db
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


telegram = bot_api.telegram


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


def test_message(*options: str) -> tuple[int, str]:
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("telegram_test", *options, stdout=out)
    return int(ended.value.code or 0), out.getvalue().strip()


test_message.__test__ = False  # type: ignore[attr-defined]  # a step of the tests below


def test_command_sends_and_shows_the_chat_masked(telegram):
    assert test_message("--text", "Drill") == (0, "sent to …7890 as message 1")
    assert telegram.texts == ["<b>Test</b>\nDrill"]


def test_command_without_telegram_is_a_dry_run(settings):
    settings.TELEGRAM_ENABLED = False

    code, told = test_message()

    assert code == 0
    assert told.startswith("dry run: Telegram is off. Set TELEGRAM_ENABLED")


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [(Answer(403, "Forbidden: blocked"), 1, "Forbidden"), (Answer(500, "oops"), 3, "oops")],
)
def test_command_says_what_is_wrong(telegram, answer, code, reason):
    telegram.answers.append(answer)

    ended, told = test_message("--json")

    row = json.loads(told)
    assert (ended, row["sent"], row["schema"]) == (code, False, 1)
    assert reason in row["reason"] and TOKEN not in told


def test_message_that_gets_through_ends_the_stop(telegram):
    Voice.objects.create(name="telegram", broken="Forbidden: blocked", broken_at=AT)

    test_message()

    assert Voice.objects.get().broken == ""


def test_admin_shows_the_voice_and_sets_it_going_again(telegram, operator):
    Voice.objects.create(name="telegram", broken="Forbidden: blocked", broken_at=AT)
    row = put()
    OutboxEntry.objects.update(state="FAILED")
    list_page = reverse("admin:alerts_voice_changelist")

    page = operator.get(list_page).content.decode()
    assert "✕ stopped: Forbidden: blocked" in page and "…7890" in page
    assert TOKEN not in page and CHAT not in page

    operator.post(list_page, {"action": "try_again", "_selected_action": ["telegram"]})
    row.refresh_from_db()
    assert (row.state, Voice.objects.get().broken) == ("PENDING", "")


def test_admin_sends_a_test(telegram, operator):
    Voice.objects.create(name="telegram")
    answer = operator.post(
        reverse("admin:alerts_voice_changelist"),
        {"action": "send_test", "_selected_action": ["telegram"]},
        follow=True,
    )

    assert "Sent to …7890." in answer.content.decode()
    assert telegram.texts == ["<b>Test</b>\nTest by olga"]


def test_silence_of_the_admin_has_its_author_and_is_in_the_audit(operator):
    until = timezone.now() + timedelta(hours=2)
    form = {"scope": "RULE", "value": "SPIKE", "reason": "noise", "until_0": f"{until:%Y-%m-%d}",
            "until_1": f"{until:%H:%M:%S}"}  # fmt: skip
    operator.post(reverse("admin:alerts_silence_add"), form)

    silence = Silence.objects.get()
    assert (silence.by.get_username(), silence.reason) == ("olga", "noise")
    act = {"action": "end_now", "_selected_action": [str(silence.pk)]}
    operator.post(reverse("admin:alerts_silence_changelist"), act)
    silence.refresh_from_db()
    assert silence.until <= timezone.now()
    kinds = AuditEntry.objects.filter(subject=f"silence:{silence.pk}").values_list(
        "kind", flat=True
    )
    assert list(kinds.order_by("id")) == ["silence.began", "silence.ended"]


def test_silence_of_nothing_is_refused(operator):
    until = timezone.now() + timedelta(hours=2)
    form = {"scope": "RULE", "value": "", "reason": "noise", "until_0": f"{until:%Y-%m-%d}",
            "until_1": f"{until:%H:%M:%S}"}  # fmt: skip

    page = operator.post(reverse("admin:alerts_silence_add"), form)

    assert page.status_code == 200
    assert not Silence.objects.exists()


@pytest.mark.parametrize("path", ["/api/alerts/test", "/api/v1/alerts/test"])
def test_api_sends_for_who_may(telegram, operator, path):
    answer = operator.post(path, {"text": "Drill"}, content_type="application/json")

    assert (answer.status_code, answer.json()["sent"], answer.json()["chat"]) == (
        200,
        True,
        "…7890",
    )
    assert telegram.texts == ["<b>Test</b>\nDrill"]


def test_api_takes_the_admin_token_and_no_stranger(telegram, client, settings):
    settings.ADMIN_API_TOKEN = "a-token-of-this-desk-alone"
    path, body = "/api/alerts/test", {"content_type": "application/json"}

    assert client.post(path, "{}", **body).status_code == 401
    client.force_login(User.objects.create_user("viewer"))
    assert client.post(path, "{}", **body).status_code == 403
    client.logout()
    sent = client.post(path, "{}", headers={"X-API-Key": "a-token-of-this-desk-alone"}, **body)
    told = {"transport": "telegram", "sent": True, "chat": "…7890", "message_id": 1, "reason": ""}
    assert sent.json() == {**told, "voices": [told]}


def test_api_says_that_it_was_a_dry_run(settings, operator):
    settings.TELEGRAM_ENABLED = False

    answer = operator.post("/api/alerts/test", "{}", content_type="application/json")

    assert (answer.status_code, answer.json()["transport"]) == (200, "dry_run")
