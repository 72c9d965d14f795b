"""A desk with something to see on the pages of operations: alerts, gaps, problems, a token."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from alerts import journal
from alerts.models import OutboxEntry
from markets.models import Gap, Quarantine
from mpx_site import api_token_book
from mpx_site.preferences import Preference
from tests import portal_cast as cast
from tests.browser import desk
from tests.browser.desk import HOSTILE


class Desk(desk.Desk):
    def __init__(self) -> None:
        super().__init__()
        self.trouble()
        self.belongings(User.objects.get(username="operator"))

    def trouble(self) -> None:
        now = timezone.now()
        cast.beat(at=now, component="worker")
        states = OutboxEntry.State
        for number, state in enumerate((states.FAILED, states.SUPPRESSED, states.FAILED)):
            with transaction.atomic():
                told = {"event_title": HOSTILE if number == 2 else "Who wins the cup?"}
                journal.alert(key=f"signal:s{number}", kind="signal.p1", payload=told, at=now)
                journal.record(
                    kind="rule.published", subject=f"rule:{HOSTILE[:60]}", actor="operator",
                    data={"number": 2, "before": 1, "reason": HOSTILE}, at=now,
                )  # fmt: skip
            OutboxEntry.objects.filter(key=f"signal:s{number}").update(
                state=state, attempts=number, reason="400 Bad Request: " + HOSTILE
            )
        Gap.objects.create(kind="ASSET", subject="7" * 78, reason=HOSTILE[:120], books=1,
                           opened_at=now - timedelta(minutes=4))  # fmt: skip
        Gap.objects.create(kind="CONNECTION", subject="3", books=400, ending="HEALED",
                           opened_at=now - timedelta(minutes=9), healing_seconds=2.5,
                           healed_at=now - timedelta(minutes=8))  # fmt: skip
        Quarantine.objects.create(
            source="ws", reason="bad_value", subject=HOSTILE[:120], detail=HOSTILE,
            count=12_345, first_at=now, last_at=now,
        )  # fmt: skip

    def belongings(self, operator: User) -> None:
        now = timezone.now()
        api_token_book.make(operator, name=HOSTILE[:80], scopes=["read"], days=9, at=now)
        for name in (HOSTILE[:60], "Failed ones"):
            Preference.objects.create(
                user=operator, name=f"view:{name}",
                value={"path": "/alerts/", "query": "state=FAILED"},
            )  # fmt: skip


def serve(port: int) -> None:
    desk.Desk = Desk  # type: ignore[misc]
    desk.serve(port)
