"""One-use tickets for the live feed: who gets one, what it opens, and when it opens nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from alerts.models import FeedTicket
from mpx_site import feed_ticket
from mpx_site.feed_ticket import Holder

pytestmark = pytest.mark.django_db

OPEN_TO_ALL = {"signals", "quotes", "health"}
THE_DESKS = {"intents", "positions", "risk"}
PATH = "/api/v1/ws-ticket"


@pytest.fixture
def viewer() -> User:
    user = User.objects.create_user("viewer")
    user.user_permissions.add(Permission.objects.get(codename="view_orderintent"))
    return user


def test_ticket_opens_one_socket_for_what_its_holder_may_hear(viewer: User) -> None:
    stranger = User.objects.create_user("stranger")

    tickets = [feed_ticket.issue(viewer), feed_ticket.issue(stranger)]
    holders = [feed_ticket.redeem_now(ticket) for ticket in tickets]

    assert holders[0] is not None and holders[1] is not None
    assert (holders[0].user_id, set(holders[0].channels)) == (viewer.pk, OPEN_TO_ALL | THE_DESKS)
    assert (holders[1].user_id, set(holders[1].channels)) == (stranger.pk, OPEN_TO_ALL)
    assert [feed_ticket.redeem_now(ticket) for ticket in tickets] == [None, None]


def test_ticket_itself_is_not_kept(viewer: User) -> None:
    ticket = feed_ticket.issue(viewer)

    assert ticket not in str(FeedTicket.objects.values().get())


def test_ticket_is_good_for_thirty_seconds(viewer: User) -> None:
    late, early = feed_ticket.issue(viewer), feed_ticket.issue(viewer)
    now = timezone.now()
    left = FeedTicket.objects.get(pk=feed_ticket._hash(early)).expires_at - now
    assert timedelta(seconds=29) < left <= timedelta(seconds=30)
    FeedTicket.objects.filter(pk=feed_ticket._hash(late)).update(expires_at=now)

    assert feed_ticket.redeem_now(late) is None
    assert feed_ticket.redeem_now(early) is not None


def test_account_that_is_switched_off_meanwhile_opens_nothing(viewer: User) -> None:
    ticket = feed_ticket.issue(viewer)
    User.objects.update(is_active=False)

    assert feed_ticket.redeem_now(ticket) is None
    assert feed_ticket.redeem_now("") is None


def test_old_tickets_are_swept_when_one_is_given(viewer: User) -> None:
    feed_ticket.issue(viewer)
    FeedTicket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    feed_ticket.issue(viewer)

    assert FeedTicket.objects.count() == 1


def test_api_gives_a_ticket_to_whoever_is_logged_in(viewer: User, client: Client) -> None:
    client.force_login(viewer)
    answer = client.post(PATH)

    assert answer.status_code == 201
    told = answer.json()
    assert told["expires_in"] == 30
    assert feed_ticket.redeem_now(told["ticket"]) == Holder(viewer.pk, tuple(told["channels"]))


def test_api_gives_the_desks_token_what_needs_no_role(client: Client, settings: object) -> None:
    settings.ADMIN_API_TOKEN = "a-token-of-our-own"  # type: ignore[attr-defined]
    answer = client.post(PATH, headers={"X-API-Key": "a-token-of-our-own"})

    holder = feed_ticket.redeem_now(answer.json()["ticket"])
    assert holder is not None
    assert (holder.user_id, set(holder.channels)) == (None, OPEN_TO_ALL)


def test_api_gives_nothing_to_strangers_and_takes_no_parameters(
    viewer: User, client: Client
) -> None:
    assert client.post(PATH).status_code == 401
    assert client.post(PATH, headers={"X-API-Key": "wrong"}).status_code == 401
    client.force_login(viewer)
    assert client.post(f"{PATH}?for=ever").status_code == 400
    assert client.get(PATH).status_code == 405
    assert not FeedTicket.objects.exists()


def test_page_of_another_site_gets_no_ticket(viewer: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(viewer)

    assert strict.post(PATH).status_code == 403
