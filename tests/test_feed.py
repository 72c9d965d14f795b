"""The live feed in one process: what a client hears, in which order, and when it is let go."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError, transaction

from alerts import journal
from alerts.models import FeedEntry
from mpx_site import feed
from mpx_site.feed import Ahead, FeedConsumer, FeedLog, Hub, Message, message_of

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class MemoryLog(FeedLog):
    """A feed log without a database; may be told to fail or to keep a reader waiting."""

    def __init__(self) -> None:
        self.entries: list[Message] = []
        self.failures = 0
        self.asked = 0
        self.gap = False
        self.hold: threading.Event | None = None
        self.logged_out: set[Any] = set()

    def add(self, number: int = 1, *, topic: str = "signals", size: int = 0) -> None:
        for _ in range(number):
            entry = FeedEntry(
                id=len(self.entries) + 1,
                topic=topic,
                kind="opened",
                at=NOON,
                payload={"key": "k", "pad": "x" * size},
            )
            self.entries.append(message_of(entry))

    def position(self) -> int:
        return len(self.entries)

    def after(self, seq: int) -> list[Message]:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise OperationalError("gone")
        return self.entries[seq : seq + feed.BATCH]

    def missed(
        self, channel: str, *, after: int, upto: int, at: datetime
    ) -> tuple[Message, ...] | None:
        if self.hold:
            assert self.hold.wait(5)
        return None if self.gap else tuple(self.entries[after:upto])

    def unwelcome(self, clients: Iterable[feed.Client]) -> set[feed.Client]:
        return {client for client in clients if client.user_id in self.logged_out}


@dataclass
class Viewer:
    pk: int = 1
    is_authenticated: bool = True


@dataclass
class Session:
    session_key: str = "s"


class Socket(WebsocketCommunicator):
    """A client. `inbox` bounds what it takes without reading; None takes everything."""

    def __init__(self, hub: Hub, *, user: object = None, inbox: int | None = None) -> None:
        super().__init__(FeedConsumer.as_asgi(hub=hub), "/ws/v1/feed")
        self.scope |= {"user": user or Viewer(), "session": Session()}
        self._output_queue = asyncio.Queue(inbox or 0)

    async def say(self, **told: object) -> None:
        await self.send_json_to(told)

    async def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = await self.receive_json_from(timeout=3)
        return heard

    async def hear_seqs(self, number: int) -> list[int]:
        return [(await self.hear())["seq"] for _ in range(number)]

    async def closed(self) -> int:
        """Return the code of the close, past anything said before it."""
        while True:
            output = await self.receive_output(timeout=3)
            if output["type"] == "websocket.close":
                return int(output["code"])


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def hub(log: MemoryLog) -> Hub:
    """A hub that looks only when it is woken, as if everybody wrote in this process."""
    return Hub(log, poll_seconds=60, beat_seconds=60, check_seconds=60)


@asynccontextmanager
async def connected(hub: Hub, **given: Any) -> AsyncIterator[Socket]:
    socket = Socket(hub, **given)
    accepted, _ = await socket.connect(timeout=3)
    assert accepted
    try:
        yield socket
    finally:
        await socket.disconnect(timeout=3)


async def until(condition: Callable[[], bool], *, seconds: float = 3) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_anonymous_is_told_why_it_is_closed(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub, user=AnonymousUser()) as socket:
        assert await socket.closed() == 4401
        await socket.say(op="subscribe", channel="signals")
        assert await socket.receive_nothing()

    assert log.asked == 0


async def test_subscriber_hears_what_comes_after_the_acknowledgement(
    hub: Hub, log: MemoryLog
) -> None:
    log.add(3)
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals", after=None)
        assert await socket.hear() == {"op": "ack", "channel": "signals", "seq": 3}

        log.add()
        hub.wake()

        assert await socket.hear() == {
            "ch": "signals",
            "t": "opened",
            "seq": 4,
            "ts": "2026-05-01T12:00:00Z",
            "d": {"key": "k", "pad": ""},
        }


async def test_client_without_a_subscription_hears_no_signals(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as silent, connected(hub) as eager:
        await eager.say(op="subscribe", channel="signals")
        await eager.hear()

        log.add()
        hub.wake()

        await eager.hear()
        assert await silent.receive_nothing()


async def test_other_topics_move_the_place_but_are_not_told(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals")
        await socket.hear()
        log.add(topic="intents")
        log.add()
        log.add(topic="intents")
        hub.wake()

        assert await socket.hear_seqs(1) == [2]
        assert (hub.seq, hub.seqs) == (3, {"signals": 2})


async def test_resuming_client_hears_each_entry_once_even_while_more_arrive(
    hub: Hub, log: MemoryLog
) -> None:
    log.add(5)
    async with connected(hub, inbox=1) as socket:
        await socket.say(op="subscribe", channel="signals", after=2)
        await until(socket.output_queue.full)  # the replay is under way
        log.add(4)
        hub.wake()
        await until(lambda: hub.seq == 9)

        assert await socket.hear_seqs(8) == [5, 3, 4, 5, 6, 7, 8, 9]  # 5: the acknowledgement
        assert await socket.receive_nothing()


async def test_what_cannot_be_replayed_is_announced_before_the_live_messages(
    hub: Hub, log: MemoryLog
) -> None:
    log.add(5)
    log.gap = True
    log.hold = threading.Event()
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals", after=1)
        assert (await socket.hear())["op"] == "ack"
        log.add()
        hub.wake()
        threading.Timer(0.05, log.hold.set).start()

        assert await socket.hear() == {"op": "gap", "channel": "signals"}
        assert await socket.hear_seqs(1) == [6]


async def test_heartbeat_tells_the_newest_entry_of_each_channel(log: MemoryLog) -> None:
    log.add(7)
    hub = Hub(log, poll_seconds=0.01, beat_seconds=0.02)
    async with connected(hub) as socket:
        beat = await socket.hear()

    assert beat.pop("ts").endswith("Z")
    assert beat == {"op": "hb", "seq": {"signals": 7}}


REFUSED = [
    ("{", "bad_json"),
    ('{"op":"shout","deep":' + "[" * 4_000, "bad_json"),
    ("\x00", "bad_json"),
    ("[]", "bad_request"),
    ('{"op":"subscribe","channel":7}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","after":-1}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","after":"1"}', "bad_request"),
    ('{"channel":"signals"}', "bad_request"),
    ('{"op":"shout"}', "unknown_op"),
    ('{"op":"subscribe"}', "unknown_channel"),
    ('{"op":"subscribe","channel":"prices"}', "unknown_channel"),
]


@pytest.mark.parametrize(("text", "code"), REFUSED)
async def test_what_is_not_understood_is_answered_and_the_socket_stays_usable(
    hub: Hub, text: str, code: str
) -> None:
    async with connected(hub) as socket:
        await socket.send_to(text_data=text)

        error = await socket.hear()
        assert (error["op"], error["code"]) == ("error", code)
        assert error["detail"]
        await socket.say(op="subscribe", channel="signals", later="unknown fields are fine")
        assert (await socket.hear())["op"] == "ack"


async def test_bytes_are_refused(hub: Hub) -> None:
    async with connected(hub) as socket:
        await socket.send_to(bytes_data=b"{}")

        assert (await socket.hear())["code"] == "bad_json"


async def test_second_subscription_is_refused_and_nothing_is_told_twice(
    hub: Hub, log: MemoryLog
) -> None:
    log.add(2)
    async with connected(hub) as socket:
        for _ in range(2):
            await socket.say(op="subscribe", channel="signals", after=0)

        assert await socket.hear_seqs(3) == [2, 1, 2]  # the acknowledgement, the entries
        assert (await socket.hear())["code"] == "already_subscribed"
        log.add()
        hub.wake()
        assert await socket.hear_seqs(1) == [3]


@pytest.mark.parametrize(("size", "refused"), [(4_096, False), (4_097, True)])
async def test_frame_above_4_kb_closes(hub: Hub, size: int, refused: bool) -> None:
    frame = json.dumps({"op": "shout", "pad": ""})
    frame = frame.replace('""', '"' + "x" * (size - len(frame)) + '"')
    async with connected(hub) as socket:
        await socket.send_to(text_data=frame)

        if refused:
            assert await socket.closed() == 4413
        else:
            assert (await socket.hear())["code"] == "unknown_op"


async def test_frame_is_measured_in_bytes(hub: Hub) -> None:
    async with connected(hub) as socket:
        await socket.send_to(text_data="é" * 2_049)

        assert await socket.closed() == 4413


async def test_more_than_20_messages_a_second_close(hub: Hub) -> None:
    async with connected(hub) as socket:
        for _ in range(20):
            await socket.say(op="shout")
        for _ in range(20):
            assert (await socket.hear())["op"] == "error"
        await socket.say(op="shout")

        assert await socket.closed() == 4429


async def test_client_that_does_not_read_is_let_go_and_others_hear_everything(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub, inbox=2) as stuck, connected(hub) as brisk:
        for socket in (stuck, brisk):
            await socket.say(op="subscribe", channel="signals")
        await brisk.hear()
        await until(lambda: stuck.output_queue.qsize() == 1)

        log.add(feed.WAITING_MAX + 10)
        hub.wake()

        assert await brisk.hear_seqs(feed.WAITING_MAX + 10) == list(range(1, feed.WAITING_MAX + 11))
        assert await stuck.closed() == 4408
        log.add()
        hub.wake()
        assert await brisk.hear_seqs(1) == [feed.WAITING_MAX + 11]


async def test_flood_to_one_socket_is_held_back_before_it_can_fill_the_servers_memory(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub) as socket:  # takes everything, as daphne's buffer does
        await socket.say(op="subscribe", channel="signals")
        await socket.hear()
        log.add(600, size=10_000)
        hub.wake()

        await until(lambda: hub.seq == 600)
        await until(lambda: socket.output_queue.qsize() >= feed.AHEAD_BYTES // 10_100)
        written = socket.output_queue.qsize() * 10_000

        assert written < feed.AHEAD_BYTES + feed.AHEAD_BYTES_PER_SECOND


def test_writing_ahead_is_free_up_to_a_limit_and_then_paced() -> None:
    ahead = Ahead()

    assert ahead.delay(feed.AHEAD_BYTES, at=100.0) == 0
    assert ahead.delay(feed.AHEAD_BYTES_PER_SECOND, at=100.0) == 1.0
    assert ahead.delay(feed.AHEAD_BYTES_PER_SECOND, at=101.0) == 1.0
    assert ahead.delay(10, at=1_000.0) == 0


async def test_wake_is_heard_from_another_thread(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals")
        await socket.hear()

        log.add()
        await asyncio.to_thread(hub.wake)

        assert await socket.hear_seqs(1) == [1]


async def test_without_a_wake_the_log_is_polled(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals")
        await socket.hear()
        log.add()

        assert await socket.hear_seqs(1) == [1]


async def test_database_that_comes_back_costs_no_message(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.01)
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals")
        await socket.hear()
        log.failures = 3
        log.add(2)

        assert await socket.hear_seqs(2) == [1, 2]
        assert log.failures == 0


async def test_one_text_serves_all_clients(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as one, connected(hub) as other:
        for socket in (one, other):
            await socket.say(op="subscribe", channel="signals")
            await socket.hear()
        log.add()
        hub.wake()

        assert await one.receive_from() is await other.receive_from()


async def test_hub_rests_when_nobody_listens_and_starts_again_where_the_log_is(
    log: MemoryLog,
) -> None:
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub):
        await until(lambda: log.asked > 2)
    await until(lambda: "feed hub" not in {task.get_name() for task in asyncio.all_tasks()})
    asked = log.asked
    log.add(3)
    hub.wake()
    await asyncio.sleep(0.05)
    assert log.asked == asked

    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals")
        assert (await socket.hear())["seq"] == 3


async def test_who_logged_out_is_closed(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01, check_seconds=0.02)
    async with connected(hub, user=Viewer(pk=1)) as gone, connected(hub, user=Viewer(pk=2)) as here:
        log.logged_out = {1}

        assert await gone.closed() == 4401
        await here.say(op="subscribe", channel="signals")
        assert (await here.hear())["op"] == "ack"


async def test_hub_that_breaks_lets_its_clients_go_so_that_they_come_back(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:

        def breaks(seq: int) -> list[Message]:
            raise ZeroDivisionError

        monkeypatch.setattr(log, "after", breaks)

        assert await socket.closed() == 4500
        task = hub._task
        assert task is not None
        with pytest.raises(ZeroDivisionError):
            await task


# The log in the database


def an_entry(at: datetime = NOON, *, topic: str = "signals") -> FeedEntry:
    return FeedEntry.objects.create(topic=topic, kind="opened", at=at, payload={"key": "k"})


def missed(after: int, upto: int, *, at: datetime = NOON) -> list[int] | None:
    found = FeedLog().missed("signals", after=after, upto=upto, at=at)
    return None if found is None else [message.seq for message in found]


@pytest.mark.django_db
def test_log_tells_its_end_and_what_follows_a_place() -> None:
    assert FeedLog().position() == 0
    first, second, third = an_entry(), an_entry(topic="intents"), an_entry()

    assert FeedLog().position() == third.pk
    assert [m.seq for m in FeedLog().after(first.pk)] == [second.pk, third.pk]


@pytest.mark.django_db
def test_journal_entry_becomes_the_message_on_the_wire() -> None:
    at = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    with transaction.atomic():
        entry = journal.tell(topic="signals", kind="closed", payload={"key": "ü"}, at=at)

    [message] = FeedLog().after(0)

    assert json.loads(message.text) == {
        "ch": "signals",
        "t": "closed",
        "seq": entry.pk,
        "ts": "2026-05-01T12:00:00.123456Z",
        "d": {"key": "ü"},
    }


@pytest.mark.django_db
def test_missed_entries_of_the_channel_are_made_good_up_to_the_place_of_the_subscription() -> None:
    first, _, third, fourth = an_entry(), an_entry(topic="intents"), an_entry(), an_entry()

    assert missed(first.pk, third.pk) == [third.pk]
    assert missed(fourth.pk, fourth.pk) == []


@pytest.mark.django_db
def test_missed_entries_that_are_too_old_are_a_gap() -> None:
    first = an_entry()
    an_entry(NOON)
    last = an_entry(NOON + timedelta(minutes=9))

    assert missed(first.pk, last.pk, at=NOON + timedelta(minutes=10)) is not None
    assert missed(first.pk, last.pk, at=NOON + timedelta(minutes=10, seconds=1)) is None


@pytest.mark.django_db
def test_more_than_a_thousand_missed_entries_are_a_gap() -> None:
    first = an_entry()
    FeedEntry.objects.bulk_create(
        FeedEntry(topic="signals", kind="updated", at=NOON, payload={}) for _ in range(1_001)
    )
    last = FeedLog().position()

    assert len(missed(first.pk, last - 1) or []) == 1_000
    assert missed(first.pk, last) is None


@pytest.mark.django_db
def test_pruned_entries_are_a_gap() -> None:
    heard, pruned, kept = an_entry(), an_entry(), an_entry()
    pruned_pk = pruned.pk
    FeedEntry.objects.filter(pk__lte=pruned_pk).delete()

    assert missed(heard.pk, kept.pk) is None
    assert missed(pruned_pk, kept.pk) == [kept.pk]


@pytest.mark.django_db
def test_place_that_the_log_never_reached_is_a_gap() -> None:
    last = an_entry()

    assert missed(last.pk + 5, last.pk) is None
    FeedEntry.objects.all().delete()
    assert missed(last.pk, 0) is None


@pytest.mark.django_db
def test_welcome_ends_with_the_session_or_the_account() -> None:
    def client_of(name: str, *, expired: bool = False, active: bool = True) -> FeedConsumer:
        session = SessionStore()
        session.set_expiry(-60 if expired else 60)
        session.create()
        consumer = FeedConsumer(Hub(FeedLog()))
        consumer.user_id = User.objects.create_user(name, is_active=active).pk
        consumer.session_key = session.session_key
        return consumer

    here = client_of("here")
    logged_out = client_of("logged-out")
    SessionStore(logged_out.session_key).flush()
    expired = client_of("expired", expired=True)
    switched_off = client_of("switched-off", active=False)

    found = FeedLog().unwelcome([here, logged_out, expired, switched_off])

    assert found == {logged_out, expired, switched_off}


@pytest.mark.django_db
def test_hub_wakes_when_an_entry_is_committed_and_not_before(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    seen: list[int] = []

    class Listener:
        def wake(self) -> None:
            seen.append(FeedEntry.objects.count())

    monkeypatch.setattr(feed, "hub", Listener())

    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        an_entry()
        assert seen == []

    assert seen == [1]
