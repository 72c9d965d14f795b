"""The live feed in one process: what a client hears, in which order, and when it is let go."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction

from alerts import feedlog, journal
from alerts.feedlog import Place
from alerts.models import FeedEntry, FeedHead
from mpx_site import feed, feed_hub, feed_listener, feed_log, feed_ticket, feed_wake
from mpx_site.feed_hub import Hub
from mpx_site.feed_listener import Listener
from mpx_site.feed_log import FeedLog
from mpx_site.feed_words import Message
from tests.feed_memory import (
    NOON,
    MemoryLog,
    Viewer,
    connected,
    hearable_without_database,
    until,
)


@pytest.fixture(autouse=True)
def rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_ticket, "hearable", hearable_without_database)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def hub(log: MemoryLog) -> Hub:
    """A hub that looks only when it is woken, as if everybody wrote in this process."""
    return Hub(log, poll_seconds=60, beat_seconds=60, check_seconds=60)


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
        ack = await socket.subscribe(req=7)
        assert ack == {"op": "ack", "channel": "signals", "epoch": "e1", "seq": 3,
                       "mode": "live", "req": 7}  # fmt: skip

        log.add()
        hub.wake()

        assert await socket.hear() == {
            "ch": "signals",
            "t": "opened",
            "epoch": "e1",
            "seq": 4,
            "ts": "2026-05-01T12:00:00Z",
            "d": {"key": "k", "pad": ""},
        }


async def test_client_without_a_subscription_hears_no_signals(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as silent, connected(hub) as eager:
        await eager.subscribe()

        log.add()
        hub.wake()

        await eager.hear()
        assert await silent.receive_nothing()


async def test_each_channel_counts_for_itself(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.subscribe()
        await socket.subscribe("intents")
        log.add(2, topic="intents")
        log.add()
        log.add(topic="elsewhere")
        log.add(topic="intents")
        hub.wake()

        heard = [await socket.hear() for _ in range(4)]
        assert [(each["ch"], each["seq"]) for each in heard] == [
            ("intents", 1), ("intents", 2), ("signals", 1), ("intents", 3)
        ]  # fmt: skip


async def test_resuming_client_hears_each_entry_once_even_while_more_arrive(
    hub: Hub, log: MemoryLog
) -> None:
    log.add(5)
    log.hold = threading.Event()
    async with connected(hub) as socket:
        await socket.say(op="subscribe", channel="signals", resume={"epoch": "e1", "seq": 2})
        log.add(4)
        hub.wake()
        await asyncio.sleep(0.05)
        log.hold.set()

        ack = await socket.hear()
        assert ack["mode"] == "replay"
        assert await socket.hear_seqs(7) == [3, 4, 5, 6, 7, 8, 9]
        assert await socket.receive_nothing()


GAPS = [
    ({"epoch": "e1", "seq": 1}, 2),
    ({"epoch": "other", "seq": 1}, None),
    ({"epoch": "other", "seq": 5}, None),
    ({"epoch": "e1", "seq": 99}, None),
]


@pytest.mark.parametrize(("resume", "first"), GAPS)
async def test_what_cannot_be_replayed_is_announced_before_the_live_messages(
    hub: Hub, log: MemoryLog, resume: dict[str, Any], first: int | None
) -> None:
    log.add(5)
    del log.entries[:3]  # pruned
    async with connected(hub) as socket:
        assert (await socket.subscribe(resume=resume))["mode"] == "gap"
        log.add()
        hub.wake()

        assert await socket.hear() == {
            "op": "gap", "channel": "signals", "epoch": "e1", "seq": 5, "from": first, "to": 5
        }  # fmt: skip
        assert await socket.hear_seqs(1) == [6]


async def test_heartbeat_comes_after_all_that_it_names(log: MemoryLog) -> None:
    log.add(7)
    hub = Hub(log, poll_seconds=0.01, beat_seconds=0.02)
    async with connected(hub) as socket:
        beat = await socket.hear()

    assert beat.pop("ts").endswith("Z")
    assert beat["op"] == "hb"
    assert (beat["epoch"]["signals"], beat["seq"]["signals"]) == ("e1", 7)
    assert set(beat["seq"]) == {"signals", "intents", "positions", "risk"}


async def test_filter_tells_what_enters_and_leaves_it_and_names_what_it_hides(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub) as socket:
        await socket.subscribe(filter={"level": ["P1"], "rule": ["A"]})
        for kind, key, rule, level in [
            ("opened", "a", "A", "P2"),
            ("opened", "b", "B", "P1"),
            ("updated", "a", "A", "P1"),
            ("updated", "a", "A", "P3"),
            ("closed", "a", "A", "P3"),
        ]:
            log.tell(kind, {"key": key, "rule": rule, "level": level})
        hub.wake()

        skip = await socket.hear()
        assert (skip["op"], skip["from"], skip["to"], skip["seq"]) == ("skip", 1, 2, 2)
        heard = [await socket.hear() for _ in range(2)]
        assert [(each["seq"], each["d"]["level"]) for each in heard] == [(3, "P1"), (4, "P3")]
        assert await socket.receive_nothing()


async def test_what_a_filter_hides_is_named_before_the_next_heartbeat(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01, beat_seconds=0.1)
    async with connected(hub) as socket:
        await socket.subscribe(filter={"level": ["P1"]})
        log.tell("opened", {"key": "a", "level": "P3"})

        while (heard := await socket.hear())["op"] == "hb":
            assert heard["seq"]["signals"] == 0
        assert (heard["op"], heard["from"], heard["to"]) == ("skip", 1, 1)


REFUSED = [
    ("{", "bad_json"),
    ('{"op":"shout","deep":' + "[" * 4_000, "bad_json"),
    ("\x00", "bad_json"),
    ("[]", "bad_request"),
    ('{"op":"subscribe","channel":7}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","resume":{"epoch":"e1","seq":-1}}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","resume":7}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","filter":{"colour":["red"]}}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","filter":{"level":["P9"]}}', "unknown_level"),
    ('{"op":"subscribe","channel":"risk","filter":{"level":["P1"]}}', "bad_request"),
    ('{"op":"subscribe","channel":"signals","keys":["1"]}', "bad_request"),
    ('{"op":"subscribe","channel":"quotes"}', "bad_request"),
    (json.dumps({"op": "subscribe", "channel": "quotes", "keys": ["1"] * 51}), "bad_request"),
    ('{"channel":"signals"}', "bad_request"),
    ('{"op":"shout"}', "unknown_op"),
    ('{"op":"subscribe"}', "unknown_channel"),
    ('{"op":"subscribe","channel":"prices"}', "unknown_channel"),
    ('{"op":"unsubscribe","channel":"signals"}', "not_subscribed"),
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
        assert (await socket.subscribe(later="unknown fields are fine"))["op"] == "ack"


@pytest.mark.parametrize("wrong", [{"op": "shout"}, {"op": "subscribe", "channel": 7}])
async def test_refusal_names_the_request(hub: Hub, wrong: dict[str, Any]) -> None:
    async with connected(hub) as socket:
        await socket.say(req="mine", **wrong)

        assert (await socket.hear())["req"] == "mine"


async def test_bytes_are_refused(hub: Hub) -> None:
    async with connected(hub) as socket:
        await socket.send_to(bytes_data=b"{}")

        assert (await socket.hear())["code"] == "bad_json"


async def test_second_subscription_is_refused_and_nothing_is_told_twice(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub) as socket:
        for _ in range(2):
            await socket.say(op="subscribe", channel="signals")

        assert (await socket.hear())["op"] == "ack"
        assert (await socket.hear())["code"] == "already_subscribed"
        log.add()
        hub.wake()
        assert await socket.hear_seqs(1) == [1]
        assert await socket.receive_nothing()


async def test_unsubscribed_channel_is_silent_and_may_be_heard_again(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub) as socket:
        await socket.subscribe()
        await socket.say(op="unsubscribe", channel="signals", req=1)
        assert (await socket.hear())["mode"] == "off"
        log.add()
        hub.wake()
        assert await socket.receive_nothing()

        await socket.subscribe(resume={"epoch": "e1", "seq": 0})
        assert await socket.hear_seqs(1) == [1]


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


async def test_client_that_never_subscribes_is_let_go(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SUBSCRIBE_SECONDS", 0.05)
    async with connected(hub) as idle, connected(hub) as eager:
        await eager.subscribe()

        assert await idle.closed() == 4400
        assert await eager.receive_nothing()


async def test_sixth_socket_of_a_user_is_refused_and_another_user_is_not(hub: Hub) -> None:
    async with (
        connected(hub), connected(hub), connected(hub), connected(hub), connected(hub),
        connected(hub) as sixth, connected(hub, user=Viewer(pk=2)) as another,
    ):  # fmt: skip
        assert await sixth.closed() == 4409
        assert (await another.subscribe())["op"] == "ack"


# Credit


async def test_no_more_is_under_way_than_the_window_takes(hub: Hub, log: MemoryLog) -> None:
    most = feed_listener.OUT_MAX + 1
    async with connected(hub) as socket:
        await socket.subscribe()
        log.add(most + 300)
        hub.wake()

        assert await socket.hear_seqs(most) == list(range(1, most + 1))
        assert await socket.receive_nothing()
        await socket.say(op="credit", seq={"signals": most})
        assert await socket.hear_seqs(300) == list(range(most + 1, most + 301))


async def test_window_counts_bytes_too(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.subscribe()
        log.add(40, size=10_000)
        hub.wake()

        assert await socket.hear_seqs(26) == list(range(1, 27))  # the one that goes over is told
        assert await socket.receive_nothing()


async def test_client_that_gives_no_credit_is_let_go_and_others_hear_everything(
    hub: Hub, log: MemoryLog
) -> None:
    async with connected(hub) as stuck, connected(hub) as brisk:
        await stuck.subscribe()
        await brisk.subscribe()

        for start in range(0, feed_listener.OUT_MAX + feed_listener.WAITING_MAX + 500, 500):
            log.add(500)
            hub.wake()
            assert await brisk.hear_seqs(500) == list(range(start + 1, start + 501))
            await brisk.say(op="credit", seq={"signals": start + 500})

        assert await stuck.closed() == 4408


class Ledger:
    """What a listener under test was told."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.ended: list[int] = []
        self.time = 100.0
        self.listener = Listener(
            lambda told: self.seqs.extend(each.seq for each in told if each.channel),
            self.ended.append,
            now=lambda: self.time,
        )


