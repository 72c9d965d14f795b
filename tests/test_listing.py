"""What Gamma says, with every quirk it was seen with: read exactly, or rejected with the reason."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.fills import FREE, SIZE_ONE, Fee
from markets.frames import Frame
from markets.listing import (
    BadListing,
    EventTerms,
    decode_page,
    event_terms,
    market_terms,
    parse_time,
    read_page,
)
from signals.pipeline import Pipeline
from tests import wire_files as wire
from tests.wire_files import GROUP, condition

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def rejection(obj: dict[str, Any]) -> BadListing:
    with pytest.raises(BadListing) as caught:
        market_terms(obj)
    return caught.value


def read(page: Any) -> tuple[tuple[EventTerms, ...], list[BadListing]]:
    rejected: list[BadListing] = []
    return read_page(page, rejected=rejected), rejected


@pytest.mark.parametrize("half", ["\0", "\ud800"])
def test_text_is_fit_for_every_database(half: str) -> None:
    text = f"A{half}B"
    market = wire.market(1, question=text, slug=text, groupItemTitle=text, outcomes=[text, "No"])
    event = wire.event([market], title=text, slug=text, tags=[{"slug": text}])

    (read_event,), _ = read(decode_page(json.dumps(event).encode()))

    terms = read_event.markets[0]
    texts = {read_event.title, read_event.slug, *read_event.tags}
    texts |= {terms.question, terms.slug, terms.label, terms.outcomes[0]}
    assert len(texts) == 1
    assert texts.pop() in ("A\ufffdB", "A?B")


@pytest.mark.parametrize("value", ["", "5\0", "5\ud800", "5\n6", "5" * 81])
def test_an_id_that_cannot_be_stored_is_rejected(value: str) -> None:
    assert rejection(wire.market(1, id=value)).field == "id"
    if value:
        assert rejection(wire.market(1, conditionId=value)).field == "conditionId"
    with pytest.raises(BadListing, match="event"):
        event_terms(wire.event([], id=value))


# --- one market -----------------------------------------------------------


def test_a_market_is_read_in_our_units() -> None:
    terms = market_terms(wire.market(3, feeSchedule={"rate": 0.04, "exponent": 1}))

    assert terms.market_id == "503"
    assert terms.condition_id == condition(3)
    assert terms.token_ids == wire.tokens(3)
    assert terms.outcomes == ("Yes", "No")
    assert (terms.tick, terms.min_size) == (100, 5 * SIZE_ONE)
    assert terms.fee == Fee(Decimal("0.04"))
    assert terms.untradable is terms.payout is terms.event_id is None
    assert terms.end_at == datetime(2026, 7, 1, tzinfo=UTC)
    assert terms.neg_risk_id == f"{GROUP}00"
    assert (terms.leg_number, terms.label) == (3, "Number 3")


def test_lists_come_as_text_or_as_lists() -> None:
    tokens = list(wire.tokens(1))

    as_text = market_terms(wire.market(1))
    as_list = market_terms(wire.market(1, outcomes=["Yes", "No"], clobTokenIds=tokens))

    assert as_text == as_list


@pytest.mark.parametrize("names", [("Up", "Down"), ("Golden Knights", "Hurricanes"), ("No", "Yes")])
def test_outcomes_keep_their_names_and_order(names: tuple[str, str]) -> None:
    assert market_terms(wire.market(1, outcomes=json.dumps(names))).outcomes == names


@pytest.mark.parametrize("tick", [0.1, 0.01, 0.005, 0.0025, 0.001, 0.0001, "0.001"])
def test_every_tick_size_of_the_venue_is_exact(tick: float) -> None:
    assert market_terms(wire.market(1, orderPriceMinTickSize=tick)).tick == round(
        float(tick) * 10_000
    )


def test_a_market_from_before_the_order_book_has_the_usual_tick_and_size() -> None:
    terms = market_terms(wire.market(1, orderPriceMinTickSize=None, orderMinSize=None))

    assert (terms.tick, terms.min_size) == (100, 5 * SIZE_ONE)


def test_version_2_has_its_tokens_elsewhere() -> None:
    obj = wire.market(1, version="v2", clobTokenIds=None, positionIds=["7", "8"])

    assert market_terms(obj).token_ids == ("7", "8")
    assert rejection({**obj, "positionIds": None}).field == "positionIds"
    assert market_terms(wire.market(1, version="v1")).token_ids == wire.tokens(1)


@pytest.mark.parametrize("version", ["v3", "2", "V1"])
def test_an_unknown_version_is_rejected_by_name(version: str) -> None:
    bad = rejection(wire.market(1, version=version))

    assert (bad.field, bad.market_id) == ("version", "501")
    assert version in bad.reason


NOT_TOKENS = {
    "missing": None,
    "empty text": "",
    "empty list": "[]",
    "one": '["1"]',
    "five": '["1", "2", "3", "4", "5"]',
    "not a list": '{"a": 1}',
    "half a list": '["1", "2"',
    "not decimal": '["0x1", "2"]',
    "negative": '["-1", "2"]',
    "other digits": '["\\u0661", "\\u0662"]',
    "the same twice": '["1", "1"]',
    "too long": json.dumps(["1" * 79, "2"]),
    "half a character": '["\\ud800", "2"]',
    "deep": "[" * 50_000,
}


@pytest.mark.parametrize("name", NOT_TOKENS)
def test_tokens_that_cannot_be_are_rejected(name: str) -> None:
    bad = rejection(wire.market(1, clobTokenIds=NOT_TOKENS[name]))

    assert (bad.field, bad.market_id) == ("clobTokenIds", "501")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("orderPriceMinTickSize", [0, 1, -0.01, 0.00001, "NaN", "1e999990", "1e-99999999999"]),
        ("orderMinSize", [-1, "NaN", "Infinity", "1e999990", "1e99999999999", 1e300]),
        ("endDate", ["soon", "2026-13-01", "0001-01-01T00:00:00+23:00"]),
        ("outcomes", [None, '["Yes"]', "Yes", "[1"]),
    ],
)
@pytest.mark.timeout(5)
def test_a_value_that_cannot_be_is_rejected_at_once(field: str, values: list[Any]) -> None:
    for value in values:
        bad = rejection(wire.market(1, **{field: value}))
        assert (bad.field, bad.market_id) == (field, "501"), value


def test_an_object_of_another_shape_is_rejected() -> None:
    assert rejection({}).field == "market"
    assert rejection(wire.market(1, id=None)).reason.startswith("Expected `str`")
    assert rejection(wire.market(1, closed="maybe")).market_id == "501"


@pytest.mark.parametrize("figure", ["NaN", "-Infinity", float("nan"), float("inf"), None])
def test_figures_that_are_only_shown_count_as_none(figure: Any) -> None:
    terms = market_terms(wire.market(1, liquidityNum=figure, volumeNum=figure))

    assert terms.liquidity == terms.volume == 0


# --- fees -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fee"),
    [
        ({"feesEnabled": False}, FREE),
        ({"feesEnabled": None}, FREE),
        ({"feesEnabled": False, "takerBaseFee": 1000}, FREE),  # a marker, not a rate
        ({"feesEnabled": True}, None),
        ({"feesEnabled": True, "takerBaseFee": 1000}, None),
        ({"feesEnabled": None, "feeType": "sports_fees_v3"}, None),
        ({"feesEnabled": True, "feeSchedule": {"rate": 0.07}}, Fee(Decimal("0.07"))),
        ({"feeSchedule": {"rate": "0.25", "exponent": 2}}, Fee(Decimal("0.25"), 2)),
        ({"feeSchedule": {"rate": 0, "exponent": 0}}, Fee(Decimal(0), 0)),
        ({"feeSchedule": {"rate": 1.5, "exponent": 1}}, None),
        ({"feeSchedule": {"rate": -0.1, "exponent": 1}}, None),
        ({"feeSchedule": {"rate": "NaN", "exponent": 1}}, None),
        ({"feeSchedule": {"rate": 0.04, "exponent": 1.5}}, None),
        ({"feeSchedule": {"rate": 0.04, "exponent": "1e999990"}}, None),
        ({"feeSchedule": {"rate": 0.04, "exponent": "Infinity"}}, None),
    ],
)
@pytest.mark.timeout(5)
def test_a_fee_is_known_free_or_unknown(fields: dict[str, Any], fee: Fee | None) -> None:
    assert market_terms(wire.market(1, **fields)).fee == fee


# --- state and payout -----------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"closed": True}, "closed"),
        ({"closed": True, "acceptingOrders": True}, "closed"),  # closed wins
        ({"archived": True}, "archived"),
        ({"active": False}, "placeholder"),
        ({"active": None}, "placeholder"),
        ({"active": False, "outcomePrices": None}, "placeholder"),
        ({"enableOrderBook": False}, "no_order_book"),
        ({"acceptingOrders": False}, "paused"),
        ({"acceptingOrders": None}, "paused"),
        ({"closed": True, "outcomePrices": '["0", "1"]'}, "resolved"),
    ],
)
def test_a_market_is_tradable_or_says_why_not(fields: dict[str, Any], why: str | None) -> None:
    assert market_terms(wire.market(1, **fields)).untradable == why


@pytest.mark.parametrize(
    ("prices", "uma", "payout"),
    [
        ('["1", "0"]', "resolved", "1"),
        ('["0", "1"]', None, "0"),
        ('["0.5", "0.5"]', "resolved", "0.5"),
        ('["0.9664", "0.0336"]', "resolved", "1"),
        ('["0.000001", "0.999999"]', "resolved", "0"),
        ('["0.51", "0.49"]', "resolved", "0.5"),
        ('["0.9664", "0.0336"]', "proposed", None),
        ('["0.9664", "0.0336"]', None, None),
        ('["0.5", "0.5"]', None, None),  # a last price, until somebody says resolved
        ('["0.5", "0.5"]', "disputed", None),
        ('["0", "0"]', "resolved", None),  # what old markets without prices carry
        (None, "resolved", None),
        ("", "resolved", None),
        ("[]", "resolved", None),
        ('["1"]', "resolved", None),
    ],
)
def test_a_closed_market_paid_what_is_settled(
    prices: str | None, uma: str | None, payout: str | None
) -> None:
    obj = wire.market(1, closed=True, outcomePrices=prices, umaResolutionStatus=uma)

    assert market_terms(obj).payout == (None if payout is None else Decimal(payout))


def test_an_open_market_has_no_payout_whatever_its_prices() -> None:
    assert market_terms(wire.market(1, outcomePrices='["1", "0"]')).payout is None
    assert market_terms(wire.market(1, outcomePrices="junk")).payout is None


@pytest.mark.parametrize("prices", ['["a", "b"]', '["NaN", "0"]', '["sNaN", "1"]', "[0.5", "junk"])
def test_a_closed_market_with_prices_that_are_none_is_rejected(prices: str) -> None:
    assert rejection(wire.market(1, closed=True, outcomePrices=prices)).field == "outcomePrices"


# --- neg-risk -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"questionID": f"{GROUP}27"}, 0x27),
        ({"questionID": f"{GROUP}ff"}, 255),
        ({"questionID": condition(900)}, None),
        ({"questionID": f"{GROUP}zz"}, None),
        ({"questionID": None}, None),
        ({"questionID": GROUP}, None),
        ({"negRiskMarketID": None}, None),
        ({"negRisk": False}, None),
    ],
)
def test_a_leg_has_its_number_where_the_question_has_the_groups_id(
    fields: dict[str, Any], number: int | None
) -> None:
    assert market_terms(wire.market(1, **fields)).leg_number == number


def test_a_market_has_a_group_only_where_it_is_neg_risk() -> None:
    assert market_terms(wire.market(1, negRisk=False)).neg_risk_id is None
    assert market_terms(wire.market(1, negRiskMarketID="")).neg_risk_id is None
    assert market_terms(wire.market(1, negRiskOther=True)).secondary


@pytest.mark.parametrize(
    ("fields", "neg_risk", "augmented"),
    [
        ({}, True, False),
        ({"negRiskAugmented": True}, True, True),
        ({"negRisk": False, "enableNegRisk": False, "negRiskAugmented": True}, False, False),
        ({"negRisk": None, "enableNegRisk": True}, True, False),
        ({"negRisk": False, "enableNegRisk": True}, False, False),  # only negRisk excludes
        ({"negRisk": None, "enableNegRisk": None}, False, False),
    ],
)
def test_an_event_is_exclusive_only_where_neg_risk_says_so(
    fields: dict[str, Any], neg_risk: bool, augmented: bool
) -> None:
    event = event_terms(wire.event([wire.market(1)], **fields))

    assert (event.neg_risk, event.augmented) == (neg_risk, augmented)


# --- events ---------------------------------------------------------------


def test_an_event_has_its_markets_in_order_and_is_complete() -> None:
    event = event_terms(wire.event([wire.market(n) for n in (2, 0, 1)], tags=[{"slug": "sport"}]))

    assert [market.market_id for market in event.markets] == ["502", "500", "501"]
    assert {market.event_id for market in event.markets} == {"77"}
    assert (event.complete, event.tags) == (True, ("sport",))


def test_a_bad_market_leaves_its_event_incomplete() -> None:
    obj = wire.event([wire.market(0), wire.market(1, clobTokenIds="[]"), None, 5, wire.market(2)])
    rejected: list[BadListing] = []

    event = event_terms(obj, rejected=rejected)

    assert [market.market_id for market in event.markets] == ["500", "502"]
    assert not event.complete
    assert [(bad.field, bad.market_id) for bad in rejected] == [
        ("clobTokenIds", "501"),
        ("market", ""),
        ("market", ""),
    ]
    with pytest.raises(BadListing):
        event_terms(obj)


@pytest.mark.parametrize("markets", [None, []])
def test_an_event_may_have_no_markets_yet(markets: Any) -> None:
    assert event_terms({**wire.event([]), "markets": markets}).markets == ()


@pytest.mark.parametrize(
    "tags", [None, [], [{}], [{"label": None, "slug": None}], [{"id": "1", "label": "Sport"}]]
)
def test_odd_tags_harm_no_event(tags: Any) -> None:
    assert event_terms(wire.event([wire.market(1)], tags=tags)).tags in ((), ("Sport",))


def test_an_event_without_a_title_or_date_is_read() -> None:
    event = event_terms(wire.event([], title=None, endDate=None, slug=None))

    assert (event.title, event.slug, event.end_at) == ("", "", None)


def test_an_event_that_cannot_be_read_is_rejected_alone() -> None:
    events, rejected = read(
        [
            wire.event([wire.market(0)], id=5),
            wire.event([wire.market(1)], endDate="soon", id="78"),
            {**wire.event([]), "id": "79", "markets": "none"},
            wire.event([wire.market(3)], id="80"),
        ]
    )

    assert [event.event_id for event in events] == ["80"]
    assert [bad.field for bad in rejected] == ["event", "endDate", "event"]


# --- pages ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda event: event,
        lambda event: [event],
        lambda event: {"events": [event], "next_cursor": "abc"},
        lambda event: {"$schema": "x", "events": [event]},
    ],
)
def test_events_are_read_from_every_kind_of_page(wrap: Any) -> None:
    events, rejected = read(wrap(wire.event([wire.market(0), wire.market(1)])))

    assert [(event.event_id, len(event.markets)) for event in events] == [("77", 2)]
    assert events[0].complete
    assert not rejected


@pytest.mark.parametrize(
    "wrap",
    [
        lambda *markets: list(markets),
        lambda *markets: {"markets": list(markets), "next_cursor": "abc"},
    ],
)
def test_markets_on_their_own_are_grouped_by_event_and_never_complete(wrap: Any) -> None:
    head = {"id": "9", "title": " Who? ", "negRisk": True, "negRiskAugmented": True}
    page = wrap(
        wire.market(0, events=[head]),
        wire.market(1, events=[head]),
        wire.market(2),
        wire.market(3, neg_risk=False),
    )

    events, rejected = read(page)

    known, group, alone = events
    assert (known.event_id, known.title, len(known.markets)) == ("9", "Who?", 2)
    assert (known.neg_risk, known.augmented) == (True, True)
    assert (group.event_id, group.neg_risk) == (f"{GROUP}00", True)
    assert (alone.event_id, alone.neg_risk) == ("503", False)
    assert not any(event.complete for event in events)
    assert not rejected


def test_a_single_market_is_a_page() -> None:
    events, _ = read(wire.market(1))

    assert [market.market_id for market in events[0].markets] == ["501"]


def test_what_is_no_object_on_a_page_harms_no_other() -> None:
    events, rejected = read([None, wire.market(1), 5, [], "x", {}, {"error": "no"}])

    assert len(events) == 1
    assert [bad.field for bad in rejected] == ["page"] * 4 + ["market"] * 2


def test_a_bad_event_inside_a_market_harms_no_other() -> None:
    bad_head = {"id": "9", "endDate": "soon"}

    events, rejected = read(
        [wire.market(0, events=[bad_head]), wire.market(1, events=[bad_head]), wire.market(2)]
    )

    assert [market.market_id for event in events for market in event.markets] == ["502"]
    assert [(bad.field, bad.market_id) for bad in rejected] == [
        ("endDate", "500"),
        ("endDate", "501"),
    ]


@pytest.mark.parametrize("page", [None, 5, "text", True])
def test_what_is_no_page_is_rejected(page: Any) -> None:
    with pytest.raises(BadListing, match="page"):
        read(page)


@pytest.mark.parametrize("page", [[], {"events": []}, {"markets": [], "next_cursor": "x"}])
def test_an_empty_page_says_nothing(page: Any) -> None:
    assert read(page) == ((), [])


def test_numbers_that_json_does_not_know_harm_only_their_own_field() -> None:
    body = json.dumps([wire.market(1, volumeNum=float("nan")), wire.market(2, orderMinSize=7)])

    events, rejected = read(decode_page(body.replace(": 7", ": 1e400").encode()))

    assert [market.market_id for event in events for market in event.markets] == ["501"]
    assert [(bad.field, bad.market_id) for bad in rejected] == [("orderMinSize", "502")]


@pytest.mark.parametrize(
    "body", [b"", b"<html>403</html>", b'[{"a": "\xff"}]', b"[" * 100_000, b'[{"id": "1"', b"\x00"]
)
def test_a_body_that_is_no_json_is_named(body: bytes) -> None:
    with pytest.raises(BadListing, match="page"):
        decode_page(body)


@pytest.mark.parametrize("body", [b"<html>403</html>", b'[{"a": "\xff"}]', b"[" * 100_000, b"5"])
def test_the_pipeline_counts_a_page_it_cannot_read_and_goes_on(body: bytes) -> None:
    pipeline = Pipeline(())

    pipeline.feed(Frame(5, "gamma", body))
    step = pipeline.feed(Frame(6, "gamma", json.dumps(wire.event([wire.market(1)])).encode()))

    (problem,) = pipeline.problems.drain()
    assert (problem.source, problem.reason, problem.last_at) == ("gamma", "bad_page", 5)
    assert [event.event_id for event in step.events] == ["77"]


# --- times ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-06-27T16:02:24Z", "2026-06-27T16:02:24+00:00"),
        ("2026-06-27T16:02:24.54092Z", "2026-06-27T16:02:24.540920+00:00"),
        ("2026-06-27 08:34:20+00", "2026-06-27T08:34:20+00:00"),
        ("2026-06-27T10:00:00+02:00", "2026-06-27T08:00:00+00:00"),
        ("2026-06-27T10:00:00", "2026-06-27T10:00:00+00:00"),
        ("2026-06-27", "2026-06-27T00:00:00+00:00"),
    ],
)
def test_every_spelling_of_a_time_is_utc(text: str, iso: str) -> None:
    parsed = parse_time(text, "endDate")

    assert parsed is not None
    assert parsed.isoformat() == iso


@pytest.mark.parametrize("text", [None, ""])
def test_no_time_is_none(text: str | None) -> None:
    assert parse_time(text, "endDate") is None


# --- anything at all ------------------------------------------------------

ODD = st.sampled_from(
    [
        *(None, "", 0, -1, True, 1e308, float("nan"), float("inf"), "NaN", "sNaN", [], {}, [None]),
        *("1e999990", "1e99999999999", "-1e-99999999999", '["a"', "[1, 2]", "[" * 20_000, "\ud800"),
        *("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "\x00", "x" * 100_000),
        *({"rate": "1e999999"}, {"rate": "sNaN", "exponent": "sNaN"}, [{"id": "1"}], 10**30),
        *('["\\ud800", "1"]', "['a', 'b']", '["1e99999", "0"]', '["sNaN", "0"]'),
    ]
)
FIELDS = sorted(
    [*wire.market(1), "events", "feeSchedule", "version", "positionIds", "liquidityNum"]
)


@pytest.mark.timeout(60)
@settings(max_examples=300, deadline=2_000)
@given(
    market_fields=st.dictionaries(st.sampled_from(FIELDS), ODD, min_size=1, max_size=3),
    event_fields=st.dictionaries(st.sampled_from(sorted(wire.event([]))), ODD, max_size=2),
    closed=st.booleans(),
)
def test_no_object_stops_the_next(market_fields: Any, event_fields: Any, closed: bool) -> None:
    odd = wire.market(1, **{"closed": closed} | market_fields)
    odd_event = wire.event([odd, wire.market(2)]) | event_fields
    page = [odd, odd_event, wire.event([wire.market(3)])]

    events, rejected = read(page)

    assert "503" in {market.market_id for event in events for market in event.markets}
    for bad in rejected:
        assert bad.field
        assert bad.reason


# --- the venue's own objects ----------------------------------------------


def test_every_recorded_market_is_read_or_rejected_with_a_reason() -> None:
    source = DATA / "gamma" / "markets_2026-02.jsonl.gz"
    if not source.exists():
        pytest.skip(f"real data are not here: {source.name}")
    with gzip.open(source) as lines:
        objects = list(map(json.loads, lines))

    events, rejected = read(objects)

    markets = [market for event in events for market in event.markets]
    assert (len(objects), len(markets), len(rejected)) == (1_341, 1_314, 27)
    assert Counter((bad.field, bad.reason) for bad in rejected) == {
        ("clobTokenIds", f"has {count} items instead of 2"): times
        for count, times in ((3, 5), (4, 4), (5, 8), (6, 8), (7, 2))
    }
    assert {market.market_id for market in markets} | {bad.market_id for bad in rejected} == {
        obj["id"] for obj in objects
    }
    assert Counter(market.untradable for market in markets) == {
        None: 503,
        "closed": 474,
        "resolved": 291,
        "no_order_book": 46,
    }
    assert Counter(market.payout for market in markets) == {
        None: 1_023,
        Decimal(0): 181,
        Decimal(1): 109,
        Decimal("0.5"): 1,
    }
    assert sum(market.leg_number is not None for market in markets) == 408
