"""The admin: live tiles, lists that answer, and rows that nobody can bend."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from alerts import journal
from alerts.models import (
    AuditEntry,
    FeedEntry,
    Heartbeat,
    Manner,
    OutboxEntry,
    Silence,
    Voice,
)
from markets import watch
from markets.models import (
    Event,
    Gap,
    Market,
    Outcome,
    Quarantine,
    Quote,
    SyncRun,
    TermsChange,
    WatchRule,
)
from markets.relation_models import SynonymGroup
from mpx_site import api_token_book
from mpx_site.bot.models import TelegramLink
from rules.ml_models import MlModel
from signals.models import Signal, SignalPoint
from signals.whatif_models import WhatIfRun
from tests import portal_cast as cast
from tests import relation_cast
from tests.portal_cast import START

pytestmark = pytest.mark.django_db

PROGRAMS_ROWS = (
    AuditEntry,
    FeedEntry,
    Heartbeat,
    Event,
    Gap,
    Market,
    Outcome,
    Quote,
    Quarantine,
    Signal,
    SyncRun,
    TermsChange,
)
LOGIN_QUERIES = 2  # session and user
BAR_QUERIES = 4  # the kill switch, in a savepoint of its own, and how much waits for approval


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


@pytest.fixture
def world(db: None) -> Signal:
    """One event of three markets with quotes, one open signal, and one of everything else."""
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.quote(view, at=START)
    cast.beat(at=timezone.now())
    Quarantine.objects.create(
        source="ws", reason="bad_json", count=3, first_at=START, last_at=timezone.now()
    )
    SyncRun.objects.create(kind=SyncRun.Kind.FULL, started_at=START)
    Gap.objects.create(kind=Gap.Kind.CONNECTION, subject="0", books=3, opened_at=START)
    TermsChange.objects.create(market_id="800", at=START, field="STATE", new="PAUSED")
    watch.pin(WatchRule.Kind.EVENT, "7", by="operator")
    CrontabSchedule.objects.create(hour="4", minute="0")
    relation_cast.proposed(("800", "801"), "exclusive")
    SynonymGroup.objects.create(name="Winners", method="MANUAL", created_at=START)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    otto = User.objects.create_user("otto")
    api_token_book.make(otto, name="report", scopes=["read"], days=1, at=START)
    Voice.objects.create(name="telegram")
    TelegramLink.objects.create(user=otto, telegram_id=5, linked_at=START)
    Manner.objects.create(kind="signal.p1")
    Silence.objects.create(scope="ALL", until=START, reason="drill", by=otto)
    WhatIfRun.objects.create(
        rule=signal.rule,
        hours=1,
        candidate_source="code: X",
        asked_by=User.objects.create_user("analyst"),
        asked_at=START,
    )
    return signal


def address(model: type[models.Model], page: str, *args: object) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)


def words_of(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_there_is_one_login(client: Client) -> None:
    first = client.get("/admin/", follow=True)

    assert first.redirect_chain[-1][0] == "/login/?next=/admin/"


def test_login_brings_staff_to_the_page_they_wanted(client: Client) -> None:
    cast.operator()

    response = client.post(
        "/login/?next=/admin/signals/signal/",
        {"username": "operator", "password": "correct horse", "next": "/admin/signals/signal/"},
    )

    assert response["Location"] == "/admin/signals/signal/"


def test_account_without_the_right_is_told_so(client: Client) -> None:
    client.force_login(cast.viewer())

    response = client.get("/admin/", follow=True)

    assert response.status_code == 403
    assert "The admin is for staff accounts." in words_of(response)


def test_first_page_tells_how_the_desk_is(operator: Client, world: Signal) -> None:
    page = words_of(operator.get("/admin/"))

    assert "Simulated venue: nothing here is real. Fills are on paper only." in page
    assert "Open signals 1 ▲ P1 1 ◆ P2 0 ○ P3 0" in page
    assert "Quarantine, 24 h 1 kind of input could not be used" in page
    assert "Alerts waiting 1 oldest due" in page
    assert "Health stream ● " in page
    assert "Rules active 1 DUTCH_BOOK_DETECT" in page


def test_tiles_lead_to_what_they_count(operator: Client, world: Signal) -> None:
    page = operator.get("/admin/").content.decode()
    tiles = page[page.index('id="tiles"') : page.index('id="content-main"')]
    ways = set(re.findall(r'href="([^"]+)"', tiles))

    assert len(ways) >= 6
    for way in ways:
        assert operator.get(way.replace("&amp;", "&")).status_code == 200, way


def test_real_source_is_said_on_every_page(operator: Client, settings: Any) -> None:
    settings.DATA_SOURCE = "real"

    page = operator.get(address(Signal, "changelist"))

    assert "Live data from the venue." in words_of(page)
    assert 'class="environment" data-mode="real"' in page.content.decode()


@pytest.mark.parametrize("model", PROGRAMS_ROWS, ids=lambda model: model.__name__)
def test_rows_that_a_program_writes_cannot_be_bent(
    operator: Client, world: Signal, model: type[models.Model]
) -> None:
    row = model._default_manager.first()
    assert row is not None

    assert operator.get(address(model, "add")).status_code == 403
    assert operator.post(address(model, "change", row.pk), {}).status_code == 403
    assert operator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    operator.post(
        address(model, "changelist"),
        {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"},
    )
    assert model._default_manager.filter(pk=row.pk).exists()
    assert journal.verify() > 0


@pytest.mark.parametrize(
    "model",
    [  # orders, risk and models have tests of their own
        model
        for model in admin.site._registry
        if model._meta.app_label not in ("auth", "execution", "risk") and model is not MlModel
    ],
    ids=lambda model: model.__name__,
)
def test_every_list_and_row_opens_without_inline_script(
    operator: Client, world: Signal, model: type[models.Model]
) -> None:
    row = model._default_manager.first()
    assert row is not None

    for way in (address(model, "changelist"), address(model, "change", row.pk)):
        response = operator.get(way)
        assert response.status_code == 200, way
        page = response.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*json)", page), way
        assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", page), way


@pytest.mark.parametrize(
    ("model", "queries"),
    [
        (Signal, 7),
        (Market, 3),
        (Event, 3),
        (AuditEntry, 3),
        (FeedEntry, 5),
        (OutboxEntry, 4),
        (Quarantine, 5),
        (Quote, 4),
        (Outcome, 3),
        (Heartbeat, 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_lists_take_the_same_queries_for_many_rows(
    operator: Client,
    django_assert_num_queries: Any,
    model: type[models.Model],
    queries: int,
) -> None:
    view = cast.view_of(*[0.03] * 25)
    cast.list_event(view)
    cast.quote(view, at=START)
    cast.many_signals(12, view)

    with django_assert_num_queries(LOGIN_QUERIES + BAR_QUERIES + queries):
        operator.get(address(model, "changelist"))


def test_search_finds_by_key_and_says_what_it_looks_at(operator: Client, world: Signal) -> None:
    way = address(Signal, "changelist")

    assert "1 signal" in words_of(operator.get(f"{way}?q={world.key}"))
    assert "0 signals" in words_of(operator.get(f"{way}?q={world.key[:5]}"))
    assert "A signal&#x27;s whole key" in operator.get(way).content.decode()


def test_audit_subject_leads_to_the_signal(operator: Client, world: Signal) -> None:
    page = operator.get(f"{address(AuditEntry, 'changelist')}?q=signal:").content.decode()

    assert f'<a href="/signals/{world.key}/">signal:{world.key}</a>' in page


def test_audit_is_narrowed_to_what_it_is_about(operator: Client, world: Signal) -> None:
    way = address(AuditEntry, "changelist")

    assert "signal.opened" in words_of(operator.get(f"{way}?about=signal"))
    assert "rule.published" not in words_of(operator.get(f"{way}?about=signal"))
    assert "rule.published" in words_of(operator.get(f"{way}?about=rule"))


def test_subject_that_is_no_key_is_only_text(operator: Client) -> None:
    with transaction.atomic():
        journal.record(kind="odd", subject='signal:"><b>x', data={}, at=START)

    page = operator.get(address(AuditEntry, "changelist")).content.decode()

    assert "signal:&quot;&gt;&lt;b&gt;x" in page


def test_failed_alert_can_be_sent_again_and_others_cannot(operator: Client) -> None:
    late = timezone.now() - timedelta(hours=1)
    states = OutboxEntry.State
    for state in (states.FAILED, states.SENT):
        OutboxEntry.objects.create(
            key=state, kind="signal.p1", state=state, payload={}, due_at=late, attempts=5
        )

    operator.post(
        address(OutboxEntry, "changelist"),
        {
            "action": "send_again",
            "_selected_action": list(OutboxEntry.objects.values_list("pk", flat=True)),
        },
    )

    again, sent = OutboxEntry.objects.get(key=states.FAILED), OutboxEntry.objects.get(key="SENT")
    assert (again.state, again.attempts) == (states.PENDING, 0)
    assert again.due_at > late
    assert (sent.state, sent.attempts) == (states.SENT, 5)


def test_signal_with_very_many_changes_still_opens(operator: Client, world: Signal) -> None:
    SignalPoint.objects.bulk_create(
        SignalPoint(signal=world, at=START, change="updated", level="P1", edge_bps=1, profit=1)
        for _ in range(501)
    )

    page = operator.get(address(Signal, "change", world.pk)).content.decode()

    assert "points-group" not in page
    assert f'<a href="/signals/{world.key}/">' in page