def test_full_window_without_credit_is_borne_for_ten_seconds() -> None:
    ledger, log = Ledger(), MemoryLog()
    log.add(feed_listener.OUT_MAX + 2)
    place = Place("e1", 0)
    ledger.listener.begin("signals", feed_listener.Subscription(place), words_ack())
    ledger.listener.take(in_batches(log))

    ledger.listener.check(ledger.time + 10)
    assert ledger.ended == []
    ledger.time += 8
    ledger.listener.credit({"signals": 1})  # one more goes out, and the window is full again
    ledger.listener.check(108.0 + 10)
    assert ledger.ended == []
    ledger.listener.check(108.0 + 10.1)
    assert ledger.ended == [4408]


def test_credit_for_nothing_frees_nothing() -> None:
    ledger, log = Ledger(), MemoryLog()
    log.add(feed_listener.OUT_MAX + 2)
    ledger.listener.begin("signals", feed_listener.Subscription(Place("e1", 0)), words_ack())
    ledger.listener.take(in_batches(log))

    ledger.listener.credit({"risk": 9_999, "signals": 0, "nowhere": 1})

    assert len(ledger.seqs) == feed_listener.OUT_MAX + 1


def test_of_values_that_wait_only_the_latest_is_told() -> None:
    ledger, log = Ledger(), MemoryLog()
    log.add(feed_listener.OUT_MAX + 1)
    ledger.listener.begin("signals", feed_listener.Subscription(Place("e1", 0)), words_ack())
    ledger.listener.begin(
        "quotes", feed_listener.Subscription(Place("q", 0), keys=frozenset({"1", "2"})), words_ack()
    )
    ledger.listener.take(in_batches(log))
    before = len(ledger.seqs)

    for seq, key in enumerate(["1", "2", "1", "3", "1"], start=9_001):
        ledger.listener.take_latest([quote(key, seq)])
    assert len(ledger.seqs) == before
    ledger.listener.credit({"signals": 400})

    assert ledger.seqs[before:] == [9_005, 9_002]
    assert ledger.ended == []


