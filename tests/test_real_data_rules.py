"""Every rule over the real data: nothing is called executable that is not, and no price a quote.

The data are not part of the product; they are looked for at `../shared/data`. The figures
are those of docs/relations.md and docs/rules.md; `python -m tests.real_rules` prints them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rules.kernel.baskets import detect_event
from rules.kernel.endgame import EndgameParams, detect_endgame
from tests import real_rules as real

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="real data (../shared/data) are not here")

FIRM = {"EXECUTABLE", "THIN"}  # verdicts that make a P1 or P2 of an arbitrage


@pytest.fixture(scope="module")
def listing():
    """The listing of February 2026: objects, events and views."""
    objects = real.listed_objects()
    events = real.listed_events(objects)
    return objects, events, real.listed_views(objects, events)


# --- ladders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "markets", "dates", "suppressed"),
    [("1a6467", 8_701, 71, 84), ("d174a6", 9_550, 77, 95)],
)
def test_date_ladders_are_proposed_unless_the_venues_dates_contradict_them(
    file, markets, dates, suppressed
):
    wordings = real.flat_wordings(f"gamma/manja_markets_{file}.csv.gz")
    found = real.ladders_in(wordings)

    assert len(wordings) == markets
    assert real.by_method(found.proposed)["date ladder"] == dates
    assert real.by_method(found.suppressed)["date ladder"] == suppressed
    why = real.reasons(found, "date ladder")
    assert set(why) == {"date in the text against the end date", "no end date"}


def test_no_proposed_date_ladder_holds_a_market_that_the_venue_ends_on_another_day():
    wordings = real.flat_wordings("gamma/manja_markets_d174a6.csv.gz")
    ends = {each.market_id: each.end_at for each in wordings}
    ladders = [p for p in real.ladders_in(wordings).proposed if p.method == "date ladder"]

    rungs = [ends[market] for ladder in ladders for market in ladder.members]

    assert len(rungs) > 2 * 77 - 1
    for ladder in ladders:
        assert [ends[m] for m in ladder.members] == sorted(ends[m] for m in ladder.members)


def test_ladders_of_a_listing_with_rules_are_compared_by_their_rules_too(listing):
    objects, events, _ = listing
    found = real.ladders_in(real.listed_wordings(objects, events))

    assert real.by_method(found.proposed) == {
        "date ladder": 7, "range": 1, "threshold ladder": 14,
    }  # fmt: skip
    assert real.reasons(found, "date ladder") == Counter({"source differs": 1})


def test_a_market_without_an_end_gives_no_date_ladder():
    found = real.ladders_in(real.us_wordings())

    assert not found.proposed
    assert real.reasons(found, "date ladder") == Counter({"no end date": 21})


# --- rules that buy ------------------------------------------------------------------------


def test_no_basket_of_outcomes_that_are_not_all_there_is_executable(listing):
    """25 events are shown with YES for less than 1 USD together: a page shows some outcomes."""
    *_, views = listing

    told, under_one = real.baskets_over(views, at=real.FEBRUARY)

    assert under_one == 25
    assert told.looks > 1_000
    assert not FIRM & told.verdicts.keys()


def test_what_stops_the_baskets_of_a_page_is_that_it_shows_some_outcomes_only(listing):
    *_, views = listing
    paying = [
        finding
        for view in views
        for finding in detect_event(view, at=real.FEBRUARY, limits=real.LIMITS)[0]
        if finding.kind == "yes_basket"
    ]

    assert paying
    assert all("missing_leg" in finding.blocked_by for finding in paying)


@pytest.mark.parametrize("approved", [False, True])
def test_proposed_relations_are_worth_nothing_at_the_touch_whoever_approves_them(listing, approved):
    objects, events, views = listing
    proposals = real.proposals_in(real.listed_wordings(objects, events))

    cross, temporal = real.relations_over(views, proposals, at=real.FEBRUARY, approved=approved)

    assert (cross.looks, temporal.looks) == (21, 7)
    assert not FIRM & (cross.verdicts.keys() | temporal.verdicts.keys())


def test_endgames_are_bets_and_say_how_few_events_speak_for_them(listing):
    *_, views = listing
    history, params = real.known_endgames(), EndgameParams(minutes_to_end=60 * 24 * 30)
    found = [
        finding
        for view in views
        if (finding := detect_endgame(view, at=real.FEBRUARY, params=params, history=history))
    ]

    assert len(found) == 33
    assert {finding.verdict for finding in found} == {"OBSERVED"}
    for finding in found:
        facts = dict(finding.facts)
        enough = int(facts["events"]) >= int(facts["events_needed"])
        assert enough or "insufficient_data" in finding.blocked_by


@pytest.mark.parametrize(
    "file", ["quotes_2026-08-13_1200-1800_nonsports", "quotes_2026-07-12_resolved_games"]
)
def test_six_hours_and_a_day_of_us_quotes_hold_no_arbitrage_inside_a_market(file):
    found = list(real.series(f"us_quotes/{file}.csv.gz"))

    told = real.pairs_over(found)

    assert told.looks == told.near > 60_000
    assert not told.verdicts


def test_two_sides_of_different_moments_are_not_believed_together():
    apart = real.both_sides()

    assert apart.believed == 4
    assert apart.told.verdicts == {"BLOCKED": 4}
    assert apart.told.looks > 38_000


def test_dumps_of_a_cache_hold_no_arbitrage_inside_a_market():
    told = real.dumped_pairs(real.dumped_books())

    assert told.looks > 2_600
    assert not told.verdicts


# --- prices without bid and ask ---------------------------------------------------------------


def test_prices_are_never_taken_for_quotes():
    """A detector that took them for asks would have seen 5,674 baskets under 0.98 USD."""
    kept = real.kept_history()
    sums = real.price_sums(kept)
    assert (len(sums), sum(each < 0.98 for each in sums)) == (48_314, 5_674)

    views = real.history_views(kept)
    told, _ = real.baskets_over(views, at=real.FEBRUARY)
    endgame = real.endgame_over(
        views, real.known_endgames(), at=real.FEBRUARY, params=EndgameParams(minutes_to_end=1e9)
    )

    assert told.looks == endgame.looks == 36
    assert not told.verdicts and not endgame.verdicts and told.near == 0


@pytest.mark.parametrize(
    ("moves", "bar_secs", "tick"),
    [("history", 1_800, real.CENT), ("flu", 300, real.TENTH), ("games", 120, real.CENT)],
)
def test_moves_are_rare_in_series_of_every_pace(moves, bar_secs, tick):
    found = {
        "history": lambda: real.history_moves(),
        "flu": real.flu_moves,
        "games": lambda: real.series("us_quotes/quotes_2026-07-12_resolved_games.csv.gz"),
    }[moves]()

    spikes, breakouts = real.moves_over(found, bar_secs=bar_secs, tick=tick)

    for told in (spikes, breakouts):
        assert 0 < told.verdicts["OBSERVED"] < told.looks / 10
