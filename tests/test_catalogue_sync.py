"""The catalogue kept equal to the venue's: full passes, news, results, and what vanishes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from markets import sync
from markets.models import Event, Market, Outcome, SyncRun, TermsChange
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.sync import SyncResult
from tests.listing_venue import ListingVenue, event, market, plain
from tests.servers import ROOT, manage, settings_for
from tests.venue import VenueClient, mock_venue, venue_process

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

DATA = ROOT.parent / "shared" / "data"
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATER = NOON + HOUR / 2


def full(venue: Any, *, at: datetime = NOON) -> SyncResult:
    return async_to_sync(sync.full)(venue, at=at)


def two_events() -> ListingVenue:
    """A neg-risk event of three legs and a plain event of one market."""
    return ListingVenue(event(1, market(10), market(11), market(12)), event(2, plain(20)))


def states() -> dict[str, str]:
    return dict(Market.objects.values_list("id", "state"))


def changes(*fields: str) -> list[tuple[str, str, str, str]]:
    rows = TermsChange.objects.order_by("id").values_list("market_id", "field", "old", "new")
    return [row for row in rows if row[1] in fields]


# --- full passes -----------------------------------------------------------


def test_everything_open_is_stored_and_counted() -> None:
    venue = two_events()
    venue.events += [event(number, plain(number * 10)) for number in range(3, 8)]

    result = full(venue)

    assert (result.pages, result.events, result.markets) == (4, 7, 9)
    assert result.stored == 7 + 9 + 18
    assert (Event.objects.count(), Market.objects.count(), Outcome.objects.count()) == (7, 9, 18)
    assert not result.changes, "what is seen for the first time has no history"


def test_a_second_pass_writes_nothing() -> None:
    venue = two_events()
    full(venue)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        result = full(venue, at=LATER)

    assert (result.stored, result.unchanged, result.changes) == (0, 4, 0)
    written = {
        query["sql"].split('"')[1]
        for query in queries
        if query["sql"].split()[0] in ("INSERT", "UPDATE", "DELETE")
    }
    assert written == {"markets_syncrun"}


def test_only_what_changed_is_written() -> None:
    venue = two_events()
    full(venue)
    venue["511"]  # one leg among three
    venue.events[0]["markets"][1]["question"] = "Will 11 really win?"

    result = full(venue, at=LATER)

    assert (result.stored, result.unchanged, result.changes) == (1, 3, 1)
    assert dict(Market.objects.values_list("id", "seen_at")) == {
        "510": NOON, "511": LATER, "512": NOON, "520": NOON,
    }  # fmt: skip


def test_a_market_on_two_pages_is_taken_once() -> None:
    venue = two_events()
    venue.events.append(event(1, market(10), market(11), market(12)))

    result = full(venue)

    assert (result.events, result.markets, result.repeated, result.unchanged) == (2, 4, 3, 0)


def test_one_unreadable_market_harms_no_other() -> None:
    venue = two_events()
    venue.events[0]["markets"][1]["clobTokenIds"] = '["1"]'
    venue.events[1]["title"] = "half a character: \ud800"

    result = full(venue)

    assert result.rejected == {"clobTokenIds: has 1 items instead of 2": 1}
    assert states().keys() == {"510", "512", "520"}


def test_what_the_database_refuses_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = two_events()
    write = sync.catalogue.write

    def refuse_the_second(events: Any, **more: Any) -> Any:
        if any(each.event_id == "2" for each in events):
            raise IntegrityError("two of a kind")
        return write(events, **more)

    monkeypatch.setattr(sync.catalogue, "write", refuse_the_second)

    result = full(venue)

    assert result.markets == 3
    assert result.rejected == {"event: the database refuses it (IntegrityError)": 1}


def test_a_listing_that_breaks_off_makes_nothing_vanish() -> None:
    venue = two_events()
    venue.events += [event(3, plain(30)), event(4, plain(40))]
    full(venue)
    venue.fails_after = 1

    with pytest.raises(ConnectionError):
        full(venue, at=LATER)

    assert set(states().values()) == {"TRADABLE"}
    run = SyncRun.objects.latest("id")
    assert (run.pages, run.markets, run.error) == (1, 4, "the listing broke off")
    assert run.ended_at is not None


def test_a_pass_leaves_a_row_with_its_counts() -> None:
    venue = two_events()
    venue.events[1]["markets"][0]["orderMinSize"] = -1

    full(venue)

    run = SyncRun.objects.get()
    assert (run.kind, run.started_at, run.error) == ("FULL", NOON, "")
    assert (run.events, run.markets, run.stored) == (2, 3, 2 + 3 + 6)
    assert run.rejected == {"orderMinSize: -1 is not a size": 1}


def test_rows_are_written_in_one_order_so_that_two_writers_cannot_lock_each_other_out() -> None:
    venue = two_events()
    venue.events = [event(2, plain(20)), event(1, market(12), market(10))]

    with CaptureQueriesContext(connection) as queries:
        full(venue)

    for table, ids in (("markets_event", ("1", "2")), ("markets_market", ("510", "512", "520"))):
        (sql,) = (q["sql"] for q in queries if q["sql"].startswith(f'INSERT INTO "{table}"'))
        values = sql.partition(")")[2]
        found = re.findall(rf"\b(?:{'|'.join(ids)})\b", values)
        assert list(dict.fromkeys(found)) == list(ids)


# --- what vanishes ---------------------------------------------------------


def test_what_is_not_listed_any_more_is_asked_for_by_id() -> None:
    venue = two_events()
    venue.events += [event(number, plain(number * 10)) for number in (3, 4, 5)]
    full(venue)
    closed, resolved, gone = venue.events[2:5]
    closed["closed"] = resolved["closed"] = True
    closed["markets"][0]["closed"] = True
    resolved["markets"][0] |= {"closed": True, "outcomePrices": '["0", "1"]'}
    venue.events.remove(gone)

    result = full(venue, at=LATER)

    assert result.vanished == {"closed": 1, "resolved": 1, "unknown": 1}
    assert states() == dict.fromkeys(("510", "511", "512", "520"), "TRADABLE") | {
        "530": "CLOSED", "540": "RESOLVED", "550": "UNLISTED",
    }  # fmt: skip
    assert Market.objects.get(id="550").checked_at == LATER


def test_a_market_that_only_its_id_finds_stays_open() -> None:
    venue = two_events()
    full(venue)
    venue.extra = [venue["520"]]
    del venue.events[1]

    result = full(venue, at=LATER)

    assert result.vanished == {"tradable": 1}
    assert states()["520"] == "TRADABLE"
    assert venue.asked == [(plain(20)["conditionId"], True),
                                               (plain(20)["conditionId"], False)]  # fmt: skip


def test_a_market_that_became_unreadable_is_not_traded() -> None:
    venue = two_events()
    full(venue)
    venue.events[1]["markets"][0]["clobTokenIds"] = ""

    result = full(venue, at=LATER)

    assert result.vanished == {"unreadable": 1}
    assert states()["520"] == "UNLISTED"


def test_what_comes_back_trades_again() -> None:
    venue = two_events()
    full(venue)
    kept = venue.events.pop()
    full(venue, at=LATER)
    venue.events.append(kept)

    full(venue, at=LATER + timedelta(hours=1))

    assert states()["520"] == "TRADABLE"
    assert changes("STATE") == [
        ("520", "STATE", "TRADABLE", "UNLISTED"),
        ("520", "STATE", "UNLISTED", "TRADABLE"),
    ]


# --- history ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "given", "old", "new"),
    [
        ("TICK_SIZE", {"orderPriceMinTickSize": 0.001}, "0.01", "0.001"),
        ("MIN_SIZE", {"orderMinSize": 15}, "5", "15"),
        ("QUESTION", {"question": "Else?"}, "Will 20 win?", "Else?"),
        ("END_AT", {"endDate": "2026-07-02T00:00:00Z"}, "2026-07-01T00:00:00+00:00",
         "2026-07-02T00:00:00+00:00"),
        ("STATE", {"acceptingOrders": False}, "TRADABLE", "PAUSED"),
        ("FEE_RATE", {"feesEnabled": True, "feeSchedule": {"rate": 0.05, "exponent": 1}}, "0",
         "0.05"),
        ("FEE_RATE", {"feesEnabled": True, "feeType": "new_fees"}, "0", ""),
    ],
)  # fmt: skip
def test_a_change_of_terms_is_kept_with_both_values(
    field: str, given: dict[str, Any], old: str, new: str
) -> None:
    venue = two_events()
    full(venue)
    venue.events[1]["markets"][0] |= given

    full(venue, at=LATER)

    change = TermsChange.objects.get()
    assert (change.market_id, change.event_id, change.at) == ("520", "2", LATER)
    assert (change.field, change.old, change.new) == (field, old, new)


def test_figures_that_move_all_day_have_no_history() -> None:
    venue = two_events()
    full(venue)
    venue.events[1]["markets"][0] |= {"liquidityNum": 5.5, "volumeNum": 70}

    result = full(venue, at=LATER)

    assert (result.stored, result.changes) == (1, 0)


def test_outcomes_added_removed_and_renamed_are_told() -> None:
    venue = two_events()
    full(venue)
    legs = venue.events[0]["markets"]
    legs[0]["groupItemTitle"] = "Named at last"
    del legs[1]
    legs.append(market(13, group=1))

    full(venue, at=LATER)

    assert changes("LEG") == [
        ("510", "LEG", "Number 10", "Named at last"),
        ("513", "LEG", "", "Number 13"),
        ("511", "LEG", "Number 11", ""),
    ]
    assert states()["511"] == "UNLISTED", "no basket may count on it"
    assert str(Event.objects.get(id="1").legs()) == "3 tradable, 1 unlisted"


def test_a_market_that_moves_to_another_event_is_told_in_both() -> None:
    venue = two_events()
    full(venue)
    venue.events[0]["markets"].append(venue.events[1]["markets"].pop())

    full(venue, at=LATER)

    moved = TermsChange.objects.filter(market="520", field="LEG").order_by("id")
    assert list(moved.values_list("event_id", "old", "new")) == [
        ("2", "Number 20", ""), ("1", "", "Number 20"),
    ]  # fmt: skip


def test_other_placeholders_and_early_results_are_told_apart() -> None:
    settled = {"closed": True, "outcomePrices": '["0", "1"]'}
    venue = ListingVenue(
        event(
            1,
            market(10),
            market(11, **settled),
            market(12, active=False),
            market(13, negRiskOther=True),
            negRiskAugmented=True,
        )
    )

    full(venue)

    told = Event.objects.get()
    assert told.augmented
    assert str(told.legs()) == (
        "1 placeholder, 1 resolved, 2 tradable, 1 of them settled to NO, with a catch-all"
    )


def test_a_known_result_outlives_an_object_without_it() -> None:
    venue = two_events()
    venue.events[1]["markets"][0] |= {"closed": True, "outcomePrices": '["1", "0"]'}
    full(venue)
    venue.events[1]["markets"][0]["outcomePrices"] = None

    full(venue, at=LATER)

    assert Market.objects.filter(id="520", state="RESOLVED", payout=1).exists()
    assert not changes("STATE", "PAYOUT")


# --- contradictions --------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "conflict"),
    [
        ({"question": "Gone by March 31?"},
         "the question speaks of 2026-03-31, the venue ends it on 2026-07-01"),
        ({"question": "Gone by June 30?"}, ""),
        ({"question": "Gone by June 30, 2027?"},
         "the question speaks of 2027-06-30, the venue ends it on 2026-07-01"),
        ({"question": "On July 8, 2026?"}, ""),
        ({"question": "On July 9, 2026?"},
         "the question speaks of 2026-07-09, the venue ends it on 2026-07-01"),
        ({"question": "By March 1 or by April 1?"}, ""),
        ({"question": "By February 30?"}, ""),
        ({"question": "Gone by March 31?", "closed": True}, ""),
        ({"negRisk": True, "negRiskMarketID": "0xabc"},
         "the market is neg-risk, the event is not"),
    ],
)  # fmt: skip
def test_contradictions_are_flagged_only_where_they_are_clear(
    given: dict[str, Any], conflict: str
) -> None:
    venue = ListingVenue(event(2, plain(20, **given), negRisk=False, enableNegRisk=False))

    full(venue)

    assert Market.objects.get().conflict == conflict
    assert Market.objects.in_conflict().count() == bool(conflict)


def test_a_missing_outcome_is_flagged_on_those_that_remain() -> None:
    venue = ListingVenue(event(1, market(10), market(13)), event(2, market(30), market(31)))

    full(venue)

    flagged = dict(Market.objects.in_conflict().values_list("id", "conflict"))
    missing = "outcomes numbered 1, 2 are not listed in the event"
    assert flagged == {"510": missing, "513": missing}


# --- news and results ------------------------------------------------------


def news(venue: ListingVenue, *watched: str, at: datetime = LATER) -> SyncResult:
    return async_to_sync(sync.news)(venue, watched=watched, at=at)


def test_a_new_market_comes_with_its_whole_event() -> None:
    venue = two_events()
    full(venue)
    venue.events[0]["markets"].append(market(90, group=1))
    venue.events[0]["markets"][0]["groupItemTitle"] = "Renamed beside it"

    result = news(venue)

    assert states()["590"] == "TRADABLE"
    assert Market.objects.get(id="510").label == "Renamed beside it"
    assert result.events == 1, "other events are left for the full pass"


def test_no_news_asks_for_one_page_only() -> None:
    venue = two_events()
    full(venue)

    result = news(venue)

    assert (result.markets, result.stored) == (0, 0)


def test_a_watched_market_that_closed_is_seen_at_once() -> None:
    venue = two_events()
    full(venue)
    venue.events[0]["markets"][2] |= {"closed": True, "outcomePrices": '["0", "1"]'}

    news(venue, *(market(number)["conditionId"] for number in (10, 11, 12)))

    assert states() | {"520": "-"} == {"510": "TRADABLE", "511": "TRADABLE", "512": "RESOLVED",
                                       "520": "-"}  # fmt: skip
    assert Event.objects.get(id="1").neg_risk, "a market's copy of its event takes nothing away"


def results(venue: ListingVenue, *, at: datetime) -> SyncResult:
    return async_to_sync(sync.results)(venue, at=at)


@pytest.mark.parametrize(
    ("prices", "payout"), [(["1", "0"], "1"), (["0", "1"], "0"), (["0.5", "0.5"], "0.5")]
)
def test_results_of_markets_past_their_end_are_stored(prices: list[str], payout: str) -> None:
    venue = two_events()
    full(venue)
    over = datetime(2026, 7, 1, 0, 1, tzinfo=UTC)
    venue.events[1]["markets"][0] |= {
        "closed": True,
        "outcomePrices": json.dumps(prices),
        "umaResolutionStatus": "resolved",
    }

    results(venue, at=over)

    settled = Market.objects.get(id="520")
    assert (settled.state, settled.payout) == ("RESOLVED", Decimal(payout))
    assert len(venue.asked) == 4, "all four ended, one is settled"
    assert ("520", "PAYOUT", "", payout) in changes("PAYOUT")


def test_results_are_asked_for_less_and_less_often() -> None:
    venue = two_events()
    full(venue)
    end = datetime(2026, 7, 1, tzinfo=UTC)

    def asked(after: timedelta) -> int:
        venue.asked.clear()
        results(venue, at=end + after)
        return len(venue.asked)

    minute, day = timedelta(minutes=1), timedelta(days=1)
    assert asked(-minute) == 0
    assert asked(minute) == 4
    assert asked(minute * 1.5) == 0
    assert asked(minute * 3) == 4
    assert asked(2 * day) == 4
    assert asked(2 * day + 5 * minute) == 0
    assert asked(2 * day + 11 * minute) == 4
    assert asked(30 * day) == 4
    assert asked(30 * day + timedelta(hours=23)) == 0
    assert asked(31 * day + minute) == 4


# --- the CLOB's own pages --------------------------------------------------


def clob(number: int, *, closed: bool = False, won: int | None = None, **changes: Any) -> Any:
    tokens = json.loads(plain(number)["clobTokenIds"])
    return {
        "condition_id": plain(number)["conditionId"],
        "question": f"Will {number} win?",
        "active": True,
        "closed": closed,
        "archived": False,
        "accepting_orders": not closed,
        "enable_order_book": not closed,
        "minimum_order_size": 5,
        "minimum_tick_size": 0.001,
        "taker_base_fee": 0,
        "neg_risk": False,
        "neg_risk_market_id": "",
        "end_date_iso": "2026-07-01T00:00:00Z",
        "tokens": [
            {"token_id": token, "outcome": name, "winner": won == index}
            for index, (token, name) in enumerate(zip(tokens, ("Yes", "No"), strict=True))
        ],
        **changes,
    }


def take(*objects: Any) -> SyncResult:
    return async_to_sync(sync.files)([{"data": list(objects), "next_cursor": "LTE="}], at=LATER)


def test_the_clob_tells_who_won_a_market_that_gamma_named() -> None:
    full(two_events())

    result = take(clob(20, closed=True, won=1), clob(10))

    assert (result.markets, result.stored, result.unchanged) == (2, 1, 1)
    settled = Market.objects.get(id="520")
    assert (settled.state, settled.payout, settled.question) == ("RESOLVED", 0, "Will 20 win?")
    assert settled.tick_size == Decimal("0.01"), "the rest is Gamma's to say"


def test_a_market_known_only_to_the_clob_goes_by_its_condition() -> None:
    take(clob(20), clob(30, closed=True, is_50_50_outcome=True), clob(40, taker_base_fee=200))

    rows = dict(Market.objects.values_list("condition_id", "fee_rate"))
    assert rows == {clob(20)["condition_id"]: 0, clob(30)["condition_id"]: 0,
                    clob(40)["condition_id"]: None}  # fmt: skip
    assert Market.objects.get(id=clob(30)["condition_id"]).payout == Decimal("0.5")


def test_gamma_takes_over_what_only_the_clob_knew() -> None:
    take(clob(20))

    full(two_events())

    assert list(Outcome.objects.filter(market="520").values_list("index", flat=True)) == [0, 1]
    assert not Outcome.objects.filter(market=clob(20)["condition_id"]).exists()


# --- real objects ----------------------------------------------------------

REAL = {
    "gamma/markets_2026-02.jsonl.gz": (1_341, 1_314, {
        "clobTokenIds: has 3 items instead of 2": 5,
        "clobTokenIds: has 4 items instead of 2": 4,
        "clobTokenIds: has 5 items instead of 2": 8,
        "clobTokenIds: has 6 items instead of 2": 8,
        "clobTokenIds: has 7 items instead of 2": 2,
    }),
    # Other collectors' summaries: they name no tokens or no market, so nothing can be traded.
    "gamma/negrisk_events_live_2026-04-26.json.gz": (7, 0, {
        "market: Expected `str`, got `object` - at `$.outcomes[0]`": 7,
    }),
    "gamma/manja_markets_1a6467.csv.gz": (8_701, 0, {
        "clobTokenIds: has 0 items instead of 2": 8_701,
    }),
    "gamma/manja_markets_d174a6.csv.gz": (9_550, 0, {
        "market: Object missing required field `id`": 9_550,
    }),
    "clob/sampling_markets_2026-02.json.gz": (1_000, 1_000, {}),
    "clob/markets_page_resolved_2021-2024.json.gz": (1_000, 945, {
        "clobTokenIds: a token id must be a decimal number": 1,
        "condition_id: is missing or empty": 54,
    }),
}  # fmt: skip


def count_in(path: Path) -> int:
    text = gzip.decompress(path.read_bytes()).decode()
    if ".jsonl" in path.name:
        return len(text.splitlines())
    if ".csv" in path.name:
        return sum(1 for _ in csv.DictReader(io.StringIO(text)))
    page = json.loads(text)
    return len(page.get("data") or page["events"])


@pytest.mark.parametrize("name", REAL)
def test_every_real_object_is_stored_or_rejected_with_a_reason(name: str) -> None:
    from markets.kept_pages import pages_of

    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no real data at {path}")
    given, stored, reasons = REAL[name]
    assert count_in(path) == given

    result = async_to_sync(sync.files)(pages_of([path]), at=NOON)

    assert (result.markets, result.repeated) == (stored, 0)
    assert result.rejected == reasons
    assert result.markets + sum(result.rejected.values()) == given
    assert Market.objects.count() == stored
    assert Outcome.objects.count() == 2 * stored


def test_real_results_of_the_clob_are_read_as_they_are() -> None:
    from markets.kept_pages import pages_of

    path = DATA / "clob/markets_page_resolved_2021-2024.json.gz"
    if not path.is_file():
        pytest.skip(f"no real data at {path}")

    async_to_sync(sync.files)(pages_of([path]), at=NOON)

    payouts = Counter(str(each) for each in Market.objects.values_list("payout", flat=True))
    assert {name: payouts[name] for name in ("1.00", "0.00", "0.50")} == {
        "1.00": 285, "0.00": 294, "0.50": 7,
    }  # fmt: skip


# --- over the wire ---------------------------------------------------------


def over_http(venue: VenueClient, at: datetime) -> SyncResult:
    async def ask() -> SyncResult:
        async with VenueHttp(gamma_url=venue.url, clob_url=venue.url) as http:
            return await sync.full(Gamma(http), at=at)

    return async_to_sync(ask)()


def test_a_churned_venue_is_followed_and_only_its_changes_are_written() -> None:
    with mock_venue(events=2, rate=1.0, markets=1_000) as venue:
        venue.hold()
        first = over_http(venue, NOON)
        told = venue.order(churn=2.0)["churn"]
        over_http(venue, LATER)
        third = over_http(venue, LATER + timedelta(hours=1))

    assert first.markets >= 1_000 and not first.rejected
    turned = {pk for kind, ids in told.items() if kind != "new" for pk in ids}
    news = TermsChange.objects.filter(at=LATER).values_list("market_id", flat=True)
    assert set(news) == turned
    written = set(Market.objects.filter(seen_at=LATER).values_list("id", flat=True))
    assert written == (turned | set(told["new"])) - set(told["outcomes"])
    assert {row for row, *_ in changes("TICK_SIZE")} == set(told["tick"])
    assert {row for row, *_ in changes("OUTCOMES")} == set(told["outcomes"])
    assert {row for row, *_ in changes("PAYOUT")} == set(told["resolved"])
    assert (third.stored, third.changes) == (0, 0)


@pytest.mark.skipif(
    "MPX_TEST_SLOW" not in os.environ, reason="takes two minutes: set MPX_TEST_SLOW=1"
)
@pytest.mark.timeout(600)
def test_forty_thousand_markets_in_one_pass(tmp_path: Path) -> None:
    with venue_process("--events", "4", "--rate", "1", "--markets", "40000") as venue:
        env = settings_for(tmp_path, DATA_SOURCE="real", **venue.environment)
        manage("migrate", env=env)
        first = measured_sync(env)
        changed = venue.order(churn=1.0)["churn"]
        second = measured_sync(env)

    assert first["markets"] >= 40_000 and not first["rejected"]
    assert first["rss_mb"] < 400
    assert first["seconds"] < 120 and second["seconds"] < 120
    turned = sum(len(ids) for ids in changed.values())
    assert turned <= second["stored"] <= 3 * turned  # markets, tokens of new ones, live figures
    assert second["unchanged"] >= 0.98 * second["markets"]


def measured_sync(env: dict[str, str]) -> dict[str, Any]:
    code = (
        "import json, resource, time, django; django.setup(); from dataclasses import asdict;"
        "from markets.tasks import sync_now; t = time.monotonic(); told = asdict(sync_now());"
        "told['seconds'] = time.monotonic() - t;"
        "told['rss_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "print(json.dumps(told))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "DJANGO_SETTINGS_MODULE": "mpx_site.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told
