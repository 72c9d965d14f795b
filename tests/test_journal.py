"""The journal: a chain that shows tampering, a feed that is read without a gap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from alerts import journal
from alerts.models import AuditEntry, FeedEntry, Heartbeat, OutboxEntry
from tests import forger

NOON = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
LAST = 5

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


def record(number: int, **given) -> AuditEntry:
    values = {"kind": "signal.opened", "subject": f"signal:{number}", "data": {"number": number}}
    return journal.record(**{**values, "at": NOON + timedelta(seconds=number), **given})


@pytest.fixture
def chain() -> None:
    with transaction.atomic():
        for number in range(1, LAST + 1):
            record(number)


def test_chain_of_what_was_recorded_verifies(chain):
    assert journal.verify() == LAST


def test_empty_chain_verifies():
    assert journal.verify() == 0


@pytest.mark.parametrize(
    "forgery",
    [
        {"data": {"number": 4}},
        {"kind": "signal.closed"},
        {"subject": "signal:4"},
        {"actor": "somebody"},
        {"at": NOON},
        {"hash": "0" * 64},
        {"previous_hash": "0" * 64},
    ],
    ids=lambda forgery: next(iter(forgery)),
)
def test_changed_entry_is_found(chain, forgery):
    forger.change(3, **forgery)

    with pytest.raises(journal.ChainBroken) as found:
        journal.verify()

    assert found.value.entry_id == 3


def test_entry_removed_from_the_middle_is_found(chain):
    forger.remove(3)

    with pytest.raises(journal.ChainBroken, match="3: is missing"):
        journal.verify()


def test_first_entry_removed_is_found(chain):
    forger.remove(1)

    with pytest.raises(journal.ChainBroken, match="1: is missing"):
        journal.verify()


@pytest.mark.parametrize("made_to_fit", [False, True], ids=["copied", "made to fit"])
def test_entry_inserted_in_the_middle_is_found(chain, made_to_fit):
    for number in range(LAST, 2, -1):
        forger.change(number, id=F("id") + 1)
    forged = AuditEntry.objects.get(pk=2)
    forged.id, forged.previous_hash, forged.subject = 3, forged.hash, "signal:forged"
    forged.hash = journal.link_hash(forged) if made_to_fit else "f" * 64
    forged.save(force_insert=True)

    with pytest.raises(journal.ChainBroken) as found:
        journal.verify()

    assert found.value.entry_id == (4 if made_to_fit else 3)


@pytest.mark.parametrize("act", ["update", "delete"])
def test_database_itself_refuses_to_change_the_chain(transactional_db, act):
    """On both databases; and a test that commits can be emptied all the same."""
    with transaction.atomic():
        record(1)
    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="written once"):
        cursor.execute(
            "UPDATE alerts_auditentry SET actor = 'x'" if act == "update"
            else "DELETE FROM alerts_auditentry"
        )  # fmt: skip

    assert journal.verify() == 1


def test_entry_that_is_written_during_the_check_is_no_break(chain):
    def write_before_the_head_is_read(execute, sql, params, many, context):
        if sql.startswith("SELECT") and "alerts_audithead" in sql and not written:
            written.append(True)
            with transaction.atomic():
                record(LAST + 1)
        return execute(sql, params, many, context)

    written: list[bool] = []
    with connection.execute_wrapper(write_before_the_head_is_read):
        assert journal.verify_head() == LAST + 1

    assert written


def test_cut_tail_shows_only_in_the_length(chain):
    """No chain can tell by itself; whoever noted its length elsewhere can."""
    forger.remove(LAST)

    assert journal.verify() == LAST - 1


@pytest.mark.parametrize(
    "write",
    [
        lambda: record(1),
        lambda: journal.tell(topic="signals", kind="updated", payload={}, at=NOON),
    ],
    ids=["record", "tell"],
)
@pytest.mark.django_db(transaction=True)
def test_writing_outside_a_transaction_is_refused(write: Callable[[], object]):
    with pytest.raises(transaction.TransactionManagementError):
        write()

    assert not AuditEntry.objects.exists()
    assert not FeedEntry.objects.exists()


def test_time_of_another_zone_is_the_same_time(chain):
    abroad = timezone(timedelta(hours=-5))

    record(6, at=(NOON + timedelta(seconds=6)).astimezone(abroad))

    assert journal.verify() == 6


words = some.text(some.characters())  # NUL and lone surrogates among them
anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | words,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@given(data=some.dictionaries(words, anything, max_size=4))
@example(data={"large": 1e16, "endless": float("inf"), "nul": "a\0b", "half": "\ud800", "-": -0.0})
@hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_recorded_verifies_after_a_read(data):
    length = AuditEntry.objects.count()

    with transaction.atomic():
        record(length + 1, data=data, topic="signals")

    assert journal.verify() == length + 1


def test_feed_is_told_what_the_audit_was():
    entry = record(1, topic="signals")

    told = FeedEntry.objects.get()
    assert (told.topic, told.kind, told.at, told.payload) == ("signals", "opened", NOON + timedelta(
        seconds=1), {"number": 1})  # fmt: skip
    assert entry.data == told.payload


def test_alert_of_one_key_is_one_alert():
    for number in range(2):
        journal.alert(key="a", kind="signal.p1", payload={"number": number}, at=NOON)

    assert OutboxEntry.objects.get().payload == {"number": 0}


def test_beat_keeps_the_last_sign_of_life():
    for number in range(2):
        journal.beat("stream", at=NOON + timedelta(seconds=number), progress=number, frames=number)

    beat = Heartbeat.objects.get()
    assert (beat.progress, beat.detail, beat.age(NOON)) == (1, {"frames": 1}, timedelta(0))


WRITERS, EACH = 8, 25


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_leave_one_chain_and_a_feed_without_gaps():
    """Every fifth write is taken back; a reader follows by `id > last` all the while."""
    ready = threading.Barrier(WRITERS + 1)
    done = threading.Event()
    read: list[str] = []

    def write(writer: int) -> None:
        ready.wait()
        for number in range(EACH):
            name = f"{writer}-{number}"
            with transaction.atomic():
                if number % 2:
                    record(number, subject=name, data={"name": name}, topic="signals")
                else:
                    payload = {"name": name}
                    journal.tell(topic="signals", kind="updated", payload=payload, at=NOON)
                transaction.set_rollback(number % 5 == 0)
        connection.close()

    def follow() -> None:
        ready.wait()
        last, finished = 0, False
        while not finished:
            finished = done.is_set()  # one more look after the last commit
            for entry in FeedEntry.objects.filter(pk__gt=last).order_by("pk"):
                last = entry.pk
                read.append(entry.payload["name"])
        connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    reader = threading.Thread(target=follow)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()

    kept = [f"{w}-{n}" for w in range(WRITERS) for n in range(EACH) if n % 5]
    assert sorted(read) == sorted(kept)
    audited = [name for name in kept if int(name.partition("-")[2]) % 2]
    assert journal.verify() == len(audited)
    assert list(AuditEntry.objects.order_by("id").values_list("id", flat=True)) == [
        *range(1, len(audited) + 1)
    ]
