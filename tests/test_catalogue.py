"""The catalogue in the database: all that the venue lists, changed rows only."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from markets import catalogue
from markets.listing import BadListing, EventTerms, read_page
from markets.models import Event, Market, Outcome, Quarantine
from tests import wire_files as wire

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def terms(page: Any) -> tuple[EventTerms, ...]:
    rejected: list[BadListing] = []
    events = read_page(page, rejected=rejected)
    assert not rejected
    return events


def store(page: Any, *, at: datetime = NOON) -> int:
    return catalogue.store(terms(page), seen_at=at)


def three(**changes: Any) -> dict[str, Any]:
    """Return an event with three markets; `changes` are of the second."""
    return wire.event([wire.market(0), wire.market(1, **changes), wire.market(2)])


# --- what is stored -------------------------------------------------------


def test_an_event_its_markets_and_their_outcomes_are_stored() -> None:
    written = store(three(feesEnabled=True, feeSchedule={"rate": 0.07, "exponent": 2}))

    assert written == 1 + 3 + 6
    event = Event.objects.get()
    assert (event.id, event.title, event.neg_risk, event.seen_at) == ("77", "Who wins?", True, NOON)
    market = Market.objects.get(id="501")
    assert market.event == event
    assert market.state == Market.State.TRADABLE
    assert (market.tick_size, market.min_size) == (Decimal("0.01"), 5)
    assert (market.fee_rate, market.fee_exponent) == (Decimal("0.07"), 2)
    assert list(market.outcomes.order_by("index").values_list("token_id", "label")) == [
        (wire.tokens(1)[0], "Yes"),
        (wire.tokens(1)[1], "No"),
    ]


def test_an_unknown_fee_is_null_and_no_fee_is_zero() -> None:
    store(wire.event([wire.market(0, feesEnabled=True), wire.market(1, feesEnabled=False)]))

    assert dict(Market.objects.values_list("id", "fee_rate")) == {"500": None, "501": 0}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "TRADABLE"),
        ({"acceptingOrders": False}, "PAUSED"),
        ({"enableOrderBook": False}, "PAUSED"),
        ({"active": False}, "PLACEHOLDER"),
        ({"closed": True, "outcomePrices": None}, "CLOSED"),
        ({"archived": True}, "CLOSED"),
        ({"closed": True, "outcomePrices": '["0", "1"]'}, "RESOLVED"),
    ],
)
def test_every_state_has_its_name(fields: dict[str, Any], state: str) -> None:
    store(three(**fields))

    assert Market.objects.get(id="501").state == state


def test_a_market_without_an_event_is_stored_under_one_of_its_own() -> None:
    store([wire.market(0, neg_risk=False)])

    assert Market.objects.get().event_id == Event.objects.get().id


# --- what is written again ------------------------------------------------


def test_the_same_page_writes_nothing_the_second_time() -> None:
    store(three())

    assert store(three(), at=LATER) == 0

    assert Event.objects.get().seen_at == NOON
    assert set(Market.objects.values_list("seen_at", flat=True)) == {NOON}


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"acceptingOrders": False}, 1),
        ({"orderPriceMinTickSize": 0.001}, 1),
        ({"volumeNum": 12.345}, 1),
        ({"question": "Another?"}, 1),
        ({"closed": True, "outcomePrices": '["1", "0"]'}, 1),
        ({"outcomes": '["Up", "Down"]'}, 2),
    ],
)
def test_only_the_row_that_changed_is_written(fields: dict[str, Any], rows: int) -> None:
    store(three())

    assert store(three(**fields), at=LATER) == rows

    seen = dict(Market.objects.values_list("id", "seen_at"))
    assert {pk for pk, at in seen.items() if at == LATER} <= {"501"}


def test_figures_finer_than_the_table_are_no_change() -> None:
    fine = {"volumeNum": 12.3456789, "feeSchedule": {"rate": 0.12345678, "exponent": 1}}
    store(three(**fine))

    assert store(three(**fine), at=LATER) == 0


def test_tokens_that_change_sides_or_markets_are_moved() -> None:
    store(three())
    first, second = wire.tokens(0), wire.tokens(1)

    store(
        wire.event(
            [
                wire.market(0, clobTokenIds=json.dumps(second)),
                wire.market(1, clobTokenIds=json.dumps(first[::-1])),
            ]
        ),
        at=LATER,
    )

    pairs = {
        market_id: list(
            Outcome.objects.filter(market_id=market_id)
            .order_by("index")
            .values_list("token_id", flat=True)
        )
        for market_id in ("500", "501")
    }
    assert pairs == {"500": list(second), "501": list(first[::-1])}


def test_of_two_markets_that_claim_one_token_the_second_is_refused_alone() -> None:
    tokens = json.dumps(wire.tokens(0))

    store(wire.event([wire.market(0), wire.market(1, clobTokenIds=tokens), wire.market(2)]))

    assert set(Market.objects.values_list("id", flat=True)) == {"500", "502"}
    assert Outcome.objects.count() == 4
    refused = Quarantine.objects.get()
    assert (refused.source, refused.reason, refused.subject) == ("gamma", "not_storable", "501")
    assert "clobTokenIds" in refused.detail


def test_a_market_listed_twice_on_a_page_is_one_row() -> None:
    store([wire.market(0), wire.market(0, question="Later?")])

    assert Market.objects.count() == 1


# --- what the venue may send ----------------------------------------------


def test_text_of_any_kind_and_length_is_stored() -> None:
    odd = "\0<b>\U0001f600'\";--" * 200

    store(
        wire.event(
            [
                wire.market(
                    0, question=odd, groupItemTitle=odd, slug=odd, outcomes=json.dumps([odd, "No"])
                )
            ],
            title=odd,
            slug=odd,
            tags=[{"slug": odd}],
        )
    )

    market = Market.objects.get()
    assert market.question == odd.replace("\0", "\ufffd")
    assert market.outcomes.filter(index=0).get().label.startswith("\ufffd<b>")


def test_figures_of_any_size_are_stored() -> None:
    store(
        wire.event(
            [
                wire.market(
                    0, volumeNum=1e308, liquidityNum="1e99999", orderMinSize=999_999_999_999
                ),
                wire.market(1, volumeNum=-1e308, liquidityNum="NaN"),
            ]
        )
    )

    assert Market.objects.count() == 2
    assert not Quarantine.objects.exists()


# --- how much it costs ----------------------------------------------------


def queries_of(page: Any) -> int:
    with CaptureQueriesContext(connection) as queries:
        store(page)
    return len(queries)


def test_queries_do_not_grow_with_the_page() -> None:
    few = queries_of(wire.event([wire.market(0)]))
    many = queries_of(wire.event([wire.market(number) for number in range(1, 31)], id="78"))
    again = queries_of(wire.event([wire.market(number) for number in range(1, 31)], id="78"))

    assert many <= few + 2  # SQLite takes a limited number of values a statement
    assert again < few
    assert few <= 15


# --- the venue's own objects ----------------------------------------------


def test_every_recorded_market_is_stored_once() -> None:
    source = DATA / "gamma" / "markets_2026-02.jsonl.gz"
    if not source.exists():
        pytest.skip(f"real data are not here: {source.name}")
    with gzip.open(source) as lines:
        objects = list(map(json.loads, lines))
    rejected: list[BadListing] = []
    events = read_page(objects, rejected=rejected)

    first = catalogue.store(events, seen_at=NOON)
    second = catalogue.store(events, seen_at=LATER)

    assert (first, second) == (1_057 + 1_314 + 2 * 1_314, 0)
    assert (Event.objects.count(), Market.objects.count()) == (1_057, 1_314)
    assert Outcome.objects.count() == 2_628
    assert Market.objects.count() + len(rejected) == len(objects) == 1_341
    assert not Quarantine.objects.exists()
    assert Market.objects.filter(state=Market.State.RESOLVED).count() == 291
    assert Market.objects.filter(event__neg_risk=True).count() == 408
