"""What is listed: events and markets with the names, ids and terms the venue would give them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from markets.simulator import topics
from markets.simulator.topics import Category

Kind = Literal["binary", "neg_risk", "augmented", "date_ladder", "threshold_ladder", "plain",
               "up_down"]  # fmt: skip
PATIENCE = 24  # draws in vain of a kind of event before its dates move on by a week
MOST_DRAWS = 10_000  # for one event
# In this order events are listed, so that even a small world has some of everything.
MIX: tuple[Kind, ...] = (
    "neg_risk", "binary", "up_down", "augmented", "date_ladder", "threshold_ladder", "plain",
    "neg_risk", "binary", "neg_risk", "binary", "up_down", "neg_risk", "binary", "neg_risk",
    "binary", "augmented", "neg_risk", "date_ladder", "binary",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """One question. `tick` in 1e-4 USD; `settled`: it had resolved to NO before we came."""

    market_id: str
    question: str
    slug: str
    condition_id: str
    question_id: str
    token_ids: tuple[str, str]
    outcomes: tuple[str, str]
    label: str
    tick: int
    request_id: str = ""
    placeholder: bool = False
    other: bool = False
    settled: bool = False
    end_at: datetime | None = None  # of a rung by date; None: with its event


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A group of questions. `neg_risk_id` None: they do not exclude each other."""

    kind: Kind
    event_id: str
    title: str
    slug: str
    description: str
    source: str
    category: Category
    neg_risk_id: str | None
    listed_at: datetime
    starts_at: datetime | None
    end_at: datetime
    markets: tuple[MarketSpec, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    title: str
    category: Category
    legs: tuple[tuple[str, str], ...]  # label, question
    subjects: tuple[str, ...]  # what it asks about; no other event asks about any of them
    tick: int = 10
    ends: tuple[datetime, ...] = ()  # of the legs, where they do not end together
    placeholders: tuple[tuple[str, str], ...] = ()
    settled: int = 0


def slug_of(text: str) -> str:
    """Turn a title into the venue's kind of slug."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class OutOfTopics(Exception):
    """There is nothing left to ask about that is not asked about already."""


class Catalogue:
    """Draws events. The same seed and calls give the same names and ids.

    No two events are about the same, but for those listed by `again` and `later`.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._slugs: set[str] = set()
        self._subjects: set[str] = set()
        self._next_event = rng.randrange(100_000, 900_000)
        self._next_market = rng.randrange(1_000_000, 4_000_000)
        self._drafts: dict[Kind, tuple[Callable[[datetime], _Draft], ...]] = {
            "binary": (self._single, self._both_score),
            "neg_risk": (self._match, self._rates, self._election, self._tournament, self._match,
                         self._temperature, self._best_model, self._meeting),
            "augmented": (self._open_tournament, self._open_nominee),
            "date_ladder": (self._until,),
            "threshold_ladder": (self._above,),
            "plain": (self._mentions,),
        }  # fmt: skip
        self._drawn: dict[Kind, int] = dict.fromkeys(self._drafts, 0)
        self._tries: dict[Kind, int] = dict.fromkeys(self._drafts, 0)  # that were in vain

    def draw(self, kind: Kind, *, now: datetime) -> EventSpec:
        """Draw one event of a kind other than up/down."""
        days = self._rng.choice((2, 5, 9, 20, 40, 80, 160))
        end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)
        draft, end = self._fresh(kind, end)
        return self._list(kind, draft, listed_at=now - timedelta(days=60), end_at=end)

    def again(self, origin: EventSpec) -> EventSpec:
        """List the single question of an event once more, in an event of its own."""
        (market,) = origin.markets
        title = f"{origin.category.tags[0]} watch: {market.question}"
        draft = _Draft(title, origin.category, (("", market.question),), (), tick=market.tick)
        return self._list("binary", draft, listed_at=origin.listed_at, end_at=origin.end_at)

    def later(self, origin: EventSpec, rungs: int) -> EventSpec:
        """List later dates of a date ladder in an event of their own."""
        last = origin.markets[-1].end_at or origin.end_at
        title = f"{origin.title} (later dates)"
        draft = self._dates(origin.title, title, origin.category, (), _monthly(last, rungs + 1)[1:])
        return self._list("date_ladder", draft, listed_at=origin.listed_at, end_at=draft.ends[0])

    def _fresh(self, kind: Kind, end: datetime) -> tuple[_Draft, datetime]:
        """Draw what nobody asks about yet: the more of it is taken, the later its date."""
        drafts, turn = self._drafts[kind], self._drawn[kind]
        self._drawn[kind] += kind != "binary"  # there the second is for want of the first
        for _ in range(MOST_DRAWS):
            weeks = self._tries[kind] // PATIENCE
            late = end + timedelta(weeks=weeks)
            draft = drafts[(turn + weeks) % len(drafts)](late)
            if self._subjects.isdisjoint(draft.subjects):
                self._subjects.update(draft.subjects)
                return draft, late
            self._tries[kind] += 1
        raise OutOfTopics(kind)

    def up_down(self, coin: int, *, opens: datetime, minutes: int) -> EventSpec:
        """List the round of a coin that starts at `opens`."""
        name, code, _ = topics.COINS[coin % len(topics.COINS)]
        closes = opens + timedelta(minutes=minutes)
        title = f"{name} Up or Down - {_eastern_span(opens, closes)}"
        slug = f"{code}-updown-{minutes}m-{int(opens.timestamp())}"
        question = (title, title)
        draft = _Draft(title, topics.CRYPTO, (question,), (), tick=100)
        return self._list("up_down", draft, listed_at=opens - timedelta(days=1), end_at=closes,
                          starts_at=opens, slug=slug, outcomes=("Up", "Down"))  # fmt: skip

    def _list(
        self, kind: Kind, draft: _Draft, *, listed_at: datetime, end_at: datetime,
        starts_at: datetime | None = None, slug: str | None = None,
        outcomes: tuple[str, str] = ("Yes", "No"),
    ) -> EventSpec:  # fmt: skip
        event_slug = self._unique(slug or slug_of(draft.title))
        group = self._hex()[:-2] + "00" if kind in ("neg_risk", "augmented") else None
        rows = [(label, question, False) for label, question in draft.legs]
        rows += [(label, question, True) for label, question in draft.placeholders]
        markets = [
            self._market(number, row, draft, group, outcomes, event_slug if len(rows) == 1 else "")
            for number, row in enumerate(rows)
        ]
        if group:
            self._rng.shuffle(markets)  # the venue lists legs in no order
        self._next_event += self._rng.randrange(1, 40)
        return EventSpec(
            kind=kind, event_id=str(self._next_event), title=draft.title, slug=event_slug,
            description=_rules(draft.title, kind), source=_source(kind), category=draft.category,
            neg_risk_id=group, listed_at=listed_at, starts_at=starts_at, end_at=end_at,
            markets=tuple(markets),
        )  # fmt: skip

    def _market(
        self, number: int, row: tuple[str, str, bool], draft: _Draft, group: str | None,
        outcomes: tuple[str, str], slug: str,
    ) -> MarketSpec:  # fmt: skip
        label, question, placeholder = row
        self._next_market += self._rng.randrange(1, 30)
        return MarketSpec(
            market_id=str(self._next_market), question=question,
            slug=slug or self._unique(slug_of(question)), condition_id=self._hex(),
            question_id=f"{group[:-2]}{number:02x}" if group else self._hex(),
            token_ids=(self._token(), self._token()), outcomes=outcomes,
            label=label if len(draft.legs) > 1 else "", tick=draft.tick,
            request_id=self._hex() if group else "", placeholder=placeholder,
            other=label == "Other", settled=number >= len(draft.legs) - draft.settled
            and not placeholder,
            end_at=draft.ends[number] if draft.ends else None,
        )  # fmt: skip

    def _token(self) -> str:
        return str(self._rng.randrange(10**76, 2**256))

    def _hex(self) -> str:
        return f"0x{self._rng.getrandbits(256):064x}"

    def _unique(self, slug: str) -> str:
        while slug in self._slugs:
            slug = f"{slug}-{self._rng.randrange(100, 1000)}"
        self._slugs.add(slug)
        return slug

    def _fill(self, template: str) -> str:
        """Name whom a question is about; its date stays open."""
        country, other = self._rng.sample(topics.COUNTRIES, 2)
        return template.format(
            country=country, other=other, date="{date}", club=self._rng.choice(topics.CLUBS),
            lab=self._rng.choice(topics.LABS), city=self._rng.choice(topics.CITIES),
        )  # fmt: skip

    def _people(self, count: int) -> list[str]:
        families = self._rng.sample(topics.FAMILY_NAMES, count)
        return [f"{self._rng.choice(topics.GIVEN_NAMES)} {family}" for family in families]

    def _single(self, end: datetime) -> _Draft:
        template, category = self._rng.choice(topics.QUESTIONS)
        about = self._fill(template)
        question = about.format(date=_day(end))
        return _Draft(question, category, (("", question),), (_subject(about),),
                      tick=self._rng.choice((10, 100)))  # fmt: skip

    def _both_score(self, end: datetime) -> _Draft:
        home, away = self._rng.sample(topics.CLUBS, 2)
        question = f"Will {home} and {away} both score on {end:%Y-%m-%d}?"
        return _Draft(question, topics.SPORTS, (("", question),), (_subject(question),), tick=100)

    def _match(self, end: datetime) -> _Draft:
        home, away = self._rng.sample(topics.CLUBS, 2)
        title = f"{home} vs. {away}"
        legs = (
            (home, f"Will {home} win on {end:%Y-%m-%d}?"),
            (f"Draw ({title})", f"Will {title} end in a draw?"),
            (away, f"Will {away} win on {end:%Y-%m-%d}?"),
        )
        category = self._rng.choice((topics.SPORTS, topics.SPORTS_NEW))
        playing = (_subject(title), *(f"{club} on {end:%Y-%m-%d}" for club in (home, away)))
        return _Draft(title, category, legs, playing, tick=100)

    def _rates(self, end: datetime) -> _Draft:
        bank = self._rng.choice(topics.CENTRAL_BANKS)
        legs = tuple(
            (label, f"Will the {bank} {move} after the {end:%B %Y} meeting?")
            for label, move in topics.RATE_MOVES
        )
        meeting = (f"{bank} in {end:%B %Y}",)
        return _Draft(f"{bank} decision in {end:%B}?", topics.ECONOMICS, legs, meeting)

    def _election(self, end: datetime) -> _Draft:
        country = self._rng.choice(topics.COUNTRIES)
        people = self._people(self._rng.randrange(4, 13))
        ask = f"win the {end:%Y} {country} presidential election?"
        legs = tuple((person, f"Will {person} {ask}") for person in people)
        title = f"{country} Presidential Election Winner"
        return _Draft(title, topics.POLITICS, legs, (f"{title} {end:%Y}",))

    def _tournament(self, end: datetime) -> _Draft:
        teams = self._rng.sample(topics.NATIONS, self._rng.randrange(10, 31))
        title, legs = self._winners(teams, end)
        return _Draft(title, topics.SPORTS, legs, (f"{title} {end:%Y}",),
                      settled=self._rng.randrange(3))  # fmt: skip

    def _open_tournament(self, end: datetime) -> _Draft:
        title, legs = self._winners(
            self._rng.sample(topics.NATIONS, self._rng.randrange(6, 15)), end
        )
        names = [f"Team A{letter}" for letter in "GHIJ"] + ["Other"]
        ask = f"win the {end:%Y} {title.removesuffix(' Winner')}?"
        extra = tuple((name, f"Will {_anyone(name, 'Team')} {ask}") for name in names)
        return _Draft(title, topics.SPORTS, legs, (f"{title} {end:%Y}",), placeholders=extra)

    def _winners(self, teams: list[str], end: datetime) -> tuple[str, tuple[tuple[str, str], ...]]:
        cup = self._rng.choice(topics.DIVISIONS) + self._rng.choice(topics.TOURNAMENTS)
        legs = tuple((team, f"Will {team} win the {end:%Y} {cup}?") for team in teams)
        return f"{cup} Winner", legs

    def _open_nominee(self, end: datetime) -> _Draft:
        country = self._rng.choice(topics.COUNTRIES)
        ask = f"be the next Prime Minister of {country}?"
        people = self._people(self._rng.randrange(4, 10))
        legs = tuple((person, f"Will {person} {ask}") for person in people)
        names = [f"Person {letter}" for letter in "ABCDE"] + ["Other"]
        extra = tuple((name, f"Will {_anyone(name, 'Person')} {ask}") for name in names)
        title = f"Next Prime Minister of {country}"
        return _Draft(title, topics.POLITICS, legs, (title,), placeholders=extra)

    def _temperature(self, end: datetime) -> _Draft:
        city, low = self._rng.choice(topics.CITIES), self._rng.randrange(8, 60, 2)
        ranges = [f"{low + 2 * step}-{low + 2 * step + 1}°F" for step in range(5)]
        labels = [f"{low - 1}°F or below", *ranges, f"{low + 10}°F or higher"]
        ask = f"Will the highest temperature in {city} be"
        legs = tuple((label, f"{ask} {label} on {_day(end)}?") for label in labels)
        title = f"Highest temperature in {city} on {_day(end)}?"
        return _Draft(title, topics.WEATHER, legs, (f"{title} {end:%Y}",))

    def _best_model(self, end: datetime) -> _Draft:
        labs = self._rng.sample(topics.LABS, self._rng.randrange(4, 8))
        ask = f"have the best AI model at the end of {end:%B %Y}?"
        legs = tuple((lab, f"Will {lab} {ask}") for lab in labs)
        title = f"Which company has the best AI model end of {end:%B}?"
        return _Draft(title, topics.TECH, legs, (f"{title} {end:%Y}",))

    def _meeting(self, end: datetime) -> _Draft:
        country, other = self._rng.sample(topics.COUNTRIES, 2)
        places = [*self._rng.sample(topics.PLACES, 4), "Elsewhere or no meeting"]
        ask = f"the leaders of {country} and {other} next meet in"
        legs = tuple((place, f"Will {ask} {place}?") for place in places)
        title = f"Where will the leaders of {country} and {other} meet next?"
        return _Draft(title, topics.GEOPOLITICS, legs, (_subject(title),))

    def _until(self, end: datetime) -> _Draft:
        template, category = self._rng.choice(topics.UNTIL)
        title = self._fill(template)
        days = _monthly(end, self._rng.randrange(3, 6))
        return self._dates(title, title, category, (_subject(title),), days)

    @staticmethod
    def _dates(
        about: str, title: str, category: Category, subjects: tuple[str, ...],
        days: tuple[datetime, ...],
    ) -> _Draft:  # fmt: skip
        question = about.removesuffix("...?")
        legs = tuple((_day(day), f"{question} {_day(day)}?") for day in days)
        return _Draft(title, category, legs, subjects, ends=days)

    def _above(self, end: datetime) -> _Draft:
        name, _, price = self._rng.choice(topics.COINS[:3])
        step = price // 50
        strikes = [f"{price + step * offset:,}" for offset in range(-4, 5)]
        ask = f"Will the price of {name} be above"
        legs = tuple((strike, f"{ask} ${strike} on {_day(end)}?") for strike in strikes)
        title = f"{name} above ___ on {_day(end)}?"
        return _Draft(title, topics.CRYPTO, legs, (f"{title} {end:%Y}",), tick=100)

    def _mentions(self, end: datetime) -> _Draft:
        speaker = self._rng.choice(topics.SPEAKERS)
        words = self._rng.sample(topics.WORDS, self._rng.randrange(4, 8))
        legs = tuple((word, f'Will {speaker} say "{word}" on {_day(end)}?') for word in words)
        title = f"What will {speaker} say on {_day(end)}?"
        return _Draft(title, topics.MENTIONS, legs, (f"{title} {end:%Y}",))


