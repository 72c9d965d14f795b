"""Which tokens the stream follows: the best events that a budget of tokens has room for.

Events are taken whole. One that is neg-risk is followed with all its tradable
legs or not at all, because a basket needs every one of them. Rules say who
comes first and who not at all (`WatchRule`); within one priority the most
liquid come first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Sum
from django.utils import timezone

from alerts import journal
from markets.models import Event, Market, Outcome, WatchRule

Kind, Effect = WatchRule.Kind, WatchRule.Effect

STAYS_FOR = Decimal("1.25")  # a followed event yields only to one this many times as liquid
TOKENS_EACH = 2  # of a market; both are followed, as one book


@dataclass(frozen=True, slots=True)
class WatchedMarket:
    market_id: str
    condition_id: str
    token_ids: tuple[str, str]


@dataclass(frozen=True, slots=True)
class WatchedEvent:
    """An event to follow. `rank` counts from 1; `rule` is what put it there, None its liquidity."""

    event_id: str
    neg_risk: bool
    rank: int
    rule: str | None
    markets: tuple[WatchedMarket, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """Why a market is watched or not. `rank` is None where its event is not in the ranking."""

    watched: bool
    text: str
    rank: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An event that could be followed: its tradable markets, not counting excluded ones."""

    event_id: str
    neg_risk: bool
    tags: frozenset[str]
    liquidity: Decimal
    volume: Decimal
    markets: int

    @property
    def tokens(self) -> int:
        return self.markets * TOKENS_EACH


@dataclass(frozen=True, slots=True)
class _Place:
    """A candidate's place in the ranking. `before` are the tokens taken by those ahead of it."""

    candidate: _Candidate
    rank: int
    rule: WatchRule | None
    before: int
    taken: bool


@dataclass(frozen=True, slots=True)
class _Ranking:
    """All candidates in order, each with the rule that decided; what rules keep out, by id."""

    chosen: list[tuple[_Candidate, WatchRule | None]]
    excluded: dict[str, WatchRule]
    left_out: dict[str, WatchRule]  # single markets

    def places(self, budget: int) -> Iterator[_Place]:
        """Let each take what it needs; a large one that does not fit leaves room to smaller."""
        used = 0
        for rank, (candidate, rule) in enumerate(self.chosen, start=1):
            fits = used + candidate.tokens <= budget
            yield _Place(candidate, rank, rule, before=used, taken=fits)
            used += candidate.tokens if fits else 0


def watched(
    *, budget: int | None = None, following: Collection[str] = ()
) -> tuple[WatchedEvent, ...]:
    """Return the events to follow, best first; `budget` in tokens, else WATCH_TOKENS.

    `following` are the ids of events that are followed now: they keep their
    place against slightly more liquid ones, so that the list does not flap.
    """
    most = _budget(budget)
    ranking = _rank(following)
    room = takewhile(lambda place: place.before + TOKENS_EACH <= most, ranking.places(most))
    taken = {place.candidate.event_id: place for place in room if place.taken}
    markets = _markets_of(taken, ranking.left_out)
    return tuple(
        WatchedEvent(
            event_id=event_id,
            neg_risk=place.candidate.neg_risk,
            rank=place.rank,
            rule=str(place.rule) if place.rule else None,
            markets=tuple(markets[event_id]),
        )
        for event_id, place in taken.items()
        if event_id in markets
    )


def why(market: Market, *, budget: int | None = None, following: Collection[str] = ()) -> Why:
    """Say why a market is or is not watched, in the words of the ranking."""
    if market.state != Market.State.TRADABLE:
        return Why(False, f"Not watched: it is {market.state.lower()}.")
    most = _budget(budget)
    ranking = _rank(following)
    event_id = market.event_id or ""
    rule = ranking.left_out.get(market.pk) or ranking.excluded.get(event_id)
    if rule:
        return Why(False, f"Not watched: a rule says {rule}.")
    places = ranking.places(most)
    place = next((each for each in places if each.candidate.event_id == event_id), None)
    if place is None:
        return Why(False, "Not watched: one outcome of its event has won already.")
    return _told(place, most)


