"""One-use tickets for the live feed: how a program without cookie and Origin opens a socket."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Protocol

from channels.db import database_sync_to_async
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.models import FeedTicket
from mpx_site.api_answers import NoQuery, asked
from mpx_site.api_login import DeskSession, OwnToken
from mpx_site.api_token import TokenLogin
from mpx_site.api_view import ApiView
from mpx_site.feed_line import Application, Receive, Send
from mpx_site.feed_words import CHANNELS
from mpx_site.models import Scope

TICKET_LIVES = timedelta(seconds=30)


class Caller(Protocol):
    pk: int | None

    def has_perm(self, permission: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Who came with a ticket; no user for the desk's own token."""

    user_id: int | None
    channels: tuple[str, ...]


def issue(caller: Caller) -> str:
    """Return a ticket that is good once, for 30 s, for what the caller may hear."""
    ticket, now = secrets.token_urlsafe(32), timezone.now()
    FeedTicket.objects.filter(expires_at__lte=now).delete()
    FeedTicket.objects.create(
        hash=_hash(ticket),
        user_id=caller.pk,
        channels=list(hearable_now(caller)),
        expires_at=now + TICKET_LIVES,
    )
    return ticket


def redeem_now(ticket: str) -> Holder | None:
    """Use a ticket up; None if it is unknown, used, expired or its account switched off."""
    row = FeedTicket.objects.filter(pk=_hash(ticket), expires_at__gt=timezone.now())
    found = row.values_list("user_id", "user__is_active", "channels").first()
    deleted, _rows = row.delete()  # of two who come at once, one deletes it
    if found is None or not deleted:
        return None
    user_id, is_active, channels = found
    if user_id is not None and not is_active:
        return None
    return Holder(user_id, tuple(channels))


def hearable_now(caller: Caller) -> tuple[str, ...]:
    return tuple(name for name, needs in CHANNELS.items() if not needs or caller.has_perm(needs))


redeem = database_sync_to_async(redeem_now)
hearable = database_sync_to_async(hearable_now)


def _hash(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()


def tickets_or(by_login: Application, *, by_ticket: Application) -> Application:
    """Let a ticket stand in for the Origin of a page; an Origin that is sent must be ours."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        has_origin = any(name == b"origin" for name, _ in scope["headers"])
        has_ticket = b"ticket=" in scope["query_string"]
        chosen = by_ticket if has_ticket and not has_origin else by_login
        await chosen(scope, receive, send)

    return app


class TicketRow(serializers.Serializer[Any]):
    ticket = serializers.CharField(help_text="Connect to /ws/v1/feed?ticket=... with it, once.")
    expires_in = serializers.IntegerField(help_text="Seconds.")
    channels = serializers.ListField(child=serializers.CharField(), help_text="What it opens.")


class WsTicket(ApiView):
    """A one-use ticket for a socket of the live feed."""

    authentication_classes = (OwnToken, TokenLogin, DeskSession)
    scopes = {"POST": (Scope.READ,)}

    @extend_schema(
        operation_id="ws_ticket",
        request=None,
        responses={201: TicketRow},
    )
    def post(self, request: Request) -> Response:
        asked(request, NoQuery)
        caller: Any = request.user
        row = {
            "ticket": issue(caller),
            "expires_in": int(TICKET_LIVES.total_seconds()),
            "channels": hearable_now(caller),
        }
        return Response(row, status=HTTPStatus.CREATED)
