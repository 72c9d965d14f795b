"""A person's settings: looks, saved views, sessions and API tokens, each only their own."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from alerts.models import AuditEntry
from mpx_site import api_token_book as book
from mpx_site.models import ApiToken
from mpx_site.portal import views_saved
from mpx_site.portal.settings_sessions import browser_of, sessions_of
from mpx_site.preferences import Preference
from tests import portal_cast as cast
from tests.desk_cast import person
from tests.portal_cast import PASSWORD

pytestmark = pytest.mark.django_db
QUERIES = 14
HOSTILE = '</bdi><script>alert(1)</script>\u202e"=cmd()'
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def vera() -> User:
    return person("vera", "viewer")


@pytest.fixture
def page(client: Client, vera: User) -> Client:
    client.force_login(vera)
    return client


def words(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def keep(page: Client, name: str, path: str = "/intents/", query: str = "status=open") -> Any:
    form = {"name": name, "path": path, "query": query}
    return page.post("/settings/views/", form, follow=True)


# --- saved views ---------------------------------------------------------------------


def test_a_view_brings_its_filters_back_and_shows_on_its_list(page: Client) -> None:
    answer = keep(page, "mine", query="status=open&kind=&page=3&format=csv")

    assert answer.redirect_chain == [("/intents/?status=open", 303)]
    assert "The view “mine” is kept." in words(answer)
    assert 'href="/intents/?status=open"><bdi>mine</bdi>' in answer.content.decode()
    assert "mine" not in words(page.get("/audit/", follow=True))
    assert "mine" in words(page.get("/settings/"))


def test_a_name_that_had_a_view_gets_the_new_one(page: Client, vera: User) -> None:
    keep(page, "mine")
    keep(page, "mine", query="status=FILLED")

    (view,) = views_saved.views_of(vera)
    assert view.address == "/intents/?status=FILLED"


@pytest.mark.parametrize(
    "path",
    ["/nowhere/", "//evil.example/intents/", "https://evil.example/", "/admin/", "/api/v1/signals"],
)
def test_only_pages_of_the_portal_can_be_kept(page: Client, path: str) -> None:
    assert "The view was not kept." in words(keep(page, "bad", path=path))
    assert not Preference.objects.exists()


def test_views_are_counted_and_bounded(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views_saved, "MOST", 1)
    keep(page, "first")

    assert "delete one first" in words(keep(page, "second"))
    assert Preference.objects.count() == 1


def test_nobody_sees_or_deletes_the_views_of_others(page: Client, client: Client) -> None:
    keep(page, "secret plan")
    kept = Preference.objects.get()

    client.force_login(person("otto", "viewer"))

    assert "secret plan" not in words(client.get("/intents/"))
    client.post("/settings/views/delete/", {"number": kept.pk})
    assert Preference.objects.filter(pk=kept.pk).exists()


def test_own_view_is_deleted_once(page: Client) -> None:
    keep(page, "mine")
    form = {"number": Preference.objects.get().pk}

    assert "The view is deleted." in words(page.post("/settings/views/delete/", form, follow=True))
    assert "deleted before" in words(page.post("/settings/views/delete/", form, follow=True))
    assert page.post("/settings/views/delete/", {"number": "x"}).status_code == 303


def test_a_hostile_name_is_text(page: Client) -> None:
    keep(page, HOSTILE, query="q=<script>")

    for address in ("/settings/", "/intents/"):
        assert "<script>alert" not in page.get(address).content.decode()
    assert HOSTILE in words(page.get("/settings/"))


# --- looks ---------------------------------------------------------------------------


def test_looks_count_here_at_once_and_elsewhere_from_the_next_login_on(
    page: Client, vera: User
) -> None:
    page.post("/settings/looks/", {"theme": "dark", "zone": "local"})

    assert 'data-theme="dark" data-zone="local"' in page.get("/markets/").content.decode()
    other = Client()
    assert 'data-theme="auto" data-zone="utc"' in other.get("/login/").content.decode()
    other.force_login(vera)
    assert 'data-theme="dark" data-zone="local"' in other.get("/markets/").content.decode()


def test_looks_that_are_not_offered_change_nothing(page: Client) -> None:
    answer = page.post("/settings/looks/", {"theme": '"><script>', "zone": "utc"}, follow=True)

    assert "Nothing was changed" in words(answer)
    assert not Preference.objects.exists()


# --- sessions ------------------------------------------------------------------------


def log_in(username: str, agent: str = FIREFOX) -> Client:
    """Log in through the page, as somebody with this browser does."""
    user = User.objects.get(username=username)
    if not user.has_usable_password():  # a new one would end the sessions that there are
        user.set_password(PASSWORD)
        user.save()
    client = Client(headers={"user-agent": agent})
    client.post("/login/", {"username": username, "password": PASSWORD})
    return client


def test_sessions_tell_browser_and_start_and_never_their_key(vera: User) -> None:
    here = log_in("vera")
    log_in("vera", "curl/8 \u202e<script>")
    person("otto", "viewer")
    log_in("otto")

    answer = here.get("/settings/")

    found = sessions_of(vera, here=here.session.session_key, at=timezone.now())
    assert [(each.here, each.browser, each.address) for each in found] == [
        (True, "Firefox on Linux", "127.0.0.1"),
        (False, "curl/8 \u202e<script>", "127.0.0.1"),
    ]
    assert "Firefox on Linux ● this one" in words(answer)
    assert "<script>" not in re.sub(r"<script [^>]*src=", "", answer.content.decode())
    assert not [each for each in found if each.key in answer.content.decode()]


def test_others_are_logged_out_and_this_one_stays(vera: User) -> None:
    here, elsewhere = log_in("vera"), log_in("vera")
    person("otto", "viewer")
    otto = log_in("otto")

    answer = here.post("/settings/sessions/end/", {"which": "others"}, follow=True)

    assert "Logged out in 1 other browser." in words(answer)
    assert elsewhere.get("/settings/").status_code == 302
    assert otto.get("/settings/").status_code == 200


def test_everywhere_is_everywhere(vera: User) -> None:
    here, elsewhere = log_in("vera"), log_in("vera")

    assert here.post("/settings/sessions/end/", {"which": "all"})["Location"] == "/login/"

    assert here.get("/settings/").status_code == elsewhere.get("/settings/").status_code == 302
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1", "Safari on iPhone"),
        ("", "unknown"),
    ],
)
def test_browsers_are_named_by_what_they_say(agent: str, name: str) -> None:
    assert browser_of(agent) == name


# --- tokens --------------------------------------------------------------------------


def test_a_token_is_shown_once_and_opens_what_it_says(page: Client, vera: User) -> None:
    form = {"name": "report", "scopes": ["read"], "days": "7"}
    answer = page.post("/settings/tokens/", form)

    (text,) = re.findall(r"mpx_[a-z0-9]{8}_[\w-]{43}", answer.content.decode())
    assert book.holder_of(text, at=timezone.now()).user == vera
    assert answer["Cache-Control"].find("no-store") >= 0
    assert text not in page.get("/settings/").content.decode()
    assert AuditEntry.objects.get(kind="token.created").actor == "vera"


def test_a_token_takes_a_name_a_scope_and_the_right_behind_it(page: Client) -> None:
    form = {"name": "", "scopes": ["intents:approve"], "days": "0"}
    answer = page.post("/settings/tokens/", form)

    assert answer.status_code == 422
    told = words(answer)
    assert "This field is required." in told
    assert "You have no right that intents:approve would use." in told
    assert "greater than or equal to 1" in told
    assert not ApiToken.objects.exists()


def test_only_own_tokens_are_revoked(page: Client, vera: User) -> None:
    at = timezone.now()
    own, _ = book.make(vera, name=HOSTILE, scopes=["read"], days=1, at=at)
    other, _ = book.make(person("otto", "viewer"), name="o", scopes=["read"], days=1, at=at)

    page.post("/settings/tokens/revoke/", {"number": other.pk})
    answer = page.post("/settings/tokens/revoke/", {"number": own.pk}, follow=True)

    assert f"The token “{HOSTILE}” opens nothing any more." in words(answer)
    assert "<script>alert" not in answer.content.decode()
    assert [each.state(at) for each in (*book.of(vera), *book.of(other.user))] == [
        "revoked",
        "live",
    ]


# --- the page ------------------------------------------------------------------------


def test_the_page_asks_as_much_however_much_there_is(
    vera: User, django_assert_num_queries: Any
) -> None:
    page = log_in("vera")
    with django_assert_num_queries(QUERIES):
        page.get("/settings/")
    for number in range(5):
        keep(page, f"view {number}")
        book.make(vera, name="n", scopes=["read"], days=1, at=timezone.now())
        log_in("vera")

    with django_assert_num_queries(QUERIES):
        answer = page.get("/settings/")

    assert "view 4" in words(answer)


def test_an_operator_without_role_has_settings_too(client: Client) -> None:
    client.force_login(cast.operator())
    assert "superuser" in words(client.get("/settings/"))
