"""The server of `bench feed`: the desk's own application, with a yardstick beside it.

`/bench/group` is what a textbook does (a Channels consumer in a group); over
`/bench/control` the bench says what is to be told.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")

import django
from django.conf import settings

settings.CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels.layers.InMemoryChannelLayer",
        "CONFIG": {"capacity": 100_000},
    }
}
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from mpx_site import feed_line  # noqa: E402
from mpx_site.asgi import application as desk  # noqa: E402
from mpx_site.feed_line import DaphneLine  # noqa: E402
from mpx_site.feed_words import Told  # noqa: E402

GROUP = "bench"


class Counted(DaphneLine):
    """A line that counts how often all of its kind have written since something was ordered."""

    writes = 0

    def write(self, texts: Sequence[Told]) -> None:
        Counted.writes += 1
        super().write(texts)


feed_line.DaphneLine = Counted  # type: ignore[misc]  # on the server of this bench alone


def payload(number: int, size: int) -> dict[str, Any]:
    """Return what a change of a signal looks like, padded to some bytes."""
    told = {
        "key": f"bench{number % 50}",
        "rule": "DUTCH_BOOK_DETECT",
        "kind": "yes_basket",
        "level": "P2",
        "status": "OPEN",
        "event_title": "Who wins?",
        "edge_bps": "80.85",
    }
    return told | {"pad": "x" * max(0, size - len(json.dumps(told)))}


class Yardstick(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    groups = [GROUP]

    async def told(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class Control(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Does one thing at a time and says when it is done."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        asked = json.loads(text_data or "{}")
        what = asked.pop("do")
        if what == "group":
            await self._group(**asked)
        elif what == "feed":
            Counted.writes = 0
            await asyncio.to_thread(_write, **asked)
        await self.send(text_data=str(Counted.writes))

    async def _group(self, *, number: int, size: int, pause: float) -> None:
        layer = get_channel_layer()
        for seq in range(number):
            told = {"ch": GROUP, "t": "updated", "epoch": "bench", "seq": seq, "ts": time.time()}
            text = json.dumps(told | {"d": payload(seq, size)})
            await layer.group_send(GROUP, {"type": "told", "text": text})
            await asyncio.sleep(pause)


def _write(*, number: int, size: int, pause: float, together: int = 1) -> None:
    """Tell through the journal, `together` in one transaction."""
    from django.db import connection, transaction
    from django.utils import timezone

    from alerts import journal

    for batch in _batches(number, together):
        with transaction.atomic():
            for seq in batch:
                journal.tell(
                    topic="signals", kind="updated", payload=payload(seq, size), at=timezone.now()
                )
        time.sleep(pause)
    connection.close()


def _batches(number: int, together: int) -> Iterator[range]:
    for start in range(0, number, together):
        yield range(start, min(number, start + together))


yardsticks = URLRouter(
    [
        path("bench/group", Yardstick.as_asgi()),
        path("bench/control", Control.as_asgi()),
    ]
)


async def application(scope: Any, receive: Any, send: Any) -> None:
    ours = scope["type"] == "websocket" and scope["path"].startswith("/bench/")
    await (yardsticks if ours else desk)(scope, receive, send)


def prepare(users: int) -> None:
    """Make the tables and logged-in users of an empty desk; print their sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    from mpx_site.feed_log import MODEL_BACKEND

    call_command("migrate", verbosity=0)
    for number in range(users):
        user = User.objects.create(username=f"bench{number}")
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = MODEL_BACKEND
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        sys.stdout.write(f"{session.session_key}\n")


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
