"""Who may see the pages of the desk: any role, as over the API; a login alone is not enough."""

from __future__ import annotations

import html

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from execution.models import OrderIntent
from risk import killswitch
from tests import portal_cast as cast
from tests.desk_cast import NOW, basket, person, prepare, show, suggested, trader

pytestmark = pytest.mark.django_db
ROLES = ("viewer", "analyst", "trader", "approver", "admin")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The desk's pages, one order among them."""
    prepare()
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    view, signal = basket()
    show(view)
    order = suggested(signal, trader("dana"))
    execute = f"/signals/{signal.key}/execute/"
    return ("/approvals/", "/intents/", f"/intents/{order.pk}/", "/positions/", "/risk/", execute)


def answers(client: Client, user: User, pages: tuple[str, ...]) -> set[int]:
    client.force_login(user)
    return {client.get(page).status_code for page in pages}


def test_every_role_sees_the_desk_and_so_does_a_superuser(
    client: Client, pages: tuple[str, ...]
) -> None:
    for role in ROLES:
        assert answers(client, person(f"one-{role}", role), pages) == {200}, role
    assert answers(client, cast.operator(), pages) == {200}


def test_a_login_without_a_role_is_told_what_it_takes(
    client: Client, pages: tuple[str, ...]
) -> None:
    assert answers(client, person("nobody"), pages) == {403}

    told = html.unescape(client.get("/positions/").content.decode())
    assert "a role of the desk: viewer, analyst, trader, approver or admin." in told
    assert client.get("/signals/").status_code == 200


def test_what_a_login_without_a_role_posts_is_refused(
    client: Client, pages: tuple[str, ...]
) -> None:
    client.force_login(person("nobody"))

    form = {"reason": "curious", "key": "k"}
    assert client.post("/risk/kill/", form, follow=True).status_code == 403
    assert client.post(f"{pages[2]}cancel/", form, follow=True).status_code == 403

    assert not killswitch.status().tripped
    assert OrderIntent.objects.get().status == "SUGGESTED"
