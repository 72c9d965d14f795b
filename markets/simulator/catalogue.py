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
    tick: int = 10
    placeholders: tuple[tuple[str, str], ...] = ()
    settled: int = 0


def slug_of(text: str) -> str:
    """Turn a title into the venue's kind of slug."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Catalogue:
    """Draws events. The same seed and calls give the same names and ids."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._slugs: set[str] = set()
        self._next_event = rng.randrange(100_000, 900_000)
        self._next_market = rng.randrange(1_000_000, 4_000_000)
        self._drafts: dict[Kind, tuple[Callable[[datetime], _Draft], ...]] = {
            "binary": (self._single,),
            "neg_risk": (self._match, self._fed, self._election, self._tournament, self._match,
                         self._temperature, self._best_model, self._meeting),
            "augmented": (self._open_tournament, self._open_nominee),
            "date_ladder": (self._until,),
            "threshold_ladder": (self._above,),
            "plain": (self._mentions,),
        }  # fmt: skip
        self._drawn: dict[Kind, int] = dict.fromkeys(self._drafts, 0)

    def draw(self, kind: Kind, *, now: datetime) -> EventSpec:
        """Draw one event of a kind other than up/down."""
        turn = self._drawn[kind]
        self._drawn[kind] = turn + 1
        days = self._rng.choice((2, 5, 9, 20, 40, 80, 160))
        end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)
        draft = self._drafts[kind][turn % len(self._drafts[kind])](end)
        return self._list(kind, draft, listed_at=now - timedelta(days=60), end_at=end)

    def up_down(self, coin: int, *, opens: datetime, minutes: int) -> EventSpec:
        """List the round of a coin that starts at `opens`."""
        name, code, _ = topics.COINS[coin % len(topics.COINS)]
        closes = opens + timedelta(minutes=minutes)
        title = f"{name} Up or Down - {_eastern_span(opens, closes)}"
        slug = f"{code}-updown-{minutes}m-{int(opens.timestamp())}"
        question = (title, title)
        draft = _Draft(title, topics.CRYPTO, (question,), tick=100)
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

    def _fill(self, template: str, end: datetime) -> str:
        country, other = self._rng.sample(topics.COUNTRIES, 2)
        return template.format(
            country=country, other=other, date=_day(end), club=self._rng.choice(topics.CLUBS),
            lab=self._rng.choice(topics.LABS), city=self._rng.choice(topics.CITIES),
        )  # fmt: skip

    def _people(self, count: int) -> list[str]:
        families = self._rng.sample(topics.FAMILY_NAMES, count)
        return [f"{self._rng.choice(topics.GIVEN_NAMES)} {family}" for family in families]

    def _single(self, end: datetime) -> _Draft:
        template, category = self._rng.choice(topics.QUESTIONS)
        question = self._fill(template, end)
        return _Draft(question, category, (("", question),), tick=self._rng.choice((10, 100)))

    def _match(self, end: datetime) -> _Draft:
        home, away = self._rng.sample(topics.CLUBS, 2)
        title = f"{home} vs. {away}"
        legs = (
            (home, f"Will {home} win on {end:%Y-%m-%d}?"),
            (f"Draw ({title})", f"Will {title} end in a draw?"),
            (away, f"Will {away} win on {end:%Y-%m-%d}?"),
        )
        category = self._rng.choice((topics.SPORTS, topics.SPORTS_NEW))
        return _Draft(title, category, legs, tick=100)

    def _fed(self, end: datetime) -> _Draft:
        legs = tuple(
            (label, f"Will the Fed {move} after the {end:%B %Y} meeting?")
            for label, move in topics.FED_MOVES
        )
        return _Draft(f"Fed decision in {end:%B}?", topics.ECONOMICS, legs)

    def _election(self, end: datetime) -> _Draft:
        country = self._rng.choice(topics.COUNTRIES)
        people = self._people(self._rng.randrange(4, 13))
        ask = f"win the {end:%Y} {country} presidential election?"
        legs = tuple((person, f"Will {person} {ask}") for person in people)
        return _Draft(f"{country} Presidential Election Winner", topics.POLITICS, legs)

    def _tournament(self, end: datetime) -> _Draft:
        teams = self._rng.sample(topics.NATIONS, self._rng.randrange(10, 31))
        title, legs = self._winners(teams, end)
        return _Draft(title, topics.SPORTS, legs, settled=self._rng.randrange(3))

    def _open_tournament(self, end: datetime) -> _Draft:
        title, legs = self._winners(
            self._rng.sample(topics.NATIONS, self._rng.randrange(6, 15)), end
        )
        names = [f"Team A{letter}" for letter in "GHIJ"] + ["Other"]
        ask = f"win the {end:%Y} {title.removesuffix(' Winner')}?"
        extra = tuple((name, f"Will {_anyone(name, 'Team')} {ask}") for name in names)
        return _Draft(title, topics.SPORTS, legs, placeholders=extra)

    def _winners(self, teams: list[str], end: datetime) -> tuple[str, tuple[tuple[str, str], ...]]:
        cup = self._rng.choice(topics.TOURNAMENTS)
        legs = tuple((team, f"Will {team} win the {end:%Y} {cup}?") for team in teams)
        return f"{cup} Winner", legs

    def _open_nominee(self, end: datetime) -> _Draft:
        country = self._rng.choice(topics.COUNTRIES)
        ask = f"be the next Prime Minister of {country}?"
        people = self._people(self._rng.randrange(4, 10))
        legs = tuple((person, f"Will {person} {ask}") for person in people)
        names = [f"Person {letter}" for letter in "ABCDE"] + ["Other"]
        extra = tuple((name, f"Will {_anyone(name, 'Person')} {ask}") for name in names)
        return _Draft(f"Next Prime Minister of {country}", topics.POLITICS, legs,
                      placeholders=extra)  # fmt: skip

    def _temperature(self, end: datetime) -> _Draft:
        city, low = self._rng.choice(topics.CITIES), self._rng.randrange(8, 60, 2)
        ranges = [f"{low + 2 * step}-{low + 2 * step + 1}°F" for step in range(5)]
        labels = [f"{low - 1}°F or below", *ranges, f"{low + 10}°F or higher"]
        ask = f"Will the highest temperature in {city} be"
        legs = tuple((label, f"{ask} {label} on {_day(end)}?") for label in labels)
        return _Draft(f"Highest temperature in {city} on {_day(end)}?", topics.WEATHER, legs)

    def _best_model(self, end: datetime) -> _Draft:
        labs = self._rng.sample(topics.LABS, self._rng.randrange(4, 8))
        ask = f"have the best AI model at the end of {end:%B %Y}?"
        legs = tuple((lab, f"Will {lab} {ask}") for lab in labs)
        return _Draft(f"Which company has the best AI model end of {end:%B}?", topics.TECH, legs)

    def _meeting(self, end: datetime) -> _Draft:
        country, other = self._rng.sample(topics.COUNTRIES, 2)
        places = [*self._rng.sample(topics.PLACES, 4), "Elsewhere or no meeting"]
        ask = f"the leaders of {country} and {other} next meet in"
        legs = tuple((place, f"Will {ask} {place}?") for place in places)
        title = f"Where will the leaders of {country} and {other} meet next?"
        return _Draft(title, topics.GEOPOLITICS, legs)

    def _until(self, end: datetime) -> _Draft:
        template, category = self._rng.choice(topics.UNTIL)
        title = self._fill(template, end)
        count = self._rng.randrange(3, 6)
        days = [_day(end + timedelta(days=30 * step)) for step in range(count)]
        question = title.removesuffix("...?")
        return _Draft(title, category, tuple((day, f"{question} {day}?") for day in days))

    def _above(self, end: datetime) -> _Draft:
        name, _, price = self._rng.choice(topics.COINS[:3])
        step = price // 50
        strikes = [f"{price + step * offset:,}" for offset in range(-4, 5)]
        ask = f"Will the price of {name} be above"
        legs = tuple((strike, f"{ask} ${strike} on {_day(end)}?") for strike in strikes)
        return _Draft(f"{name} above ___ on {_day(end)}?", topics.CRYPTO, legs, tick=100)

    def _mentions(self, end: datetime) -> _Draft:
        speaker = self._rng.choice(topics.SPEAKERS)
        words = self._rng.sample(topics.WORDS, self._rng.randrange(4, 8))
        legs = tuple((word, f'Will {speaker} say "{word}" on {_day(end)}?') for word in words)
        return _Draft(f"What will {speaker} say on {_day(end)}?", topics.MENTIONS, legs)


def _anyone(name: str, noun: str) -> str:
    return f"any other {noun}" if name == "Other" else name


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