def _anyone(name: str, noun: str) -> str:
    return f"any other {noun}" if name == "Other" else name


def _subject(question: str) -> str:
    """Name what a question is about: the same for two names in turn."""
    return " ".join(sorted(question.split()))


def _monthly(first: datetime, count: int) -> tuple[datetime, ...]:
    return tuple(first + timedelta(days=30 * step) for step in range(count))


def _day(day: datetime) -> str:
    return f"{day:%B} {day.day}"


def _eastern(at: datetime) -> datetime:
    """Shift to New York time; by month, because a bare machine has no time-zone database."""
    return at.astimezone(UTC) - timedelta(hours=4 if 4 <= at.month <= 10 else 5)


def _eastern_span(opens: datetime, closes: datetime) -> str:
    first, last = _eastern(opens), _eastern(closes)
    return f"{_day(first)}, {_clock(first)}-{_clock(last)} ET"


def _clock(at: datetime) -> str:
    return f"{at:%I:%M%p}".lstrip("0")


def _source(kind: Kind) -> str:
    return "https://data.chain.link/streams" if kind in ("up_down", "threshold_ladder") else ""


def _rules(title: str, kind: Kind) -> str:
    first = {
        "up_down": 'This market will resolve to "Up" if the price at the end of the time range in '
        "the title is greater than or equal to the price at its beginning. Otherwise, this market "
        'will resolve to "Down".',
        "augmented": "Listed names may be added later. If none of them applies, this market will "
        'resolve to "Other".',
    }.get(kind, 'This market will resolve to "Yes" if the event in the question occurs. '
          'Otherwise, this market will resolve to "No".')  # fmt: skip
    return f"{first}\n\nThis is a simulated market: {title}"
