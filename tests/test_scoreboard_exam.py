"""The exam: the same for the same seed, complete, and biting where a guard is taken away."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from markets.simulator.exam import Case, Charge, Stake, bracket, decoys, feed_traps, related, single
from markets.simulator.exam.paper import MAKERS, Maker, draw, paper
from markets.simulator.exam.related import one_of
from mpx_site.scoreboard import oracle
from mpx_site.scoreboard.families import FAMILIES
from mpx_site.scoreboard.judging import Judgement
from mpx_site.scoreboard.oracle import Bounds, Market
from mpx_site.scoreboard.sitting import _together, rules, sit
from rules.kernel.relations import Relation, possible_states
from tests.oracle import best_profit, one_true
from tests.related import RATES, bracket_relations, bracket_states
from tests.worlds import fee

WORTH = Bounds(0.50, 20.0)
SOME = 6  # cases of a kind


def some(maker: Maker, *, seed: int = 5, count: int = SOME) -> list[Case]:
    return [draw(maker, seed=seed, number=number) for number in range(count)]


def false_p1(cases: Sequence[Case], **changes: Any) -> int:
    """Return how many P1 a set of cases brings about that nothing stands behind."""
    judgement = Judgement()
    for answer in _together(cases, rules_with(**changes)):
        judgement.take(answer)
    return sum(score.told - score.right for score in list(judgement.scores.values())[:3])


def rules_with(*, persist_ms: int | None = None, min_profit_usd: str | None = None) -> list[Any]:
    found = []
    for active in rules():
        definition: Any = active.definition
        changes: dict[str, Any] = {}
        if persist_ms is not None:
            dedupe = definition.dedupe.model_copy(update={"persist_ms": persist_ms})
            changes["dedupe"] = dedupe
        if min_profit_usd is not None and hasattr(definition.params, "min_profit_usd"):
            update = {"min_profit_usd": Decimal(min_profit_usd)}
            changes["params"] = definition.params.model_copy(update=update)
        found.append(type(active).of(definition.model_copy(update=changes)))
    return found


# --- the paper -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_exam_and_another_seed_another() -> None:
    first, again = (list(paper(seed=4, cases=len(MAKERS))) for _ in range(2))
    other = next(paper(seed=5, cases=1))

    assert [case.frames for case in first] == [case.frames for case in again]
    assert [case.quoted for case in first] == [case.quoted for case in again]
    assert first[0].frames != other.frames


def test_a_short_exam_already_has_every_family() -> None:
    traps = {case.family for case in paper(seed=6, cases=len(MAKERS)) if case.trap}

    assert traps == {family.code for family in FAMILIES}
    assert [family.number for family in FAMILIES] == list(range(1, 31))


def test_frames_come_in_order_and_name_the_cases_own_markets() -> None:
    for case in paper(seed=7, cases=len(MAKERS)):
        times = [frame.t for frame in case.frames]
        assert times == sorted(times)
        told = {token for page in case.pages for token in _tokens(page)}
        assert len(told) == len(set(told))
        assert case.event_ids


def _tokens(page: dict[str, Any]) -> Iterator[str]:
    for market in page["markets"]:
        yield from msgspec.json.decode(market["clobTokenIds"])


@pytest.mark.parametrize(
    ("maker", "weight"), MAKERS, ids=lambda each: getattr(each, "__name__", "")
)
def test_what_is_planted_is_there_and_a_decoy_is_not(maker: Maker, weight: float) -> None:
    for case in some(maker, count=2):
        windows = [must for _, must in Market(case).windows(WORTH)]
        planted = not case.trap or case.check not in ("p1", "spike", "endgame")
        if case.jumps or case.check in ("spike", "endgame"):
            assert not windows
        elif planted and case.capital is None:
            assert any(windows)
        elif case.capital is None:
            assert not any(windows)


# --- the oracle ----------------------------------------------------------------------


def test_the_oracle_agrees_with_the_tests_own() -> None:
    rng = random.Random(3)
    for count in (2, 3, 5, 8):
        asks, rates = {}, {}
        for market in map(str, range(count)):
            yes = [(rng.randrange(300, 9_000 // count), rng.randrange(1, 300) * 10**6)]
            no = [(10_000 - price - 400, size) for price, size in yes]
            asks[market] = (tuple(yes), tuple(no))
            rates[market] = rng.choice(RATES)
        charges = {market: Charge(Decimal(rate)) for market, rate in rates.items()}
        states = one_of(count, or_none=True)
        stake = Stake("lp", None, tuple(asks), (0, 1), states, ("cross_market",))
        for budget in (None, 40.0):
            ladders = [asks[m][0] for m in asks] + [asks[m][1] for m in asks]
            fees = [fee(rates[m]) for m in asks] * 2
            wanted = best_profit(ladders, fees, one_true(count, or_none=True), budget)
            found = oracle.best(stake, asks, charges, budget)
            assert found.profit == pytest.approx(wanted, abs=1e-5)


def test_a_fee_by_the_square_costs_less() -> None:
    plain, squared = Charge(Decimal("0.07")), Charge(Decimal("0.07"), 2)

    assert plain.cost(5_000) == 517_500_000_000
    assert squared.cost(5_000) == 504_375_000_000


def test_the_bracket_is_the_same_that_every_tournament_gives() -> None:
    states = bracket.all_states()
    four = {tuple(sorted(state.items())) for state in bracket_states(2)}

    assert states.shape == (32_768, 64)
    assert len(np.unique(states, axis=0)) == 32_768
    pods = states.reshape(-1, 16, 4)[:, :4, :2]  # what the first four teams do in two rounds
    seen = np.unique(pods.reshape(len(pods), -1), axis=0)
    wins = {tuple(row) for row in seen.tolist()}
    assert wins == {
        tuple(int(dict(state)[f"{won}{team:02d}"]) for team in range(4) for won in (1, 2))
        for state in four
    }
    assert len(bracket.relations()) == len(bracket_relations(4))


@pytest.mark.parametrize(
    "logic",
    [
        related.implication(),
        related.exclusion(3),
        related.exhaustion(3),
        related.equivalence(),
        related.opposition(),
        related.union(3),
        related.date_ladder(4),
        related.chain(),
        related.buckets(3),
        related.party(3),
        related.fork(),
    ],
    ids=lambda logic: f"{logic.kind}-{len(logic.relations)}",
)
def test_the_states_of_a_logic_are_those_its_relations_allow(logic: related.Logic) -> None:
    count = logic.possible.shape[1]
    names = [f"{at:02d}" for at in range(count)]
    relations = [
        Relation(kind, tuple(names[at] for at in members), True)  # type: ignore[arg-type]
        for kind, members in logic.relations
    ]

    allowed = {tuple(map(int, state)) for state in possible_states(names, relations, {})}

    assert {tuple(row) for row in logic.possible.tolist()} == allowed
    for bundle in logic.bundles:
        paid = [
            sum(row[at] if side == 0 else 1 - row[at] for at, side in bundle.places)
            for row in logic.possible.tolist()
        ]
        assert min(paid) == bundle.pays


# --- the exam bites ------------------------------------------------------------------


def without_frames(drop: Callable[[Any], bool]) -> Callable[[Case], Case]:
    def strip(case: Case) -> Case:
        return replace(case, frames=tuple(frame for frame in case.frames if not drop(frame)))

    return strip


def relations_trusted(case: Case) -> Case:
    rows = [row | {"approved": True, "blocked_by": []} for row in case.relations]
    return replace(case, relations=tuple(rows))


def relations_reversed(case: Case) -> Case:
    rows = [row | {"members": row["members"][::-1]} for row in case.relations]  # type: ignore[index]
    return replace(case, relations=tuple(rows))


def relations_complete(case: Case) -> Case:
    """Call the listed candidates all there are."""
    exclusive, *implied = case.relations
    members = [implied[0]["members"][1], *exclusive["members"]]  # type: ignore[index,misc]
    return replace(case, relations=(exclusive | {"type": "union", "members": members},))


def fees_off(case: Case) -> Case:
    pages = msgspec.json.decode(msgspec.json.encode(case.pages))
    for page in pages:
        for market in page["markets"]:
            market.update(feesEnabled=False, feeSchedule=None, feeType=None)
    return replace(case, pages=tuple(pages))


def unchanged(case: Case) -> Case:
    return case


GUARDS: list[tuple[Maker, Callable[[Case], Case], dict[str, Any]]] = [
    (decoys.gross_not_net, fees_off, {"min_profit_usd": "0.01"}),
    (decoys.unequal_but_short, fees_off, {"min_profit_usd": "0.01"}),
    (decoys.short_buckets, fees_off, {"min_profit_usd": "0.01"}),
    (decoys.thin_top, unchanged, {"min_profit_usd": "0.01"}),
    (decoys.outcome_added, without_frames(lambda frame: frame.ch == "gamma"), {}),
    (decoys.frozen_after_end, without_frames(lambda frame: frame.ch == "gamma"), {}),
    (decoys.not_accepting, without_frames(lambda frame: frame.ch == "gamma"), {}),
    (decoys.swapped, relations_reversed, {}),
    (decoys.other_cut_off, relations_trusted, {}),
    (decoys.other_source, relations_trusted, {}),
    (decoys.unlisted_candidate, relations_complete, {}),
    (feed_traps.stale_leg, without_frames(lambda frame: frame.req == "closed"), {}),
    (feed_traps.flicker, unchanged, {"persist_ms": 0}),
]


@pytest.mark.parametrize(
    ("maker", "spoil", "changes"), GUARDS, ids=[maker.__name__ for maker, *_ in GUARDS]
)
def test_without_what_guards_against_it_a_decoy_is_taken_for_real(
    maker: Maker, spoil: Callable[[Case], Case], changes: dict[str, Any]
) -> None:
    cases = some(maker)

    assert false_p1(cases) == 0
    assert false_p1([spoil(case) for case in cases], **changes) >= SOME / 2


def test_bait_that_is_swallowed_is_seen() -> None:
    case = draw(feed_traps.bait, seed=5, number=1)
    real = next(frame for frame in case.frames if b'"price_changes"' in frame.body)
    cheap = tuple(replace_price(frame) for frame in case.frames[-40:-1] if frame.ch == "ws")

    (honest,) = sit([case])
    (fooled,) = sit([replace(case, bait=cheap)])

    assert real
    assert honest.baited == 0
    assert fooled.baited > 0


def replace_price(frame: Any) -> Any:
    """Delay a frame that mattered: what it brings about is not the same with and without it."""
    return msgspec.structs.replace(frame, t=frame.t + 400_000_000)


# --- judging -------------------------------------------------------------------------


def test_a_planted_basket_is_found_whole_and_in_time() -> None:
    judgement = Judgement()
    for answer in (*sit(some(single.yes_basket)), *sit(some(single.unequal_depth))):
        judgement.take(answer)

    score = judgement.scores["DUTCH_BOOK_DETECT"]
    assert score.planted >= 2 * SOME - 2
    assert score.found == score.planted
    assert score.told == score.right
    assert 0.999 <= score.gained / score.could_gain <= 1
    assert max(score.to_p1) < 1_000


def test_a_window_nobody_tells_of_is_a_miss_with_its_case_named() -> None:
    (case,) = some(single.yes_basket, count=1)
    judgement = Judgement()
    answer = next(sit([case]))

    judgement.take(replace(answer, signals=()))

    score = judgement.scores["DUTCH_BOOK_DETECT"]
    assert score.planted > score.found == 0
    assert "missed yes_basket" in judgement.mistakes[0].what


def test_equal_legs_leave_money_that_the_scoreboard_sees() -> None:
    """What most bots do with a NO basket: the same size of every leg."""
    shares = []
    for case in some(single.unequal_depth):
        (answer,) = sit([case])
        (window, _) = next(
            each for each in Market(case).windows(WORTH) if each[0].stake.kind == "no_basket"
        )
        told = next(each for each in answer.signals if each.p1 and each.p1.kind == "no_basket")
        best = Market(case).at(window.stake, told.p1_at)
        assert best is not None and told.p1 is not None
        least = min(leg.size for leg in told.p1.legs)
        equal = sum((least / leg.size * leg.cost for leg in told.p1.legs), Decimal(0))
        shares.append(float(least * (len(told.p1.legs) - 1) - equal) / best.profit)

    assert sum(shares) / len(shares) < 0.95
