"""A knockout of 16 teams: 64 markets on how far each gets, and 32,768 ways it can end."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np

from markets.simulator.exam.bargains import put_up, take_back
from markets.simulator.exam.cases import Case, States
from markets.simulator.exam.related import Bundle, Logic, Related
from markets.simulator.exam.single import hold, plan
from markets.simulator.exam.studio import Studio

ROUNDS = 4
TEAMS = 2**ROUNDS


def place(won: int, team: int) -> int:
    """Return the position of "team wins so many games"."""
    return team * ROUNDS + won - 1


@lru_cache(maxsize=1)
def all_states() -> States:
    """Play every tournament that is possible, one row each."""
    games = np.arange(2 ** (TEAMS - 1))
    wins = np.zeros((len(games), TEAMS), dtype=np.int8)
    left = np.tile(np.arange(TEAMS), (len(games), 1))
    game, rows = 0, np.arange(len(games))
    while left.shape[1] > 1:
        home, away = left[:, ::2], left[:, 1::2]
        bits = (games[:, None] >> np.arange(game, game + home.shape[1])) & 1
        game += home.shape[1]
        left = np.where(bits == 1, home, away)
        for column in left.T:
            wins[rows, column] += 1
    truth = wins[:, :, None] > np.arange(ROUNDS)[None, None, :]
    states: States = truth.reshape(len(games), TEAMS * ROUNDS).astype(np.int8)
    return states


def relations() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Say of every pod that exactly one of it gets through, and of every win that one came before.

    Positions as `place` gives them.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    for won in range(1, ROUNDS + 1):
        for pod in range(0, TEAMS, 2**won):
            members = tuple(place(won, team) for team in range(pod, pod + 2**won))
            found += [("exclusive", members), ("exhaustive", members)]
        if won > 1:
            found += [("implies", (place(won, t), place(won - 1, t))) for t in range(TEAMS)]
    return tuple(found)


def chances(rng: random.Random) -> list[float]:
    """Draw teams of different strength; return how likely each gets how far, by position."""
    strength = [rng.uniform(0.4, 1) for _ in range(TEAMS)]
    reached = [[1.0] * TEAMS]
    for won in range(1, ROUNDS + 1):
        half, before = 2 ** (won - 1), reached[-1]
        reached.append([
            before[team] * sum(
                before[other] * strength[team] / (strength[team] + strength[other])
                for other in range(TEAMS) if other // half == (team // half) ^ 1
            )
            for team in range(TEAMS)
        ])  # fmt: skip
    return [reached[won][team] for team in range(TEAMS) for won in range(1, ROUNDS + 1)]


def draw(studio: Studio) -> Related:
    """List the teams, each an event of four markets, and pick what may be mispriced."""
    likely = chances(studio.rng)
    events = [
        studio.event("plain", likely[team * ROUNDS : (team + 1) * ROUNDS], tick=10, depth=4)
        for team in range(TEAMS)
    ]
    logic = Logic("lp", relations(), all_states(), _bundles(studio.rng))
    places = tuple((event, at) for event in events for at in range(ROUNDS))
    return Related(logic, places)


def _bundles(rng: random.Random) -> tuple[Bundle, ...]:
    """A favourite's title against its pod, and a whole pod of which one must come through."""
    pod = 4 * rng.randrange(TEAMS // 4)
    first, *others = range(pod, pod + 4)
    across = Bundle(((place(4, first), 1), *((place(2, team), 1) for team in others)), 3)
    whole = Bundle(tuple((place(2, team), 0) for team in range(pod, pod + 4)), 1)
    return across, whole


def bracket(studio: Studio) -> Case | None:
    """Misprice a bracket for some seconds."""
    related = draw(studio)
    studio.open(*related.events)
    bundle = studio.rng.choice(related.logic.bundles)
    offers = plan(studio, related.seats(bundle), pays=bundle.pays, margin=0.02 * bundle.pays)
    if offers is None:
        return None
    put_up(studio, offers)
    hold(studio, *related.events)
    take_back(studio, offers)
    studio.wait(1_300)
    return studio.case("bracket", stakes=[related.stake()], relations=related.rows())