def test_credit_of_a_new_epoch_covers_what_is_out_of_the_old_one() -> None:
    ledger, log = Ledger(), MemoryLog()
    log.add(feed_listener.OUT_MAX + 1)
    ledger.listener.begin("signals", feed_listener.Subscription(Place("e1", 0)), words_ack())
    ledger.listener.take(in_batches(log))
    ledger.listener.gap("signals", Place("e2", 10))
    ledger.listener.say(words_ack())

    ledger.listener.credit({"signals": 10})

    assert not ledger.listener.is_full


def words_ack() -> Any:
    return feed.words.ack("signals", req=None, place=Place("e1", 0), mode="live")


def in_batches(log: MemoryLog) -> list[Message]:
    return [feed_log.message_of(each, "e1") for each in log.entries]


def quote(key: str, seq: int) -> Message:
    return feed.words.message(
        channel="quotes", kind="update", place=Place("q", seq), at=NOON, payload={"key": key}
    )


# The hub


async def test_wake_is_heard_from_another_thread(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.subscribe()

        log.add()
        await asyncio.to_thread(hub.wake)

        assert await socket.hear_seqs(1) == [1]


async def test_without_a_wake_the_log_is_polled(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:
        await socket.subscribe()
        log.add()

        assert await socket.hear_seqs(1) == [1]


async def test_database_that_comes_back_costs_no_message(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_hub, "RETRY_SECONDS", 0.01)
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:
        await socket.subscribe()
        log.failures = 3
        log.add(2)

        assert await socket.hear_seqs(2) == [1, 2]
        assert log.failures == 0


async def test_one_text_serves_all_clients(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as one, connected(hub) as other:
        for socket in (one, other):
            await socket.subscribe()
        log.add()
        hub.wake()

        heard = await one.receive_from()
        assert heard == await other.receive_from()


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


async def test_who_lost_a_role_hears_the_desk_no_more(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01, check_seconds=0.05)
    async with connected(hub) as socket:
        await socket.subscribe("risk")
        await socket.subscribe("signals")
        log.desk = set()

        error = await socket.hear()
        assert (error["code"], error["channel"]) == ("forbidden", "risk")
        assert (await socket.subscribe("risk"))["code"] == "forbidden"
        log.add(topic="risk")
        log.add()
        assert (await socket.hear())["ch"] == "signals"
        assert await socket.receive_nothing()


@pytest.mark.parametrize("channel", ["intents", "positions", "risk"])
async def test_who_has_no_role_never_hears_the_desk(hub: Hub, log: MemoryLog, channel: str) -> None:
    async with connected(hub, user=Viewer(sees_the_desk=False)) as stranger:
        assert (await stranger.subscribe(channel))["code"] == "forbidden"
        assert (await stranger.subscribe("signals"))["op"] == "ack"
        log.add(topic=channel)
        hub.wake()
        assert await stranger.receive_nothing()


async def test_log_that_lost_what_was_told_begins_a_new_epoch(log: MemoryLog) -> None:
    hub = Hub(log, poll_seconds=0.01, beat_seconds=0.05)
    log.add(5)
    async with connected(hub) as socket:
        await socket.subscribe()
        del log.entries[3:]  # a backup is put back
        log.heads["signals"], log.last_id = Place("e1", 3), 3

        while (gap := await socket.hear())["op"] == "hb":
            pass
        assert gap["op"] == "gap"
        assert gap["epoch"] not in ("e1", "")
        assert (gap["from"], gap["seq"]) == (None, 3)
        log.add()
        while "ch" not in (heard := await socket.hear()):
            pass
        assert (heard["epoch"], heard["seq"]) == (gap["epoch"], 4)


async def test_hole_in_the_log_is_announced(hub: Hub, log: MemoryLog) -> None:
    async with connected(hub) as socket:
        await socket.subscribe()
        log.add(4)
        del log.entries[1:3]
        hub.wake()

        assert await socket.hear_seqs(1) == [1]
        gap = await socket.hear()
        assert (gap["op"], gap["epoch"], gap["from"], gap["to"]) == ("gap", "e1", 2, 4)


async def test_hub_that_breaks_lets_its_clients_go_so_that_they_come_back(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(log, poll_seconds=0.01)
    async with connected(hub) as socket:

        def breaks(*_: object) -> list[Message]:
            raise ZeroDivisionError

        monkeypatch.setattr(log, "after", breaks)

        assert await socket.closed() == 4500
        task = hub._task
        assert task is not None
        with pytest.raises(ZeroDivisionError):
            await task


# The log in the database


def an_entry(at: datetime = NOON, *, topic: str = "signals") -> FeedEntry:
    return feedlog.append(topic=topic, kind="opened", at=at, payload={"key": "k"})


def missed(after: int, upto: int, *, at: datetime = NOON) -> list[int] | None:
    found = FeedLog().between("signals", after=after, place=Place("e1", upto), at=at)
    return None if found is None else [message.seq for message in found]


@pytest.mark.django_db
@pytest.mark.postgres
def test_log_tells_its_end_and_what_follows_a_place() -> None:
    assert FeedLog().settle().last_id == 0
    first, second, third = an_entry(), an_entry(topic="intents"), an_entry()

    found = FeedLog().position()
    assert found.last_id == third.pk
    assert (found.places["signals"].seq, found.places["intents"].seq) == (2, 1)
    after = FeedLog().after(first.pk, {"signals": "e1"})
    assert [(pk, message.channel, message.seq) for pk, message in after] == [
        (second.pk, "intents", 1),
        (third.pk, "signals", 2),
    ]


@pytest.mark.django_db
@pytest.mark.postgres
def test_numbers_go_on_when_entries_are_pruned_and_a_lost_head_begins_a_new_epoch() -> None:
    an_entry()
    an_entry()
    before = feedlog.place("signals")
    FeedEntry.objects.all().delete()
    assert an_entry().seq == 3
    FeedHead.objects.all().delete()
    FeedEntry.objects.all().delete()

    assert an_entry().seq == 1
    assert feedlog.place("signals").epoch != before.epoch


@pytest.mark.django_db
@pytest.mark.postgres
def test_database_that_is_another_one_gets_new_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    an_entry()
    at_home = FeedLog().settle().places["signals"]
    assert FeedLog().settle().places["signals"] == at_home == feedlog.place("signals")
    monkeypatch.setattr(feedlog, "_home", lambda: "file:another")

    moved = FeedLog().settle().places["signals"]

    assert moved.epoch != at_home.epoch
    assert moved.seq == at_home.seq == 1


@pytest.mark.django_db
@pytest.mark.postgres
def test_journal_entry_becomes_the_message_on_the_wire() -> None:
    at = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    with transaction.atomic():
        entry = journal.tell(topic="signals", kind="closed", payload={"key": "ü"}, at=at)

    [(_, message)] = FeedLog().after(0, {"signals": "e1"})

    assert json.loads(message.told.text) == {
        "ch": "signals",
        "t": "closed",
        "epoch": "e1",
        "seq": entry.seq,
        "ts": "2026-05-01T12:00:00.123456Z",
        "d": {"key": "ü"},
    }
    assert message.told.frame.endswith(message.told.text.encode())


@pytest.mark.django_db
@pytest.mark.postgres
def test_missed_entries_of_the_channel_are_made_good_up_to_the_place_of_the_subscription() -> None:
    an_entry(), an_entry(topic="intents"), an_entry(), an_entry()

    assert missed(1, 2) == [2]
    assert missed(1, 3) == [2, 3]


@pytest.mark.django_db
@pytest.mark.postgres
def test_missed_entries_that_are_too_old_are_a_gap() -> None:
    an_entry(), an_entry(NOON), an_entry(NOON + timedelta(minutes=9))

    assert missed(1, 3, at=NOON + timedelta(minutes=10)) is not None
    assert missed(1, 3, at=NOON + timedelta(minutes=10, seconds=1)) is None


@pytest.mark.django_db
@pytest.mark.postgres
def test_more_than_the_most_that_is_replayed_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_log, "REPLAY_MAX", 3)
    for _ in range(5):
        an_entry()

    assert missed(2, 5) == [3, 4, 5]
    assert missed(1, 5) is None


@pytest.mark.django_db
@pytest.mark.postgres
def test_pruned_entries_are_a_gap() -> None:
    an_entry(), an_entry(), an_entry()
    FeedEntry.objects.filter(seq__lte=2).delete()

    assert missed(1, 3) is None
    assert missed(2, 3) == [3]


@pytest.mark.django_db
@pytest.mark.postgres
def test_welcome_ends_with_the_session_or_the_account() -> None:
    def client_of(
        name: str, *, expired: bool = False, active: bool = True, ticket: bool = False
    ) -> Listener:
        session = SessionStore()
        session.set_expiry(-60 if expired else 60)
        session.create()
        listener = Ledger().listener
        listener.user_id = User.objects.create_user(name, is_active=active).pk
        listener.session_key = None if ticket else session.session_key
        return listener

    here = client_of("here")
    with_ticket = client_of("with-ticket", ticket=True)
    logged_out = client_of("logged-out")
    SessionStore(logged_out.session_key).flush()
    expired = client_of("expired", expired=True)
    switched_off = client_of("switched-off", active=False)
    ticket_off = client_of("ticket-off", active=False, ticket=True)

    found = FeedLog().unwelcome([here, with_ticket, logged_out, expired, switched_off, ticket_off])

    assert found == {logged_out, expired, switched_off, ticket_off}


@pytest.mark.django_db
@pytest.mark.postgres
def test_desk_is_heard_by_roles_and_superusers_that_are_active() -> None:
    permission = Permission.objects.get(codename="view_orderintent")
    users = {}
    for name in ("stranger", "viewer", "off"):
        users[name] = User.objects.create_user(name, is_active=name != "off")
        if name != "stranger":
            users[name].user_permissions.add(permission)
    chief = User.objects.create_superuser("chief")

    assert FeedLog().see_the_desk() == {users["viewer"].pk, chief.pk}


@pytest.mark.django_db
@pytest.mark.postgres
def test_hub_wakes_when_an_entry_is_committed_and_not_before(
    django_capture_on_commit_callbacks: Any,
) -> None:
    seen: list[int] = []

    class Hearer:
        def wake(self) -> None:
            seen.append(FeedEntry.objects.count())

    hearer = Hearer()
    feed_wake.begin(hearer)

    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        an_entry()
        assert seen == []

    assert seen == [1]


@pytest.mark.django_db
@pytest.mark.postgres
def test_migration_numbers_what_is_there_by_topic_and_notes_how_far_it_came() -> None:
    numbers = import_module("alerts.migrations.0003_feed_numbers")
    for seq, topic in enumerate(["signals", "risk", "signals", "signals"], start=100):
        FeedEntry.objects.create(topic=topic, seq=seq, kind="opened", at=NOON, payload={})

    with connection.cursor() as cursor:
        cursor.execute(numbers.NUMBER)
    numbers.make_heads(apps, None)

    entries = FeedEntry.objects.order_by("id").values_list("topic", "seq")
    assert list(entries) == [("signals", 1), ("risk", 1), ("signals", 2), ("signals", 3)]
    assert {head.topic: head.seq for head in FeedHead.objects.all()} == {"signals": 3, "risk": 1}
    assert an_entry().seq == 4
