"""Linking a Telegram account on the settings page, and unlinking it there and in the admin."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from alerts.models import AuditEntry
from mpx_site.bot import links
from mpx_site.bot.models import LinkCode, TelegramLink
from tests.bot_api import TOKEN
from tests.bot_cast import VERA, linked
from tests.desk_cast import person, prepare

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def desk(settings: Any) -> None:
    settings.TELEGRAM_ENABLED, settings.TELEGRAM_BOT_TOKEN = True, TOKEN
    prepare()


@pytest.fixture
def vera() -> User:
    return person("vera", "viewer")


@pytest.fixture
def page(client: Client, vera: User) -> Client:
    client.force_login(vera)
    return client


def words(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def test_a_code_is_shown_once_and_links_its_maker(page: Client, vera: User) -> None:
    assert "No account is linked." in words(page.get("/settings/"))

    answer = page.post("/settings/telegram/")

    (code,) = re.findall(r"/link (\w{4}-\w{4}-\w{4})", words(answer))
    assert answer["Cache-Control"].find("no-store") >= 0
    assert "/link" not in words(page.get("/settings/"))
    link = links.link(code, telegram_id=VERA, name=HOSTILE, at=timezone.now())
    assert link is not None
    assert link.user == vera
    shown = page.get("/settings/")
    assert f"{HOSTILE} (…{str(VERA)[-4:]})" in words(shown)
    assert HOSTILE not in shown.content.decode()


def test_only_ones_own_account_is_unlinked_and_that_is_on_record(page: Client, vera: User) -> None:
    other = linked(person("otto", "viewer"), 5)
    assert "No Telegram account is linked to you." in words(
        page.post("/settings/telegram/unlink/", follow=True)
    )
    linked(vera, VERA)

    answer = page.post("/settings/telegram/unlink/", follow=True)

    assert "does nothing here any more" in words(answer)
    assert list(TelegramLink.objects.all()) == [other]
    entry = AuditEntry.objects.get(kind="telegram.unlinked")
    assert (entry.actor, entry.subject) == ("vera", "account:vera")


def test_without_a_bot_no_code_is_made(page: Client, settings: Any) -> None:
    settings.TELEGRAM_BOT_TOKEN = ""

    shown, posted = page.get("/settings/"), page.post("/settings/telegram/", follow=True)

    assert "This desk has no bot" in words(shown)
    assert "Link an account" not in words(shown)
    assert "nothing would read the code" in words(posted)
    assert not LinkCode.objects.exists()


def test_looking_makes_no_code(page: Client) -> None:
    assert page.get("/settings/telegram/").status_code == 405
    assert not LinkCode.objects.exists()


def test_the_admin_shows_and_unlinks_and_makes_nothing(client: Client, vera: User) -> None:
    olga = User.objects.create_user("olga", is_staff=True)
    for codename in ("view_telegramlink", "delete_telegramlink"):
        olga.user_permissions.add(Permission.objects.get(codename=codename))
    client.force_login(olga)
    first, second = linked(vera, VERA), linked(person("otto", "viewer"), 5)
    pages = "/admin/mpx_site/telegramlink/"

    assert str(VERA)[-4:] in words(client.get(pages))
    assert client.get(f"{pages}add/").status_code == 403
    client.post(f"{pages}{first.pk}/delete/", {"post": "yes"})
    client.post(pages, {"action": "delete_selected", "_selected_action": second.pk, "post": "yes"})

    assert not TelegramLink.objects.exists()
    assert list(
        AuditEntry.objects.filter(kind="telegram.unlinked")
        .order_by("id")
        .values_list("actor", "subject")
    ) == [("olga", "account:vera"), ("olga", "account:otto")]


def test_the_admin_role_may_unlink_and_no_other(vera: User) -> None:
    rights = {"mpx_site.view_telegramlink", "mpx_site.delete_telegramlink"}
    holders = [
        name
        for name in ("viewer", "analyst", "trader", "approver", "admin")
        if rights & person(f"a-{name}", name).get_all_permissions()
    ]
    assert holders == ["admin"]
    assert rights <= person("olga", "admin").get_all_permissions()
