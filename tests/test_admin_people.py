"""Accounts, roles and exports in the admin, and the way from its lists to the portal."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from alerts.models import AuditEntry
from markets.models import Event
from mpx_site.templatetags.desk_admin import PAGES
from tests import portal_cast as cast
from tests.desk_cast import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


def act(client: Client, path: str, action: str, *keys: object) -> Any:
    return client.post(path, {"action": action, "_selected_action": keys})


def told_of(kind: str) -> dict[str, Any]:
    entry = AuditEntry.objects.get(kind=kind)
    assert entry.actor == "operator"
    return {"subject": entry.subject, **entry.data}


# --- exports -------------------------------------------------------------------------


def test_a_list_exports_what_is_ticked_as_it_is_shown(operator: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30, title="=cmd()")
    cast.list_event(view)
    cast.list_event(cast.view_of(0.30, event_id="8"))

    file = act(operator, "/admin/markets/event/", "export_csv", "7")

    rows = list(csv.DictReader(io.StringIO(b"".join(file.streaming_content).decode())))
    assert [(row["id"], row["title"], row["markets"]) for row in rows] == [("7", "'=cmd()", "3")]
    assert file["Content-Disposition"].startswith('attachment; filename="mpx-event-')


def test_links_of_a_list_are_exported_as_their_words(operator: Client) -> None:
    cast.list_event(cast.view_of(0.30, 0.30, 0.30))
    signal = cast.many_signals(1, cast.view_of(0.30, 0.30, 0.30))[0]

    file = act(operator, "/admin/signals/signal/", "export_json", signal.pk)

    (row,) = json.loads(b"".join(file.streaming_content))["rows"]
    assert "<" not in json.dumps(row)
    assert row["status"] == "OPEN"


def test_who_may_not_see_a_list_exports_nothing(client: Client) -> None:
    clerk = person("clerk")
    User.objects.filter(pk=clerk.pk).update(is_staff=True)
    client.force_login(clerk)

    assert act(client, "/admin/markets/event/", "export_csv", "7").status_code == 403


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label_lower)
def test_every_list_that_is_one_can_be_exported(operator: Client, model: Any) -> None:
    meta = model._meta
    way = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    body = operator.get(way, follow=True).content.decode()
    if 'name="action"' in body:
        assert 'value="export_csv"' in body and 'value="export_json"' in body
    page = PAGES.get(meta.label_lower)
    if page and 'id="changelist"' in body:
        assert f'href="{reverse(page)}">In the portal' in body


def test_pages_are_those_of_models_that_are_there() -> None:
    assert set(PAGES) <= {model._meta.label_lower for model in admin.site._registry}


# --- accounts and roles --------------------------------------------------------------


def test_the_list_says_what_each_person_may_do(
    operator: Client, django_assert_max_num_queries: Any
) -> None:
    person("dana", "trader", "analyst")
    for number in range(8):
        person(f"viewer-{number}", "viewer")

    with django_assert_max_num_queries(16):
        body = operator.get("/admin/auth/user/").content.decode()

    assert "analyst, trader" in body
    assert '<td class="field-people">8</td>' in operator.get("/admin/auth/group/").content.decode()


def test_a_new_account_and_its_roles_are_in_the_audit_chain(operator: Client) -> None:
    form = {"username": "dana", "usable_password": "false", "password1": "", "password2": ""}
    operator.post("/admin/auth/user/add/", form)
    dana = User.objects.get(username="dana")
    added = told_of("account.added")
    assert (added["subject"], added["roles"], added["is_staff"]) == ("account:dana", [], False)

    joined = {"date_joined_0": "2026-05-01", "date_joined_1": "12:00:00"}
    trader = Group.objects.get(name="trader")
    form = {"username": "dana", "is_active": "on", "groups": [trader.pk], **joined}
    assert operator.post(f"/admin/auth/user/{dana.pk}/change/", form).status_code == 302

    changed = told_of("account.changed")
    assert changed["roles"] == ["trader"]
    assert "Groups" in json.dumps(changed["changes"])


def test_a_password_that_is_set_is_told_and_not_its_words(operator: Client) -> None:
    dana = person("dana")
    secret = "a new and long secret"
    form = {"usable_password": "true", "password1": secret, "password2": secret}

    operator.post(f"/admin/auth/user/{dana.pk}/password/", form)

    dana.refresh_from_db()
    assert dana.check_password(secret)
    assert told_of("account.changed")["subject"] == "account:dana"
    assert secret not in json.dumps(list(AuditEntry.objects.values_list("data", flat=True)))


def test_an_account_that_is_removed_leaves_its_entry(operator: Client) -> None:
    dana = person("dana", "viewer")

    act(operator, "/admin/auth/user/", "delete_selected", dana.pk)
    assert User.objects.filter(pk=dana.pk).exists()
    form = {"action": "delete_selected", "_selected_action": dana.pk, "post": "yes"}
    operator.post("/admin/auth/user/", form)

    assert not User.objects.filter(pk=dana.pk).exists()
    assert told_of("account.removed")["roles"] == ["viewer"]


def test_a_changed_role_is_told_with_its_rights(operator: Client) -> None:
    viewer = Group.objects.get(name="viewer")
    operator.post(f"/admin/auth/group/{viewer.pk}/change/", {"name": "viewer", "permissions": []})

    told = told_of("role.changed")
    assert (told["subject"], told["rights"]) == ("role:viewer", [])


# --- how times are written -----------------------------------------------------------


def test_times_are_in_utc_in_an_order_that_sorts(operator: Client) -> None:
    cast.list_event(cast.view_of(0.30, 0.30, 0.30))
    Event.objects.update(seen_at=cast.START)

    assert "2026-05-01 12:00:00 UTC" in operator.get("/admin/markets/event/").content.decode()
