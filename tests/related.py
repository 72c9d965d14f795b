"""Related markets for tests: random sets of relations, ladders and knockout brackets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from rules.kernel.finding import MarketView
from rules.kernel.relations import Relation, State, possible_states
from tests.oracle import best_profit
from tests.worlds import fee, market_view

RATES = ("0", "0.03", "0.05", "0.07")


def rel(kind: str, *members: str, approved: bool = True, **more) -> Relation:
    return Relation(kind, members, approved, **more)


def by_id(*markets: MarketView) -> dict[str, MarketView]:
    return {market.terms.market_id: market for market in markets}


def quoted(
    number: int,
    middle: float,
    rng: random.Random,
    *,
    levels: int = 3,
    half: int = 1,
    **changes,
) -> MarketView:
    """Return a market on its own around a probability, its touch `half` cents away from it."""
    cents = min(max(round(middle * 100), half + levels), 100 - half - levels)
    asks = _side(rng, cents, half, levels)
    no_asks = _side(rng, 100 - cents, half, levels)
    own = {"neg_risk_id": None, "event_id": str(number), "min_size": 0, **changes}
    return market_view(number, asks, no_asks, **own)


def _side(rng: random.Random, cents: int, half: int, levels: int) -> Ladder:
    return tuple(
        ((cents + half + step) * PRICE_ONE // 100, rng.randint(1, 300) * SIZE_ONE)
        for step in range(levels)
    )


def random_relations(rng: random.Random, names: Sequence[str]) -> list[Relation]:
    """Return relations that connect all names, of every type."""
    relations = []
    left = list(names)
    rng.shuffle(left)
    known = [left.pop()]
    while left:
        kind = rng.choice(
            ("implies", "exclusive", "exhaustive", "equivalent", "complement", "union", "ladder")
        )
        size = 1 if kind in ("implies", "complement") else rng.randint(1, min(3, len(left)))
        fresh = [left.pop() for _ in range(size)]
        members = [rng.choice(known), *fresh]
        rng.shuffle(members)
        relations.append(rel(kind, *members))
        known += fresh
    return relations


def quoted_near(
    relations: Sequence[Relation],
    names: Sequence[str],
    rng: random.Random,
    *,
    noise: float,
    rates: Sequence[str] = RATES,
) -> list[MarketView]:
    """Quote markets around probabilities that fit their relations, off by some noise."""
    states = possible_states(names, relations, {})
    weights = [rng.expovariate(1) ** 2 for _ in states]
    chances = [
        sum(weight for weight, state in zip(weights, states, strict=True) if state[position])
        / sum(weights)
        for position in range(len(names))
    ]
    return [
        quoted(n, chance + rng.gauss(0, noise), rng, fee=fee(rng.choice(rates)))
        for n, chance in enumerate(chances)
    ]


def touches(members: Sequence[str], views: dict[str, MarketView]) -> list[tuple[int, int]]:
    """Return bid and ask of outcome 0 of each member, as a live book has them."""
    return [_touch(views.get(member)) for member in members]


def _touch(view: MarketView | None) -> tuple[int, int]:
    asks, no_asks = view.asks if view else ((), ())
    return PRICE_ONE - no_asks[0][0] if no_asks else 0, asks[0][0] if asks else PRICE_ONE


def truth(
    relations: Sequence[Relation], markets: Sequence[MarketView], budget: float | None = None
) -> float:
    """Return the oracle's best certain profit over every listed state."""
    views = by_id(*markets)
    states = possible_states(tuple(views), relations, {m: v.terms for m, v in views.items()})
    return best_profit(
        [m.asks[0] for m in markets] + [m.asks[1] for m in markets],
        [m.terms.fee for m in markets] * 2,
        [payoffs(state) for state in states],
        budget,
    )


def payoffs(state: State) -> list[int]:
    """Return what one YES of each market pays, then one NO of each."""
    return [*map(int, state), *(1 - int(true) for true in state)]


# --- a knockout bracket --------------------------------------------------------------


def bracket_id(won: int, team: int) -> str:
    return f"{won}{team:02d}"


def bracket_relations(rounds: int) -> list[Relation]:
    """Relate the markets "team wins so many games" of a knockout of 2^rounds teams."""
    teams = 2**rounds
    relations = []
    for won in range(1, rounds + 1):
        for pod in range(0, teams, 2**won):
            members = [bracket_id(won, team) for team in range(pod, pod + 2**won)]
            relations += [rel("exclusive", *members), rel("exhaustive", *members)]
        if won > 1:
            relations += [
                rel("implies", bracket_id(won, t), bracket_id(won - 1, t)) for t in range(teams)
            ]
    return relations


def bracket_states(rounds: int) -> list[dict[str, bool]]:
    """Play every possible tournament; shares nothing with the relations."""
    teams = 2**rounds
    states = []
    for games in product((0, 1), repeat=teams - 1):
        wins = [0] * teams
        left, game = list(range(teams)), 0
        while len(left) > 1:
            pairs = list(zip(left[::2], left[1::2], strict=True))
            left = [pair[games[game + n]] for n, pair in enumerate(pairs)]
            game += len(pairs)
            for team in left:
                wins[team] += 1
        states.append(
            {
                bracket_id(won, team): wins[team] >= won
                for won in range(1, rounds + 1)
                for team in range(teams)
            }
        )
    return states


def bracket_markets(rounds: int, rng: random.Random, *, noise: float) -> list[MarketView]:
    """Quote a bracket around the chances of teams of different strength, off by some noise."""
    teams = 2**rounds
    strength = [rng.uniform(0.3, 1) for _ in range(teams)]
    chance = [[1.0] * teams]
    for won in range(1, rounds + 1):
        half = 2 ** (won - 1)
        chance.append(
            [
                chance[-1][team]
                * sum(
                    chance[-1][other] * strength[team] / (strength[team] + strength[other])
                    for other in range(teams)
                    if other // half == (team // half) ^ 1
                )
                for team in range(teams)
            ]
        )
    return [
        quoted(
            won * 100 + team,
            chance[won][team] + rng.gauss(0, noise),
            rng,
            market_id=bracket_id(won, team),
            fee=fee("0.03"),
        )
        for won in range(1, rounds + 1)
        for team in range(teams)
    ]