def pin(kind: WatchRule.Kind, value: str, *, by: str) -> bool:
    """Follow an event or market before all others; return False if it was pinned already."""
    with transaction.atomic():
        rule, new = WatchRule.objects.get_or_create(kind=kind, value=value, effect=Effect.PIN)
        if not new and rule.enabled:
            return False
        WatchRule.objects.filter(pk=rule.pk).update(enabled=True)
        _record("watch.pinned", rule, by)
    return True


def unpin(kind: WatchRule.Kind, value: str, *, by: str) -> bool:
    """Take a pin away; return False if there was none."""
    with transaction.atomic():
        rule = WatchRule.objects.filter(kind=kind, value=value, effect=Effect.PIN).first()
        if rule is None:
            return False
        _record("watch.unpinned", rule, by)
        rule.delete()
    return True


def _record(kind: str, rule: WatchRule, by: str) -> None:
    subject = f"{rule.kind.lower()}:{rule.value}"
    journal.record(
        kind=kind, subject=subject[:120], actor=by, at=timezone.now(), data={"rule": str(rule)}
    )


# --- ranking ---------------------------------------------------------------


def _budget(given: int | None) -> int:
    return settings.WATCH_TOKENS if given is None else given


def _rank(following: Collection[str]) -> _Ranking:
    """Put all candidates in order."""
    rules = _Rules(WatchRule.objects.filter(enabled=True))
    chosen: list[tuple[_Candidate, WatchRule | None]] = []
    excluded: dict[str, WatchRule] = {}
    for candidate in _candidates(rules.left_out, tags=rules.need_tags):
        rule = rules.about(candidate)
        if rule is not None and rule.effect == Effect.EXCLUDE:
            excluded[candidate.event_id] = rule
        else:
            chosen.append((candidate, rule))
    chosen.sort(key=lambda pair: _order(pair[0], pair[1], following))
    return _Ranking(chosen, excluded, rules.left_out)


def _order(
    candidate: _Candidate, rule: WatchRule | None, following: Collection[str]
) -> tuple[object, ...]:
    stays = STAYS_FOR if candidate.event_id in following else 1
    return (
        not (rule and rule.effect == Effect.PIN),
        -(rule.priority if rule else 0),
        -candidate.liquidity * stays,
        -candidate.volume * stays,
        candidate.event_id,
    )


def _told(place: _Place, budget: int) -> Why:
    by = f"by the rule: {place.rule}" if place.rule else "by liquidity"
    ranked = f"its event is number {place.rank:,}, {by}"
    need = place.candidate.tokens
    if place.taken:
        return Why(True, f"Watched: {ranked}; tokens: {need:,}.", place.rank)
    room = f"those before it take {place.before:,} of {budget:,} tokens and it needs {need:,}"
    return Why(False, f"Not watched: {ranked}, but {room}.", place.rank)


