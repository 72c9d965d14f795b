"""Matching: what asks the same, what the opposite, and what only sounds alike."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from markets.ladders import find_ladders
from markets.matching import Comparison, clusters, compare, match
from markets.questions import Wording, read
from markets.related import Proposal, is_contradicted
from markets.resolution import Read, same_resolution

END = datetime(2026, 6, 30, tzinfo=UTC)


def asked(question: str, market_id: str = "1", **terms: Any) -> Read:
    wording = Wording(market_id, question, **{"end_at": END, **terms})
    return wording, read(wording)


def compared(a: str | Read, b: str | Read, **terms: Any) -> Comparison:
    one, other = (asked(each, **terms) if isinstance(each, str) else each for each in (a, b))
    return compare(one, other)


def verdict(a: str | Read, b: str | Read, **terms: Any) -> str | tuple[str, ...]:
    found = compared(a, b, **terms)
    return tuple(found.differences) or found.type


# --- the same, and the opposite --------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            "Will Bitcoin reach $150,000 by June 30, 2026?",
            "Bitcoin to hit $150k by end of June 2026?",
        ),
        ("Will the US strike Iran before July 1, 2026?", "U.S. strikes on Iran by June 30, 2026?"),
        (
            "Will Bitcoin be above $80,000 on June 30?",
            "Bitcoin greater than $80k on June 30, 2026?",
        ),
        ("Will Zelensky resign by June 30?", "Zelenskyy out by June 30?"),
        ("Will Trump visit China in June?", "Trump visits China in June 2026?"),
    ],
)
def test_paraphrases_ask_the_same(a: str, b: str) -> None:
    assert verdict(a, b) == verdict(b, a) == "equivalent"


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        ("Will OpenAI IPO by June 30?", "Will OpenAI not IPO by June 30?", "complement"),
        ("Will Iran fall by June 30?", "Won't Iran fall by June 30?", "complement"),
        (
            "Will Tisza win at least 100 seats on June 30?",
            "Will Tisza win fewer than 100 seats on June 30?",
            "complement",
        ),
        (
            "Will BTC be above $62,000 on June 30?",
            "Will BTC be less than $62,000 on June 30?",
            "exclusive",  # at exactly 62,000 neither is true
        ),
        (
            "Will Seoul have 16\u00b0C or higher on June 30?",
            "Will Seoul have 16\u00b0C or lower on June 30?",
            "exhaustive",  # at exactly 16 both are
        ),
    ],
)
def test_inverted_questions_are_recognised(a: str, b: str, relation: str) -> None:
    assert verdict(a, b) == verdict(b, a) == relation


def test_swapped_outcomes_of_one_game_are_opposite() -> None:
    home = asked("Hawks vs. Bulls", outcomes=("Hawks", "Bulls"))
    away = asked("Bulls vs. Hawks", outcomes=("Bulls", "Hawks"))

    assert verdict(home, away) == ("order of names",)
    assert verdict(home, asked("Hawks vs. Bulls", outcomes=("Bulls", "Hawks"))) == "complement"


@pytest.mark.parametrize("negated", [False, True])
def test_in_a_period_implies_by_its_end_and_not_the_other_way(*, negated: bool) -> None:
    sense = "not " if negated else ""
    in_june = asked(f"Will Iran {sense}fall in June 2026?", "in")
    by_june = asked(f"Will Iran {sense}fall by June 30, 2026?", "by")

    found = list(match([by_june, in_june], threshold=0.78))

    assert [(each.type, each.members) for each in found] == [
        ("implies", ("by", "in") if negated else ("in", "by"))
    ]


# --- what only sounds alike --------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ("Bitcoin above $70,000 on June 30?", "Bitcoin above $72,000 on June 30?", "bound"),
        ("Will Tisza win 100 seats?", "Will Tisza win 101 seats?", "number"),
        ("Will inflation be 3%?", "Will inflation be 3?", "unit"),
        ("Will gold be $3,000?", "Will gold be \u20ac3,000?", "unit"),
        ("Tisza wins the vote by 9%?", "Tisza wins the vote 9%?", "unit"),
        ("Will it be exactly 3?", "Will it be 3 or more?", "bound"),
        (
            "Will BTC reach $90,000 on June 30?",
            "Will BTC be above $90,000 on June 30?",
            "touch or close",
        ),
        (
            "Will BTC close above $9 on June 30?",
            "Will BTC be above $9 on June 30?",
            "touch or close",
        ),
        ("WTI to hit (HIGH) $100 in June?", "WTI to hit (LOW) $100 in June?", "bound"),
        ("Iran deal by June 30?", "Iran deal by June 29?", "date"),
        ("Iran deal by June 30, 2026?", "Iran deal by June 30, 2027?", "date"),
        ("Iran deal by June 30?", "Iran deal on June 30?", "date"),
        ("Iran deal by June 30?", "Iran deal?", "date"),
        ("BTC Up or Down - June 30, 5AM ET", "BTC Up or Down - June 30, 6AM ET", "time of day"),
        ("BTC Up or Down - June 30, 5AM ET", "BTC Up or Down - June 30, 5AM UTC", "time zone"),
        (
            "Will Iran strike Israel by June 30?",
            "Will Israel strike Iran by June 30?",
            "order of names",
        ),
        ("Will Iran strike Iraq by June 30?", "Will Iran strike Israel by June 30?", "name"),
        ("Will Austria win Eurovision?", "Will Australia win Eurovision?", "name"),
        ("Will Trump say politics?", "Will Trump say geopolitics?", "word"),
        ("Will A win the most seats?", "Will A win the second most seats?", "word"),
        (
            "Will the ceasefire be broken by Iran?",
            "Will the ceasefire be extended by Iran?",
            "word",
        ),
        ("Will Khamenei jail A or B?", "Will Khamenei jail A and B?", "word"),
        ("Exports from China fall?", "Exports against China fall?", "word"),
    ],
)
def test_what_counts_keeps_questions_apart(a: str, b: str, difference: str) -> None:
    assert difference in verdict(a, b)
    assert verdict(a, b) == verdict(b, a)


def test_two_outcomes_of_one_event_are_never_the_same() -> None:
    terms = {"event_id": "7", "neg_risk": True}

    assert verdict(asked("Will it rain?", "1", **terms), asked("Will it rain?", "2", **terms)) == (
        "two outcomes of one event",
    )


def test_a_question_asked_of_every_game_is_about_its_own_event() -> None:
    over = {"outcomes": ("Over", "Under")}
    one = asked("Games Total: O/U 2.5", event_id="1", event_title="T1 vs G2 - Finals", **over)
    other = asked("Games Total: O/U 2.5", event_id="2", event_title="JDG vs BLG - Finals", **over)

    assert "event" in verdict(one, other)


def test_the_next_one_is_another_when_it_is_asked_later() -> None:
    question = "Will Leavitt be late to the next press briefing?"
    first = asked(question, event_id="1", opened_at=datetime(2026, 4, 1, tzinfo=UTC))
    later = asked(question, event_id="2", opened_at=datetime(2026, 4, 5, tzinfo=UTC))
    along = asked(question, event_id="3", opened_at=datetime(2026, 4, 1, 5, tzinfo=UTC))

    assert verdict(first, later) == ("event",)
    assert verdict(first, asked(question, event_id="4")) == ("event",)
    assert verdict(first, along) == "equivalent"


def test_the_next_days_game_of_the_same_two_is_another() -> None:
    teams = {"outcomes": ("Hawks", "Bulls")}
    today = asked("Hawks vs. Bulls", **teams)
    tomorrow = asked("Hawks vs. Bulls", end_at=END + timedelta(days=1), **teams)

    assert verdict(today, tomorrow) == ("date",)


def test_a_year_that_nothing_names_is_not_guessed() -> None:
    doubtful = asked("Iran deal by June 30?", end_at=datetime(2026, 12, 31, tzinfo=UTC))

    assert verdict(doubtful, "Iran deal by June 30, 2026?") == ("year",)


def test_another_spelling_of_a_long_name_is_a_doubt_not_a_difference() -> None:
    found = compared("Will President Zelenskyy fall?", "Will President Zelensky fall?")

    assert (found.type, found.differences) == ("equivalent", [])
    assert found.doubts == ["zelenskyy and zelensky are taken for one name"]


def test_end_dates_that_differ_are_a_doubt_where_the_question_is_dated() -> None:
    late = asked("Iran deal by June 30, 2026?", end_at=END + timedelta(days=90))

    assert compared("Iran deal by June 30, 2026?", late).doubts == ["the venue's end dates differ"]


# --- all of them -------------------------------------------------------------------------


def test_every_pair_is_found_once_and_nothing_else() -> None:
    questions = [f"Will Team {name} win the cup on June {day}?" for name in "ABCDEFGH"
                 for day in (10, 20, 30)]  # fmt: skip
    markets = [asked(question, str(n)) for n, question in enumerate(questions)]
    twins = [asked(f"Team {name} wins the cup on June 20, 2026?", f"x{name}") for name in "CF"]
    everything = [*markets, *twins]
    random.Random(1).shuffle(everything)

    found = list(match(everything, threshold=0.78))

    assert sorted(tuple(sorted(each.members)) for each in found) == [("16", "xF"), ("7", "xC")]


def test_matching_finds_what_comparing_all_pairs_finds() -> None:
    draw = random.Random(3)
    names, verbs = ("Iran", "Israel", "Oman", "Qatar"), ("strike", "sue", "leave", "visit")
    markets = [
        asked(
            f"Will {draw.choice(names)} {draw.choice(('', 'not '))}{draw.choice(verbs)} "
            f"{draw.choice(names)} by June {draw.choice((10, 30))}, 2026?",
            str(number),
        )
        for number in range(120)
    ]
    by_hand = {
        (a[0].market_id, b[0].market_id)
        for at, a in enumerate(markets)
        for b in markets[at + 1 :]
        if not compare(a, b).differences
    }

    found = {each.members for each in match(markets, threshold=0)}

    assert by_hand == found
    assert len(found) > 20


def test_groups_join_what_is_connected() -> None:
    assert clusters([("a", "b"), ("c", "d"), ("b", "e"), ("a", "e"), ("d", "f")]) == [
        ("a", "b", "e"),
        ("c", "d", "f"),
    ]


# --- ladders -----------------------------------------------------------------------------


def by(day: str, market_id: str, *, ends: datetime | None = END, **terms: Any) -> Read:
    return asked(f"Israel x Iran ceasefire by {day}?", market_id, end_at=ends, **terms)


MARCH, APRIL = datetime(2026, 3, 31, tzinfo=UTC), datetime(2026, 4, 30, tzinfo=UTC)


def ladders_of(*markets: Read) -> tuple[list[Proposal], list[str]]:
    found = find_ladders(markets)
    return list(found.proposed), [each.reason for each in found.suppressed]


def test_an_earlier_date_implies_a_later_one() -> None:
    proposed, suppressed = ladders_of(
        by("June 30", "c"), by("March 31", "a", ends=MARCH), by("April 30, 2026", "b", ends=APRIL)
    )

    assert [(each.type, each.members, each.method) for each in proposed] == [
        ("ladder", ("a", "b", "c"), "date ladder")
    ]
    assert suppressed == []


def test_not_by_a_later_date_implies_not_by_an_earlier() -> None:
    early = asked("Will OpenAI not IPO by April 30, 2026?", "a", end_at=APRIL)
    late = asked("Will OpenAI not IPO by June 30, 2026?", "b")

    assert ladders_of(early, late)[0][0].members == ("b", "a")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (by("June 30", "b", ends=datetime(2026, 12, 31, tzinfo=UTC)), "against the end date"),
        (by("June 30, 2026", "b", ends=None), "no end date"),
        (by("June 30", "b", source="https://a.org/"), "source differs"),
        (by("June 30", "b", rules="By June 30, 2026, 11:59 PM UTC."), "zone differs"),
        (by("June 30", "b", rules="By June 30, 11:59 PM ET, announced."), "wording differs"),
        (by("June 30", "b", opened_at=datetime(2026, 4, 5, tzinfo=UTC)), "opened after"),
        (by("June 30", "b", payout=0), "settled against it"),
    ],
)
def test_what_contradicts_a_step_suppresses_it_with_the_reason(other: Read, reason: str) -> None:
    first = by(
        "March 31",
        "a",
        ends=MARCH,
        source="https://b.org/",
        rules="By March 31, 11:59 PM ET.",
        payout=1,
    )

    proposed, suppressed = ladders_of(first, other)

    assert proposed == []
    assert len(suppressed) == 1 and reason in suppressed[0]


def test_unknown_is_a_doubt_on_the_proposal() -> None:
    proposed, _ = ladders_of(by("March 31", "a", ends=MARCH), by("June 30", "b"))

    assert "source unknown" in proposed[0].doubts


def level(value: str, market_id: str, **terms: Any) -> Read:
    return asked(f"Will Bitcoin be {value} on June 30?", market_id, **terms)


def test_more_implies_less_and_above_implies_at_least() -> None:
    proposed, _ = ladders_of(
        level("above $100,000", "c"), level("$100,000 or more", "d"), level("above $120k", "a")
    )

    assert proposed[0].members == ("a", "c", "d")
    assert proposed[0].method == "threshold ladder"


def test_below_runs_the_other_way() -> None:
    assert ladders_of(level("below $90k", "b"), level("below $80k", "a"))[0][0].members == (
        "a",
        "b",
    )


@pytest.mark.parametrize(
    "other",
    [
        asked("Will Bitcoin reach $90k on June 30?", "b"),
        asked("Will Bitcoin be above $90k on June 29?", "b"),
        asked("Will Bitcoin be above 90k on June 30?", "b"),
        asked("Will Ethereum be above $90k on June 30?", "b"),
        asked("Will Bitcoin be above $90k on June 30, 5PM ET?", "b"),
        asked("Will Bitcoin not be above $90k on June 30?", "b"),
    ],
)
def test_bounds_on_something_else_are_no_ladder(other: Read) -> None:
    assert ladders_of(level("above $100k", "a"), other) == ([], [])


def test_rungs_that_exclude_each_other_by_the_venue_are_no_ladder() -> None:
    terms = {"event_id": "7", "neg_risk": True}

    proposed, suppressed = ladders_of(
        level("above $100k", "a", **terms), level("above $90k", "b", **terms)
    )

    assert (proposed, suppressed) == ([], ["at most one of their event can be true"])


def test_totals_of_two_games_are_two_ladders() -> None:
    over = {"outcomes": ("Over", "Under")}
    rungs = [
        asked(f"Games Total: O/U {line}", f"{event}-{line}", event_id=event, **over)
        for event in "12"
        for line in (2.5, 3.5)
    ]

    assert [each.members for each in ladders_of(*rungs)[0]] == [
        ("1-3.5", "1-2.5"),
        ("2-3.5", "2-2.5"),
    ]


def test_bounds_of_the_next_one_belong_to_its_event() -> None:
    rungs = [
        asked(f"Will MrBeast's next video get {views}+ views?", f"{event}-{views}", event_id=event)
        for event in ("1", "2")
        for views in (10, 20)
    ]

    assert [each.members for each in ladders_of(*rungs)[0]] == [("1-20", "1-10"), ("2-20", "2-10")]
    assert ladders_of(*(asked(w.question, w.market_id) for w, _ in rungs)) == ([], [])


def test_a_range_implies_the_bound_below_it_and_excludes_the_one_above() -> None:
    bounds = [level(f"above ${k},000", f"above {k}") for k in (64, 66, 68, 70)]
    proposed, _ = ladders_of(*bounds, level("between $66,000 and $68,000", "range"))

    assert {(each.type, each.members) for each in proposed if each.method == "range"} == {
        ("implies", ("range", "above 64")),  # at exactly 66,000 it is not above it
        ("exclusive", ("range", "above 68")),
    }


# --- do they settle alike ------------------------------------------------------------------

RULES = (
    "This resolves to Yes by June 30, 2026, 11:59 PM ET. If it is canceled, this resolves 50-50. "
    "The resolution source for this market is https://bls.gov/cpi. "
    "It counts between May 2 and June 30."
)


def checks(a: Read, b: Read, *, ordered: bool = False) -> dict[str, str]:
    return {each.aspect: each.verdict for each in same_resolution((a, b), ordered=ordered)}


def test_the_same_rules_settle_alike() -> None:
    same = asked("Iran deal by June 30?", rules=RULES)

    assert set(checks(same, same).values()) == {"same"}


@pytest.mark.parametrize(
    ("change", "aspect", "verdict"),
    [
        ({"rules": RULES.replace("ET", "UTC")}, "zone", "different"),
        ({"rules": RULES.replace("11:59 PM ET", "end of day")}, "zone", "unknown"),
        ({"rules": RULES.replace("bls.gov/cpi", "bea.gov")}, "source", "different"),
        ({"rules": RULES.replace("https://bls.gov/cpi", "the bureau")}, "source", "unknown"),
        ({"rules": RULES.replace("50-50", "to No")}, "void", "different"),
        ({"rules": RULES + " Only a final score counts."}, "wording", "different"),
        ({"rules": ""}, "void", "unknown"),
        ({"rules": RULES.replace("May 2", "May 3")}, "opens", "different"),
        ({"rules": RULES.replace("It counts between May 2 and June 30.", "")}, "opens", "unknown"),
        ({"end_at": None}, "cutoff", "unknown"),
        ({"end_at": END + timedelta(hours=5)}, "cutoff", "unknown"),
        ({"end_at": END + timedelta(days=90)}, "cutoff", "unknown"),
    ],
)
def test_each_aspect_is_told_apart(change: dict[str, Any], aspect: str, verdict: str) -> None:
    one = asked("Iran deal by June 30, 2026?", rules=RULES)
    other = asked("Iran deal by June 30, 2026?", **{"rules": RULES, **change})

    assert checks(one, other)[aspect] == verdict


def test_a_later_cutoff_is_as_good_only_where_the_first_implies_the_second() -> None:
    early = asked("Iran deal by April 30, 2026?", end_at=APRIL)
    late = asked("Iran deal by June 30, 2026?")

    assert checks(early, late)["cutoff"] == "different"
    assert checks(early, late, ordered=True)["cutoff"] == "same"
    assert checks(late, early, ordered=True)["cutoff"] == "different"


def opens(rules: str, listed: str) -> Read:
    opened_at = datetime.fromisoformat(f"{listed}T00:00+00:00") if listed else None
    return asked("Iran deal by June 30, 2026?", rules=rules, opened_at=opened_at)


CREATED = "After the creation of this market."


@pytest.mark.parametrize(
    ("first", "second", "equal", "ordered"),
    [
        (("Between March 1 and May 2.", ""), ("From March 1, 2026 on.", ""), "same", "same"),
        (("On any day after March 2.", ""), ("After March 1.", ""), "different", "same"),
        (("After March 1.", ""), ("After March 2.", ""), "different", "different"),
        ((CREATED, "2026-03-01"), (CREATED, "2026-03-09"), "different", "different"),
        ((CREATED, ""), ("After March 1.", ""), "unknown", "unknown"),
        (("By June 30.", "2026-03-01"), ("By June 30.", "2026-03-09"), "unknown", "unknown"),
        (("By June 30.", "2026-03-09"), ("By June 30.", "2026-03-01"), "unknown", "same"),
        (("By June 30.", "2026-03-01"), ("By June 30.", "2026-03-01"), "same", "same"),
        (("If postponed after June 5, 50-50.", ""), ("By June 30.", ""), "unknown", "unknown"),
    ],
)
def test_since_when_something_counts_must_be_known(
    first: tuple[str, str], second: tuple[str, str], equal: str, ordered: str
) -> None:
    a, b = opens(*first), opens(*second)

    assert checks(a, b)["opens"] == equal
    assert checks(a, b, ordered=True)["opens"] == ordered


# --- real questions, and what became of them --------------------------------------------------

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the repository")


def from_gamma() -> list[Wording]:
    """Real markets of February 2026 with their events, rules and results."""
    with gzip.open(DATA / "gamma" / "markets_2026-02.jsonl.gz") as lines:
        return [_from_gamma(json.loads(line)) for line in lines]


def _from_gamma(market: dict[str, Any]) -> Wording:
    event = (market.get("events") or [{}])[0]
    paid = json.loads(market.get("outcomePrices") or "[]")
    names = json.loads(market.get("outcomes") or "[]")
    ends = market.get("endDate")
    return Wording(
        market_id=market["id"],
        question=market["question"],
        outcomes=(names[0], names[1]) if len(names) == 2 else ("Yes", "No"),
        label=market.get("groupItemTitle") or "",
        event_id=str(event.get("id", "")),
        event_title=event.get("title") or "",
        end_at=datetime.fromisoformat(ends).replace(tzinfo=UTC) if ends else None,
        rules=market.get("description") or "",
        source=market.get("resolutionSource") or "",
        neg_risk=bool(market.get("negRisk")),
        payout=Decimal(paid[0]) if market["closed"] and set(paid) == {"0", "1"} else None,
    )


def from_history() -> list[Wording]:
    """Real events of spring 2026 and their winners; questions are titles with a blank."""
    with gzip.open(DATA / "history" / "historical_events.json.gz") as file:
        events = json.load(file)["events"]
    return [
        Wording(
            market_id=f"{event['id']}-{number}",
            question="",
            label=outcome["name"],
            event_id=event["id"],
            event_title=event["title"],
            end_at=datetime.fromisoformat(event["end_date"]),
            neg_risk=event["neg_risk"],
            payout=Decimal(outcome["yes_final_price"]),
        )
        for event in events
        for number, outcome in enumerate(event["outcomes"])
    ]


@needs_data
@pytest.mark.parametrize(("listed", "least"), [(from_gamma, 15), (from_history, 2)])
def test_what_was_proposed_of_real_markets_was_not_settled_otherwise(
    listed: Callable[[], list[Wording]], least: int
) -> None:
    wordings = listed()
    payouts = {wording.market_id: wording.payout for wording in wordings}
    blind = [replace(wording, payout=None) for wording in wordings]
    markets = [(wording, read(wording)) for wording in blind]

    found = [*match(markets, threshold=0.78), *find_ladders(markets).proposed]

    assert len(found) >= least
    for proposal in found:
        members = [(member, 0) for member in proposal.members]
        assert not is_contradicted(proposal.type, members, payouts), proposal


@needs_data
def test_real_outcomes_of_one_event_are_never_related() -> None:
    wordings = {wording.market_id: wording for wording in [*from_gamma(), *from_history()]}
    markets = [(wording, read(wording)) for wording in wordings.values()]

    for proposal in [*match(markets, threshold=0.5), *find_ladders(markets).proposed]:
        exclusive = [
            wordings[each].event_id for each in proposal.members if wordings[each].neg_risk
        ]
        assert len(exclusive) == len(set(exclusive)), proposal
