"""Orders on a sharded desk: filled by the process that has their events, by no other, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from execution.desk import DeskThread
from execution.models import Fill, IntentLeg, OrderIntent
from markets import lease
from markets.lease import Claim, LeaseLost
from markets.models import Lease
from markets.shards import Placement, shard_of
from signals.share import Share
from tests import desk_cast as cast

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

EVENT = "7"
OURS = shard_of(EVENT, 2)


@pytest.fixture(autouse=True)
def rows() -> None:
    cast.prepare()
    lease.lay_out([f"stream-shard-{n}" for n in (0, 1)])


def taken(number: int) -> Share:
    claim = lease.claim_one([f"stream-shard-{number}"], seconds=5)
    assert claim is not None
    return Share(number, claim, Placement(2, {}))


def taken_from(share: Share) -> Share:
    """Let the lease run out and another process take it."""
    Lease.objects.filter(pk=share.claim.name).update(until=timezone.now() - timedelta(seconds=1))
    return taken(share.number)


def process(view, share: Share) -> cast.Venue:
    venue = cast.Venue([view])  # it even has the books of the other shard
    venue.desk.share = share
    return venue


def approved(view, signal) -> OrderIntent:
    cast.show(view)
    return cast.approved(signal, cast.trader(), cast.approver())


def test_an_order_is_filled_by_the_shard_of_its_events_alone():
    view, signal = cast.basket(event_id=EVENT)
    intent = approved(view, signal)
    other, owner = process(view, taken(1 - OURS)), process(view, taken(OURS))

    other.fill()
    assert not Fill.objects.exists()
    assert other.desk.broker.working == 0
    owner.fill()
    other.fill()

    intent.refresh_from_db()
    assert intent.status == "FILLED"
    assert Fill.objects.count() == IntentLeg.objects.filter(intent=intent).count() == 3


def test_a_late_process_cannot_store_the_fills_of_a_shard_that_was_taken():
    view, signal = cast.basket(event_id=EVENT)
    intent = approved(view, signal)
    late = process(view, taken(OURS))
    late.work()
    late.wait(0.3)
    late.nudge()  # its orders are filled, and not yet stored
    assert late.desk.broker.reports
    then = process(view, taken_from(late.desk.share))

    with pytest.raises(LeaseLost):
        late.work()
    assert not Fill.objects.exists()
    then.fill()
    with pytest.raises(LeaseLost):
        late.work()

    intent.refresh_from_db()
    assert intent.status == "FILLED"
    assert Fill.objects.count() == 3
    assert late.desk.share.lost


def test_the_desks_thread_ends_when_its_shard_was_taken():
    view, signal = cast.basket(event_id=EVENT)
    approved(view, signal)
    late = process(view, taken(OURS))
    late.work()
    late.wait(0.3)
    late.nudge()
    taken_from(late.desk.share)
    thread = DeskThread(late.desk, clock=lambda: late.now)

    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    assert thread.failed is None  # that is no mistake of its own
    assert not Fill.objects.exists()


def test_an_order_over_two_events_has_one_owner():
    claim = Claim("stream-shard-0", "nobody")
    pairs = [(str(a), str(b)) for a in range(1, 9) for b in range(1, 9)]
    shares = [Share(number, claim, Placement(2, {})) for number in (0, 1)]

    owners = [[share.owns_order(pair) for share in shares] for pair in pairs]

    assert all(sorted(each) == [False, True] for each in owners)
