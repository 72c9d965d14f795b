"""Reading questions: dates, clock times, numbers, bounds, names and sense."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.question_numbers import Amount, Bound
from markets.question_times import UNKNOWN_YEAR, When, zones_in
from markets.questions import Aliases, Reading, Wording, full_question, read, word_list

MAY = datetime(2026, 5, 1, 4, 0, tzinfo=UTC)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = st.dates(date(2001, 1, 1), date(2098, 12, 31))


def reading(question: str, **terms: Any) -> Reading:
    return read(Wording("1", question, **terms))


def on(day: date, *, role: Any = "on", stated: bool = True, clock: str = "") -> When:
    return When(role, day, day, stated, clock)


# --- dates -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("by June 30, 2026", on(date(2026, 6, 30), role="by")),
        ("by June 30th, 2026", on(date(2026, 6, 30), role="by")),
        ("by the 30th of June 2026", on(date(2026, 6, 30), role="by")),
        ("before July 1, 2026", on(date(2026, 6, 30), role="by")),
        ("before Jan 1, 2026", on(date(2025, 12, 31), role="by")),
        ("before 2027", on(date(2026, 12, 31), role="by")),
        ("by end of 2026", on(date(2026, 12, 31), role="by")),
        ("by the end of June 2026", on(date(2026, 6, 30), role="by")),
        ("by the end of Q1 2026", on(date(2026, 3, 31), role="by")),
        ("before April", on(date(2026, 3, 31), role="by", stated=False)),
        ("on 2026-04-12", on(date(2026, 4, 12))),
        ("on April 12", on(date(2026, 4, 12), stated=False)),
        ("at the end of June 2026", on(date(2026, 6, 30))),
        ("in April", When("in", date(2026, 4, 1), date(2026, 4, 30), stated=False)),
        ("in 2026", When("in", date(2026, 1, 1), date(2026, 12, 31))),
        ("in H1 2026", When("in", date(2026, 1, 1), date(2026, 6, 30))),
        (
            "from March 30 to April 3, 2026",
            When("in", date(2026, 3, 30), date(2026, 4, 3)),
        ),
        ("April 13-19", When("in", date(2026, 4, 13), date(2026, 4, 19), stated=False)),
        ("the 2025\u201326 season", When("in", date(2025, 7, 1), date(2026, 6, 30))),
        ("after the March 2026 meeting", When("after", date(2026, 3, 1), date(2026, 3, 31))),
        ("through June 30, 2026", on(date(2026, 6, 30), role="through")),
        ("by 2030", When("unclear", date(2030, 1, 1), date(2030, 12, 31))),
    ],
)
def test_dates_are_read_as_people_mean_them(text: str, when: When) -> None:
    assert reading(f"Will it rain {text}?", end_at=MAY).whens == (when,)


@pytest.mark.parametrize(
    "question",
    [
        "Will Theresa May march on?",
        "Will it rain by mid-April?",
        "Will Bitcoin reach 2026?",
        "Will ETH be above 2000 today?",
        "Will 1999 or more people come?",
    ],
)
def test_what_is_no_date_is_not_read_as_one(question: str) -> None:
    assert reading(question).whens == ()


def test_an_impossible_day_stays_words_and_numbers() -> None:
    found = reading("Will it rain on February 30, 2026?")

    assert "february" in found.words
    assert Amount(Decimal(30)) in found.numbers


def test_a_date_without_year_lies_before_the_end_of_its_market() -> None:
    late = datetime(2026, 12, 31, tzinfo=UTC)

    assert reading("By June 30?", end_at=late).whens == (
        on(date(2026, 6, 30), role="by", stated=False),
    )
    assert reading("By March 31?", end_at=datetime(2026, 4, 1, 4, tzinfo=UTC)).whens[0].last == (
        date(2026, 3, 31)
    )
    assert reading("By December 31?", end_at=datetime(2027, 1, 1, 5, tzinfo=UTC)).whens[0].last == (
        date(2026, 12, 31)
    )


def test_rules_name_the_year_that_the_question_leaves_out() -> None:
    rules = "This market will resolve to Yes if it happens by June 30, 2026, 11:59 PM ET."
    wrong_end = datetime(2026, 1, 31, tzinfo=UTC)

    told = reading("Agreement by June 30?", end_at=wrong_end, rules=rules)
    guessed = reading("Agreement by June 30?", end_at=wrong_end)

    assert told.whens == (on(date(2026, 6, 30), role="by"),)
    assert guessed.whens == (on(date(2025, 6, 30), role="by", stated=False),)


def test_a_date_without_any_year_is_of_no_year() -> None:
    assert reading("By June 30?").whens[0].last == date(UNKNOWN_YEAR, 6, 30)


@given(DAYS, st.sampled_from(["{m} {d}, {y}", "{d} {m} {y}", "{s} {d} {y}", "{iso}"]))
def test_every_day_is_read_back_from_every_spelling(day: date, spelling: str) -> None:
    month = MONTHS[day.month - 1]
    text = spelling.format(m=month, s=month[:3], d=day.day, y=day.year, iso=day.isoformat())

    assert reading(f"Will Rome fall by {text}?").whens == (on(day, role="by"),)


@given(DAYS, st.integers(0, 23), st.integers(0, 59), st.sampled_from(["ET", "EST", "UTC", "GMT"]))
def test_clock_times_are_read_in_24_hours_with_their_zone(
    day: date, hour: int, minute: int, zone: str
) -> None:
    half = "AM" if hour < 12 else "PM"
    text = (
        f"{MONTHS[day.month - 1]} {day.day}, {day.year}, {hour % 12 or 12}:{minute:02}{half} {zone}"
    )

    found = reading(f"Bitcoin Up or Down - {text}")

    assert found.whens == (on(day, clock=f"{hour:02}:{minute:02}"),)
    assert found.zone == {"EST": "ET", "GMT": "UTC"}.get(zone, zone)


@given(DAYS, st.integers(0, 1200))
def test_the_year_before_an_end_is_found_for_every_day(day: date, later: int) -> None:
    ends = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=later % 360)

    found = reading(f"Will it rain by {MONTHS[day.month - 1]} {day.day}?", end_at=ends).whens

    leap = (day.month, day.day) == (2, 29)
    assert leap or found == (on(day, role="by", stated=False),) or later % 360 > 363


def test_zones_are_found_in_rules() -> None:
    assert zones_in("by December 31, 11:59 PM ET, as shown at 12:00 UTC") == {"ET", "UTC"}
    assert zones_in("12:00 in the ET timezone (noon)") == {"ET"}
    assert zones_in("in the Eastern Time Zone") == {"ET"}
    assert zones_in("ET the extra-terrestrial") == frozenset()


# --- numbers -----------------------------------------------------------------------


def above(value: str, unit: str = "", *, inclusive: bool = True) -> Bound:
    return Bound("above", Decimal(value), None, unit, inclusive)


def below(value: str, unit: str = "", *, inclusive: bool = True) -> Bound:
    return Bound("below", None, Decimal(value), unit, inclusive)


def between(low: str, high: str, unit: str = "") -> Bound:
    return Bound("between", Decimal(low), Decimal(high), unit)


@pytest.mark.parametrize(
    ("question", "bound", "mode"),
    [
        (
            "Will the price of Bitcoin be above $70,000?",
            above("70000", "usd", inclusive=False),
            "level",
        ),
        ("Bitcoin greater than $70k?", above("70000", "usd", inclusive=False), "level"),
        ("Based FDV >$2.5B?", above("2500000000", "usd", inclusive=False), "level"),
        ("Will BTC be at least 70,000?", above("70000"), "level"),
        ("Will Tisza win 130+ seats?", above("130"), "level"),
        ("Fed cuts of 25+ bps?", above("25", "bps"), "level"),
        ("Temperature of 16\u00b0C or higher?", above("16", "°c"), "level"),
        ("Inflation 0.2% or more?", above("0.2", "%"), "level"),
        ("Less than 60 million views?", below("60000000", inclusive=False), "level"),
        ("5 or fewer strikes?", below("5"), "level"),
        ("No more than 3 cuts?", below("3"), "level"),
        ("Will it reach $150,000?", above("150000", "usd"), "touch"),
        ("Will Gold (GC) hit (LOW) $4,200?", below("4200", "usd"), "touch"),
        ("Will Gold (GC) hit (HIGH) $4,200?", above("4200", "usd"), "touch"),
        ("Will the SPX hit $6,500 (LOW)?", below("6500", "usd"), "touch"),
        ("Will the SPX hit $6,500 (HIGH)?", above("6500", "usd"), "touch"),
        ("Will Bitcoin dip to $45,000?", below("45000", "usd"), "touch"),
        ("\u2191 80,000", above("80000"), "touch"),
        ("Will Bitcoin close above $70,000?", above("70000", "usd", inclusive=False), "close"),
        ("between $66,000 and $68,000?", between("66000", "68000", "usd"), "level"),
        ("post 215-239 tweets?", between("215", "239"), "level"),
        ("deport 500-750k people?", between("500000", "750000"), "level"),
        ("between 25 and 30 million views?", between("25000000", "30000000"), "level"),
        ("Knicks vs. Hawks: O/U 228.5", above("228.5", inclusive=False), "level"),
        ("Spread: Warriors (-4.5)", above("4.5", inclusive=False), "level"),
        ("Spread: Warriors (+4.5)", above("-4.5", inclusive=False), "level"),
        ("exactly 3 cuts?", Bound("exactly", Decimal(3), Decimal(3)), "level"),
        ("win the vote by 9%+?", above("9", "by %"), "level"),
    ],
)
def test_bounds_are_read_with_side_unit_and_mode(question: str, bound: Bound, mode: str) -> None:
    found = reading(question, outcomes=("Over", "Under") if "O/U" in question else ("Yes", "No"))

    assert found.bounds == (bound,)
    assert found.mode == mode


def test_the_first_outcome_says_which_side_over_under_is() -> None:
    swapped = reading("Knicks vs. Hawks: O/U 228.5", outcomes=("Under", "Over"))

    assert swapped.bounds == (below("228.5", inclusive=False),)


def test_a_handicap_of_the_second_outcome_is_missed_by_the_first() -> None:
    teams = ("Bulls", "Warriors")

    assert reading("Spread: Warriors (-4.5)", outcomes=teams).bounds == (below("4.5"),)
    assert reading("Spread: Bulls (-4.5)", outcomes=teams).bounds == (
        above("4.5", inclusive=False),
    )


@pytest.mark.parametrize(
    ("question", "numbers"),
    [
        ("Will Claude 4.7 beat GPT-5.5?", ("4.7", "5.5")),
        ("LoL: T1 vs G2 (BO3) - Game 2 Winner", ("2",)),
        ("76ers vs. 49ers", ()),
        ("Will 1. FC Heidenheim 1846 win?", ("1", "1846")),
        ("Top 4 of the Premier League?", ("4",)),
    ],
)
def test_other_numbers_stay_numbers(question: str, numbers: tuple[str, ...]) -> None:
    found = reading(question)

    assert tuple(each.value for each in found.numbers) == tuple(map(Decimal, numbers))
    assert found.bounds == ()


def test_an_ordinal_is_not_an_amount() -> None:
    assert reading("Will March be the 1st hottest?").numbers == (Amount(Decimal(1), "th"),)


@given(
    st.integers(1, 10**9),
    st.sampled_from(["{0}", "{0:,}"]),
    st.sampled_from(["above", "over", "more than", "greater than"]),
)
def test_numbers_are_read_exactly_in_every_spelling(value: int, spelling: str, word: str) -> None:
    found = reading(f"Will Gold be {word} ${spelling.format(value)}?")

    assert found.bounds == (above(str(value), "usd", inclusive=False),)


@given(st.integers(1, 999), st.sampled_from("kmb"), st.sampled_from(["", " "]))
def test_scales_multiply(value: int, scale: str, _: str) -> None:
    factor = {"k": 10**3, "m": 10**6, "b": 10**9}[scale]

    assert reading(f"Over ${value}{scale.upper()} raised?").bounds[0].low == value * factor


# --- words -------------------------------------------------------------------------


def test_words_are_the_same_in_every_case_and_spelling() -> None:
    one = reading("Will the U.S. strike Iran?")
    other = reading("US strikes on Iran?")

    assert one.words == other.words == ("us", "strik", "iran")
    assert "iran" in one.names and "iran" in other.names


def test_accents_possessives_and_dashes_make_no_difference() -> None:
    assert reading("Viktor Orb\u00e1n\u2019s Fidesz\u2013KDNP wins").words == (
        reading("Viktor Orban's Fidesz-KDNP wins").words
    )


@pytest.mark.parametrize(
    ("question", "negated"),
    [
        ("Will OpenAI not IPO?", True),
        ("OpenAI won't IPO?", True),
        ("Will OpenAI never IPO?", True),
        ("Will OpenAI IPO?", False),
        ("Will it not be that OpenAI does not IPO?", False),
        ("Will no party win a majority?", False),  # "no" is part of what is asked
    ],
)
def test_sense_is_read(question: str, negated: bool) -> None:
    assert reading(question).negated is negated


def test_aliases_name_runs_of_words_longest_first() -> None:
    names = {("btc",): "bitcoin", ("bank", "of", "england"): "boe", ("bank",): "a bank"}

    found = read(Wording("1", "Will BTC beat the Bank of England?"), aliases=Aliases(names))

    assert found.words == ("bitcoin", "beat", "boe")
    assert {"bitcoin", "boe"} <= found.names


def test_politics_is_another_word_than_geopolitics() -> None:
    assert set(reading("Politics?").words).isdisjoint(reading("Geopolitics?").words)


def test_outcomes_other_than_yes_and_no_are_named() -> None:
    assert reading("A vs. B", outcomes=("Los Angeles", "M\u00fcnchen")).sides == (
        "los angeles",
        "munchen",
    )
    assert reading("Rain?").sides == ()


@pytest.mark.parametrize(
    ("title", "label", "question"),
    [
        ("Katana FDV above ___ one day after launch?", "$100M", "above  $100M  one"),
        ("Will Russia enter Dovha Balka by...?", "April 30", "by April 30 ?"),
        ("NHL: Atlantic Division Winner", "Boston", "NHL: Atlantic Division Winner: Boston"),
    ],
)
def test_a_missing_question_is_its_events_title_filled_in(
    title: str, label: str, question: str
) -> None:
    assert question in full_question(Wording("1", "", label=label, event_title=title))


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    found = reading(text, end_at=MAY, rules=text)

    assert all(word == word.lower() for word in found.words)
    assert found == reading(text, end_at=MAY, rules=text)


@given(st.lists(st.sampled_from(["Iran", "strike", "Will", "9", "not", "by", "May 4, 2026"])))
def test_spaces_make_no_difference(parts: list[str]) -> None:
    assert reading(" ".join(parts)) == reading("  " + " \n ".join(parts) + " ")


def test_a_very_long_question_is_read_quickly_to_its_limit() -> None:
    assert len(reading("word " * 100_000).words) == 200
    assert word_list("One, two; 3") == ("one", "two", "3")
