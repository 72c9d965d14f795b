"""The feed log and the accounts as the hub reads them, in the hub's own thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone

from alerts import feedlog
from alerts.feedlog import Place, Position
from alerts.models import FeedEntry
from mpx_site import feed_words as words
from mpx_site.feed_words import TOLD_IN_FULL, Message
from mpx_site.roles import SEE_DESK

BATCH = 200
REPLAY_MAX = 5_000
REPLAY_AGE = timedelta(minutes=10)
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


class Account(Protocol):
    """Whose permission is looked at again."""

    user_id: int | None
    session_key: str | None  # None: it came with a ticket


A = TypeVar("A", bound=Account)


class FeedLog:
    """The feed log in the database. Ids grow in commit order, so "after N" misses nothing."""

    def settle(self) -> Position:
        """See `feedlog.settle`; every channel has its place."""
        return feedlog.settle(TOLD_IN_FULL)

    def position(self) -> Position:
        return feedlog.position()

    def begin_epoch(self, channel: str, *, instead_of: str) -> None:
        feedlog.begin_epoch(channel, instead_of=instead_of)

    def after(self, last_id: int, epochs: Mapping[str, str]) -> list[tuple[int, Message]]:
        """Return the next entries of all topics, each with its id."""
        entries = FeedEntry.objects.filter(id__gt=last_id).order_by("id")[:BATCH]
        return [(entry.pk, message_of(entry, epochs.get(entry.topic, ""))) for entry in entries]

    def between(
        self, channel: str, *, after: int, place: Place, at: datetime
    ) -> list[Message] | None:
        """Return the entries after a number up to a place; None where one is gone or too old."""
        if place.seq - after > REPLAY_MAX:
            return None
        entries = FeedEntry.objects.filter(topic=channel, seq__gt=after, seq__lte=place.seq)
        found = [message_of(entry, place.epoch) for entry in entries.order_by("seq")]
        whole = len(found) == place.seq - after
        return found if whole and all(each.at >= at - REPLAY_AGE for each in found) else None

    def unwelcome(self, accounts: Iterable[A]) -> set[A]:
        """Return those whose session has ended or whose account was switched off."""
        asked = [each for each in accounts if each.user_id is not None]
        sessions = set(
            Session.objects.filter(
                session_key__in={each.session_key for each in asked if each.session_key},
                expire_date__gt=timezone.now(),
            ).values_list("session_key", flat=True)
        )
        users = set(
            User.objects.filter(
                pk__in={each.user_id for each in asked}, is_active=True
            ).values_list("pk", flat=True)
        )
        return {
            each
            for each in asked
            if each.user_id not in users
            or (each.session_key is not None and each.session_key not in sessions)
        }

    def see_the_desk(self) -> set[int]:
        """Return the accounts that may hear what the desk does."""
        allowed = User.objects.with_perm(SEE_DESK, backend=MODEL_BACKEND)
        return set(allowed.values_list("pk", flat=True))


def message_of(entry: FeedEntry, epoch: str) -> Message:
    return words.message(
        channel=entry.topic,
        kind=entry.kind,
        place=Place(epoch, entry.seq),
        at=entry.at,
        payload=entry.payload,
    )


def with_levels(messages: Iterable[Message], levels: dict[str, str]) -> list[Message]:
    """Give each change of a signal the level before it; `levels` is what is known by now."""
    found = []
    for message in messages:
        if message.channel != "signals":
            found.append(message)
            continue
        if message.before == words.UNKNOWN and message.key in levels:
            message = replace(message, before=levels[message.key])
        if message.kind == "closed":
            levels.pop(message.key, None)
        elif message.key:
            levels[message.key] = message.level
        found.append(message)
    return found