class _Rules:
    """The rules that are switched on, strongest first."""

    def __init__(self, rules: Iterable[WatchRule]) -> None:
        self._rules = sorted(
            rules,
            key=lambda rule: (
                rule.effect != Effect.PIN,
                -rule.priority,
                rule.effect != Effect.EXCLUDE,
                rule.pk,
            ),
        )
        self._events = _events_of(rule.value for rule in self._rules if rule.kind == Kind.MARKET)
        self.left_out = self._single_exclusions()
        self.need_tags = any(rule.kind == Kind.TAG for rule in self._rules)

    def about(self, candidate: _Candidate) -> WatchRule | None:
        """Return the rule that decides about an event; None is its liquidity alone."""
        fitting = (rule for rule in self._rules if self._fits(rule, candidate))
        return next(fitting, None)

    def _single_exclusions(self) -> dict[str, WatchRule]:
        """Return the markets to leave out of events that need not be whole."""
        first: dict[str, WatchRule] = {}
        for rule in self._rules:
            if rule.kind == Kind.MARKET and not self._events.get(rule.value, ("", False))[1]:
                first.setdefault(rule.value, rule)
        return {value: rule for value, rule in first.items() if rule.effect == Effect.EXCLUDE}

    def _fits(self, rule: WatchRule, candidate: _Candidate) -> bool:
        if rule == self.left_out.get(rule.value):
            return False  # the market goes, its event stays
        if rule.kind in _AT_LEAST:
            enough = _AT_LEAST[rule.kind](candidate) >= (rule.minimum_usd or 0)
            return enough != (rule.effect == Effect.EXCLUDE)
        match rule.kind:
            case Kind.EVENT:
                return rule.value == candidate.event_id
            case Kind.MARKET:
                return self._events.get(rule.value, ("", False))[0] == candidate.event_id
            case Kind.TAG:
                return rule.value.lower() in candidate.tags
        return True


_AT_LEAST: dict[str, Callable[[_Candidate], Decimal]] = {
    Kind.LIQUIDITY: lambda candidate: candidate.liquidity,
    Kind.VOLUME: lambda candidate: candidate.volume,
}


# --- reading ---------------------------------------------------------------


def _events_of(market_ids: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """Return the event of each market and whether that is neg-risk."""
    wanted = list(market_ids)
    if not wanted:
        return {}
    rows = Market.objects.filter(pk__in=wanted, event__isnull=False)
    found = rows.values_list("id", "event_id", "event__neg_risk")
    return {pk: (event_id or "", neg_risk) for pk, event_id, neg_risk in found}


def _candidates(left_out: Collection[str], *, tags: bool) -> Iterator[_Candidate]:
    """Sum up the tradable markets of every event that nobody has won yet."""
    yes_paid = Outcome.objects.filter(index=0, market__payout=1).exclude(label__iexact="no")
    won = yes_paid.filter(market__event__neg_risk=True).values("market__event_id")
    sums = (
        Market.objects.tradable()
        .exclude(pk__in=left_out)
        .exclude(event__in=won)
        .order_by()
        .values_list("event_id", "event__neg_risk")
        .annotate(Sum("liquidity"), Sum("volume"), Count("id"))
    )
    known_tags = _tags() if tags else {}
    for event_id, neg_risk, liquidity, volume, markets in sums:
        if event_id:
            yield _Candidate(
                event_id=event_id,
                neg_risk=bool(neg_risk),
                tags=known_tags.get(event_id, frozenset()),
                liquidity=liquidity,
                volume=volume,
                markets=markets,
            )


def _tags() -> dict[str, frozenset[str]]:
    rows = Event.objects.filter(closed=False).values_list("id", "tags")
    return {pk: frozenset(str(tag).lower() for tag in tags) for pk, tags in rows}


def _markets_of(
    events: Collection[str], left_out: Collection[str]
) -> Mapping[str, list[WatchedMarket]]:
    """Return the tradable markets of these events with both tokens, in the order of their ids."""
    rows = (
        Outcome.objects.filter(market__event__in=list(events), market__state=Market.State.TRADABLE)
        .exclude(market__in=list(left_out))
        .order_by("market_id", "index")
        .values_list("market__event_id", "market_id", "market__condition_id", "token_id")
    )
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for event_id, market_id, condition_id, token in rows:
        pairs.setdefault((event_id or "", market_id, condition_id), []).append(token)
    found: dict[str, list[WatchedMarket]] = {}
    for (event_id, market_id, condition_id), tokens in pairs.items():
        if len(tokens) == TOKENS_EACH:
            watched_market = WatchedMarket(market_id, condition_id, (tokens[0], tokens[1]))
            found.setdefault(event_id, []).append(watched_market)
    return found
