"""What the doctor says of alerts on their way."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from alerts import journal
from alerts.models import OutboxEntry, Voice
from mpx_site.doctor_alerts import alerts

pytestmark = pytest.mark.django_db


def put(number: int = 1) -> None:
    journal.alert(key=str(number), kind="test", payload={}, at=timezone.now())


def test_all_is_well_while_nothing_waits_for_long():
    put()

    seen = alerts()

    assert (seen.state, seen.text) == ("ok", "1 wait, 0 failed; dry run, nothing is sent")


def test_what_waits_too_long_is_a_failure():
    put()
    OutboxEntry.objects.update(created_at=timezone.now() - timedelta(minutes=5))

    seen = alerts()

    assert seen.state == "fail" and "the first has waited 300 s" in seen.text
    assert "deliver-alerts" in seen.todo


def test_what_failed_is_a_warning():
    put()
    OutboxEntry.objects.update(state="FAILED")

    assert (alerts().state, alerts().text) == ("warn", "0 wait, 1 failed")


def test_voice_that_was_refused_is_a_failure():
    Voice.objects.create(name="telegram", broken="Forbidden: bot was blocked")

    seen = alerts()

    assert seen.state == "fail" and "Forbidden" in seen.text and "telegram_test" in seen.todo
