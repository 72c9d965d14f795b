"""Finding markets that ask the same, or the opposite, among all of them (pure).

Every question is filed under its three rarest words; only questions that share one of
them, and all numbers, are compared. Two are alike when nothing that counts differs:
numbers, units, bounds, dates, clock times, names and their order, and every word that
carries meaning. How near the words are is the score.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from rapidfuzz import fuzz
from rapidfuzz.distance import DamerauLevenshtein

from markets.question_numbers import Bound
from markets.question_times import When
from markets.questions import Reading, Wording, word_list
from markets.related import Proposal, RelationType
from markets.resolution import Read

RAREST: Final = 3
MOST_IN_BLOCK: Final = 400  # words and numbers shared by more say nothing
SAME_GAME: Final = timedelta(hours=1)  # the next game of the same two is another question
NEAR_END: Final = timedelta(hours=36)
SURE_YEAR: Final = timedelta(days=60)  # an end nearer than this settles the year of a date
ASKED_TOGETHER: Final = timedelta(days=1)
LEAST_SPELT: Final = 6  # letters of a name that may be spelt in two ways


@dataclass(slots=True)
class Comparison:
    """How two questions stand to each other. Without `differences` they are related.

    `type` is the relation of the first to the second; `backwards` that an implication
    runs from the second to the first. `doubts` stop nothing: a person should look.
    """

    type: RelationType = "equivalent"
    backwards: bool = False
    differences: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def match(markets: Sequence[Read], *, threshold: float) -> Iterator[Proposal]:
    """Yield each pair of markets that ask the same or the opposite; scores from `threshold` up."""
    for first, second in _candidates([reading for _, reading in markets]):
        a, b = markets[first], markets[second]
        near = score(a[1], b[1])
        if near < threshold:
            continue
        found = compare(a, b)
        if not found.differences:
            ids = (a[0].market_id, b[0].market_id)
            members = ids[::-1] if found.backwards else ids
            yield Proposal(found.type, members, "words", near, tuple(found.doubts))


def score(a: Reading, b: Reading) -> float:
    """Return how near the words of two readings are, from 0 to 1."""
    return fuzz.token_sort_ratio(" ".join(a.words), " ".join(b.words)) / 100


def compare(a: Read, b: Read) -> Comparison:
    """Say in what two questions differ and, if in nothing, what one says of the other."""
    found = Comparison()
    _compare_numbers(a[1], b[1], found)
    _compare_words(a[1], b[1], found)
    _compare_times(a, b, found)
    _compare_events(a, b, found)
    opposite = _is_opposite(a[1], b[1], found)
    if opposite and found.type == "equivalent":
        found.type = "complement"
    elif opposite:
        found.differences.append("sense")  # the opposite of half an implication is none
    return found


def clusters(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Join pairs into groups that share nothing, in the order they were found."""
    joined: dict[str, list[str]] = {}
    for a, b in pairs:
        mine, other = joined.get(a, [a]), joined.get(b, [b])
        if mine is not other:
            merged = [*mine, *(each for each in other if each not in mine)]
            joined.update((member, merged) for member in merged)
    return list({id(group): tuple(group) for group in joined.values()}.values())


# --- candidates --------------------------------------------------------------------


def _candidates(readings: Sequence[Reading]) -> Iterator[tuple[int, int]]:
    """Yield positions of readings that share a rare word and all numbers, each pair once."""
    common = Counter(word for reading in readings for word in set(reading.words))
    blocks: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for position, reading in enumerate(readings):
        numbers = _numbers(reading)
        for word in sorted(set(reading.words), key=lambda each: (common[each], each))[:RAREST]:
            blocks[word, numbers].append(position)
    seen: set[tuple[int, int]] = set()
    for block in blocks.values():
        if len(block) <= MOST_IN_BLOCK:
            for pair in _pairs(block):
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _pairs(block: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((first, second) for at, first in enumerate(block) for second in block[at + 1 :])


def _numbers(reading: Reading) -> tuple[object, ...]:
    """Return the numbers of a question, whatever they are bounds of."""
    edges = sorted({each for bound in reading.bounds for each in (bound.low, bound.high) if each})
    return (*edges, "", *(each.value for each in reading.numbers))


# --- numbers and bounds --------------------------------------------------------------


def _compare_numbers(a: Reading, b: Reading, found: Comparison) -> None:
    if a.numbers != b.numbers:
        same = [each.value for each in a.numbers] == [each.value for each in b.numbers]
        found.differences.append("unit" if same else "number")
    if a.mode != b.mode:
        found.differences.append("touch or close")
    elif sorted(map(str, a.bounds)) != sorted(map(str, b.bounds)):
        _compare_bounds(a, b, found)


def _compare_bounds(a: Reading, b: Reading, found: Comparison) -> None:
    """Relate two unlike bounds: above and below the same number on the same occasion."""
    at_one_time = a.mode != "touch" and {when.role for when in a.whens} <= {"on", "in", "after"}
    kind = _opposed(a.bounds, b.bounds) if at_one_time else None
    if kind is None:
        found.differences.append("bound")
    else:
        found.type = kind


def _opposed(a: Sequence[Bound], b: Sequence[Bound]) -> RelationType | None:
    if len(a) != 1 or len(b) != 1 or (a[0].unit, a[0].edge) != (b[0].unit, b[0].edge):
        return None
    if {a[0].side, b[0].side} != {"above", "below"}:
        return None
    if a[0].inclusive is not b[0].inclusive:
        return "complement"
    return "exhaustive" if a[0].inclusive else "exclusive"


# --- times ----------------------------------------------------------------------------


def _compare_times(a: Read, b: Read, found: Comparison) -> None:
    (wording_a, read_a), (wording_b, read_b) = a, b
    if len(read_a.whens) != len(read_b.whens):
        found.differences.append("date")
        return
    together = _end_together(wording_a, wording_b, game=bool(read_a.sides or read_b.sides))
    if not read_a.whens:
        if not together:
            found.differences.append("date")
        return
    if read_a.zone != read_b.zone:
        found.differences.append("time zone")
    for one, other in zip(_sorted(read_a.whens), _sorted(read_b.whens), strict=True):
        if not (_year_is_sure(one, wording_a) and _year_is_sure(other, wording_b)):
            found.differences.append("year")
        _compare_dates(one, other, found, negated=read_a.negated)
    if not together:
        found.doubts.append("the venue's end dates differ")


def _sorted(whens: Sequence[When]) -> list[When]:
    return sorted(whens, key=lambda when: (when.last, when.first, when.role))


def _compare_dates(a: When, b: When, found: Comparison, *, negated: bool) -> None:
    if a.clock != b.clock:
        found.differences.append("time of day")
    if a.last != b.last or (a.role == b.role and a.first != b.first):
        found.differences.append("date")
    elif {a.role, b.role} == {"by", "in"} and found.type == "equivalent":
        # In May is by the end of May; by its end may have been before.
        found.type = "implies"
        found.backwards = (a.role == "by") is not negated
    elif a.role != b.role:
        found.differences.append("date")


def _year_is_sure(when: When, wording: Wording) -> bool:
    if when.stated:
        return True
    if wording.end_at is None:
        return False
    return abs(wording.end_at - _midnight(when.last)) <= SURE_YEAR


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _end_together(a: Wording, b: Wording, *, game: bool) -> bool:
    """Say whether the venue ends both at the same time; unknown ends say no."""
    if a.end_at is None or b.end_at is None:
        return False
    return abs(a.end_at - b.end_at) <= (SAME_GAME if game else NEAR_END)


# --- words ----------------------------------------------------------------------------


def _compare_words(a: Reading, b: Reading, found: Comparison) -> None:
    only_a = Counter(a.words) - Counter(b.words)
    only_b = Counter(b.words) - Counter(a.words)
    names = a.names | b.names
    if spelt := _other_spelling(only_a, only_b, names):
        found.doubts.append(f"{spelt[0]} and {spelt[1]} are taken for one name")
    elif left := only_a.keys() | only_b.keys():
        found.differences.append("name" if left & names else "word")
    elif [word for word in a.words if word in names] != [word for word in b.words if word in names]:
        found.differences.append("order of names")  # who does it to whom


def _other_spelling(
    a: Mapping[str, int], b: Mapping[str, int], names: frozenset[str]
) -> tuple[str, str] | None:
    """Return the one long name that two questions spell with one letter's difference."""
    if len(a) != 1 or len(b) != 1:
        return None
    (one, once), (other, twice) = *a.items(), *b.items()
    long = min(len(one), len(other)) >= LEAST_SPELT and one.isalpha() and other.isalpha()
    if not long or once != twice or not {one, other} & names or one[0] != other[0]:
        return None
    return (one, other) if DamerauLevenshtein.distance(one, other) == 1 else None


# --- events and outcomes ------------------------------------------------------------------


def _compare_events(a: Read, b: Read, found: Comparison) -> None:
    (wording_a, read_a), (wording_b, _) = a, b
    if wording_a.event_id and wording_a.event_id == wording_b.event_id and wording_a.neg_risk:
        found.differences.append("two outcomes of one event")
    other_game = bool(read_a.sides) and not _of_one_game(wording_a, read_a, wording_b)
    if other_game or (read_a.is_relative and not _asked_together(wording_a, wording_b)):
        found.differences.append("event")


def _of_one_game(wording_a: Wording, a: Reading, wording_b: Wording) -> bool:
    """Say whether two questions of named outcomes are about the same game.

    "Games Total: O/U 2.5" is asked of every game: where the question does not name its
    outcomes, its event must.
    """
    if wording_a.event_title and wording_b.event_title:
        return sorted(word_list(wording_a.event_title)) == sorted(word_list(wording_b.event_title))
    named = set(word_list(wording_a.question))
    return all(set(side.split()) <= named for side in a.sides)


def _asked_together(a: Wording, b: Wording) -> bool:
    """Say whether the next one of one question is that of the other; unknown is no."""
    if a.event_id and a.event_id == b.event_id:
        return True
    if a.opened_at is None or b.opened_at is None:
        return False
    return abs(a.opened_at - b.opened_at) <= ASKED_TOGETHER


def _is_opposite(a: Reading, b: Reading, found: Comparison) -> bool:
    """Say whether one question asks for what the other denies, or names its outcomes in turn."""
    swapped = bool(a.sides) and a.sides == b.sides[::-1]
    if a.sides != b.sides and not swapped:
        found.differences.append("outcomes")
    return (a.negated is not b.negated) is not swapped
