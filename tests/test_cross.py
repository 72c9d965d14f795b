"""Related markets: the test per change misses nothing, the full look is the optimum, proven."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rules.kernel.cross import RelatedSet, detect_related, near_miss, related_sets
from rules.kernel.finding import Finding, Limits, MarketView
from rules.kernel.known import Contradiction, Order, Partition, known_of
from rules.kernel.proofs import check, holding, payout, proven
from rules.kernel.relations import Relation
from tests.oracle import best_profit
from tests.related import (
    RATES,
    bracket_markets,
    bracket_relations,
    bracket_states,
    by_id,
    payoffs,
    quoted,
    quoted_near,
    random_relations,
    rel,
    touches,
    truth,
)
from tests.worlds import bids, event_view, fee, ladder, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
LIMITS = Limits()
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))
HAIR = Decimal("1e-6")


def single(number: int, bid: float, ask: float, size: float = 100, **changes) -> MarketView:
    own = {"neg_risk_id": None, "event_id": str(number), **changes}
    return market_view(number, ladder((ask, size)), bids((bid, size)), **own)


def sets_of(relations: Sequence[Relation], *markets: MarketView) -> tuple[RelatedSet, ...]:
    refused: list[Contradiction] = []
    terms = {market.terms.market_id: market.terms for market in markets}
    found = related_sets(relations, terms, refused=refused)
    assert not refused
    return found


def look(
    relations: Sequence[Relation], *markets: MarketView, limits: Limits = LIMITS, **more
) -> list[Finding]:
    views = by_id(*markets)
    found = []
    for related in sets_of(relations, *markets):
        finding = detect_related(related, views, at=AT, limits=limits, **more)
        assert finding is None or related.could_pay(touches(related.members, views))
        found += [finding] if finding else []
    return found


def bought(finding: Finding) -> dict[tuple[str, str], Decimal]:
    return {(leg.market_id, leg.outcome): leg.size for leg in finding.legs}


def checks(finding: Finding, relations: Sequence[Relation], markets: Sequence[MarketView]) -> bool:
    terms = {market.terms.market_id: market.terms for market in markets}
    return check(finding.certificate, finding, relations=relations, terms=terms)


# --- against the oracle --------------------------------------------------------------


def random_case(seed: int) -> tuple[list[Relation], list[MarketView]]:
    rng = random.Random(seed)
    names = [str(100 + number) for number in range(rng.randint(2, 9))]
    relations = random_relations(rng, names)
    return relations, quoted_near(relations, names, rng, noise=rng.choice((0.0, 0.02, 0.04)))


def test_the_test_per_change_says_what_the_oracle_says():
    shapes: dict[str, list[bool]] = {}
    for seed in range(300):
        relations, markets = random_case(seed)
        (related,) = sets_of(relations, *markets)

        could = related.could_pay(touches(related.members, by_id(*markets)))

        best = truth(relations, markets)
        # A margin under 1e-6 USD a share may go either way, never the wrong one.
        assert could or best < 1e-6, seed
        assert not could or best > -1e-9
        if could is (best > 1e-6):
            shapes.setdefault(type(related.known.shape).__name__, []).append(could)
    assert sum(map(len, shapes.values())) > 290
    for told in shapes.values():  # orders, partitions and sets of neither shape
        assert any(told) and not all(told)
    assert len(shapes) == 3


def test_the_test_per_change_sees_what_an_earlier_answer_cannot_excuse():
    rng = random.Random(5)
    names = [str(100 + number) for number in range(6)]
    relations = [
        rel("union", "100", "101", "102", "103"),
        rel("exclusive", "103", "104"),
        rel("exhaustive", "102", "104", "105"),
    ]
    rates = ("0.05",)
    quotes = quoted_near(relations, names, rng, noise=0, rates=rates)
    (related,) = sets_of(relations, *quotes)
    assert related.known.shape is None
    told = []

    for _ in range(40):  # one set, one witness, many touches
        moved = quoted_near(relations, names, rng, noise=0.02, rates=rates)
        told.append(related.could_pay(touches(related.members, by_id(*moved))))

        assert told[-1] is (truth(relations, moved) > 1e-6)
    assert any(told) and not all(told)


@pytest.mark.parametrize("capital", [None, Decimal(40)])
def test_findings_take_the_optimum_and_prove_it(capital):
    shares_of_best = []
    for seed in range(300):
        relations, markets = random_case(seed)

        found = look(relations, *markets, limits=replace(ALL, capital=capital))

        best = truth(relations, markets, None if capital is None else float(capital))
        for finding in found:
            assert finding.profit <= Decimal(best) + HAIR, seed
            assert capital is None or finding.cost <= capital
            assert checks(finding, relations, markets), seed
            assert finding.certificate.table or finding.certificate.states > 64
        if best > 1:
            shares_of_best.append(float(sum(f.profit for f in found)) / best)
    assert len(shares_of_best) > 8
    assert sum(shares_of_best) / len(shares_of_best) > 0.999
    assert min(shares_of_best) > 0.99


def test_a_tangle_of_many_markets_is_solved_over_all_its_states():
    paid = 0
    for seed in range(250):
        rng = random.Random(seed)
        names = [str(100 + number) for number in range(14)]
        tied = [rel(rng.choice(("exclusive", "implies")), *rng.sample(names, 2)) for _ in range(2)]
        relations = [*random_relations(rng, names), *tied]
        try:
            known = known_of(relations, {})
        except Contradiction:
            continue
        if known.shape is not None or known.count <= 300:
            continue
        markets = quoted_near(relations, names, rng, noise=0.04)
        best = truth(relations, markets)
        if best > 1:
            paid += 1
            (finding,) = look(relations, *markets, limits=ALL)
            assert float(finding.profit) == pytest.approx(best, rel=0.01), seed
            assert checks(finding, relations, markets)
    assert paid > 3


def test_a_certificate_that_claims_more_does_not_hold():
    refused = 0
    for seed in range(300):
        relations, markets = random_case(seed)
        for finding in look(relations, *markets, limits=ALL):
            more = finding.min_payoff + Decimal("0.01")
            certificate = replace(finding.certificate, payoff=more)
            claim = replace(
                finding,
                min_payoff=more,
                profit=more - finding.cost,
                certificate=certificate,
            )
            weaker = [r for r in relations if set(r.members) & set(finding.market_ids)][1:]

            assert not checks(claim, relations, markets)
            if weaker and not checks(finding, [*weaker, *_missing(finding, weaker)], markets):
                refused += 1
    assert refused > 10


def _missing(finding: Finding, relations: Sequence[Relation]) -> list[Relation]:
    """Name the markets that no relation speaks of any more, without saying anything of them."""
    spoken = {member for relation in relations for member in relation.members}
    return [rel("union", m, f"{m}-other") for m in finding.market_ids if m not in spoken]


# --- ladders -------------------------------------------------------------------------


def rungs(rng: random.Random, count: int, noise: float) -> tuple[list[Relation], list[MarketView]]:
    names = [str(100 + number) for number in range(count)]
    chances = sorted(rng.uniform(0.05, 0.95) for _ in names)
    markets = [
        quoted(n, chance + rng.gauss(0, noise), rng, fee=fee(rng.choice(RATES)))
        for n, chance in enumerate(chances)
    ]
    return [rel("ladder", *names)], markets


def test_ladders_are_sized_as_the_oracle_sizes_them_and_better_than_by_one_pair():
    better = paid = 0
    for seed in range(120):
        rng = random.Random(seed)
        relations, markets = rungs(rng, rng.randint(3, 12), noise=0.06)

        found = look(relations, *markets, limits=ALL)

        best = truth(relations, markets)
        assert isinstance(sets_of(relations, *markets)[0].known.shape, Order)
        if best > 1:
            paid += 1
            assert found[0].kind == "ladder"
            assert float(found[0].profit) == pytest.approx(best, rel=0.01)
            pairs = [
                best_profit(
                    [first.asks[1], then.asks[0]],
                    [first.terms.fee, then.terms.fee],
                    [[1, 0], [1, 1], [0, 1]],
                )
                for place, first in enumerate(markets)
                for then in markets[place + 1 :]
            ]
            better += max(pairs) < best * 0.98
    assert paid > 40
    assert better > 10


def test_a_long_ladder_is_looked_at_as_a_whole():
    rng = random.Random(2)
    relations, markets = rungs(rng, 50, noise=0.02)

    (finding,) = look(relations, *markets, limits=ALL)

    assert finding.certificate.states == 51
    assert float(finding.profit) == pytest.approx(truth(relations, markets), rel=0.01)


def test_implications_that_split_and_meet_again_are_an_order():
    diamond = [
        rel("implies", "100", "101"),
        rel("implies", "100", "102"),
        rel("implies", "101", "103"),
        rel("implies", "102", "103"),
        rel("equivalent", "103", "104"),
    ]
    tops = ((0.50, 0.52), (0.49, 0.60), (0.49, 0.60), (0.41, 0.60), (0.40, 0.42))
    markets = [single(n, *top) for n, top in enumerate(tops)]

    (finding,) = look(diamond, *markets)

    assert isinstance(sets_of(diamond, *markets)[0].known.shape, Order)
    assert bought(finding) == {("100", "No"): 100, ("104", "Yes"): 100}


# --- the traps of detection.md 6 -----------------------------------------------------


@pytest.mark.parametrize(("first", "then", "pays"), [("100", "101", True), ("101", "100", False)])
def test_an_implication_pays_one_way_only(first, then, pays):
    dear, cheap = single(0, 0.50, 0.52), single(1, 0.40, 0.45)

    assert bool(look([rel("implies", first, then)], dear, cheap)) is pays


def test_buckets_thresholds_and_ladders_are_one_set():
    """Buckets under 50, 50 to 60, over 60; "over 50" is the union of the upper two."""
    relations = [
        rel("exclusive", "100", "101", "102"),
        rel("exhaustive", "100", "101", "102"),
        rel("union", "103", "101", "102"),
        rel("ladder", "102", "103"),
    ]
    under, between, over = single(0, 0.28, 0.30), single(1, 0.30, 0.32), single(2, 0.36, 0.38)
    over_50 = single(3, 0.74, 0.76)

    (finding,) = look(relations, under, between, over, over_50)

    # "over 50" at 0.74 against its two buckets for 0.70 together
    assert finding.kind == "lp"
    assert finding.verdict == "EXECUTABLE"
    assert finding.certificate.states == 3
    assert float(finding.profit) == pytest.approx(
        truth(relations, [under, between, over, over_50]), abs=0.05
    )
    assert checks(finding, relations, [under, between, over, over_50])


@pytest.mark.parametrize(
    ("party", "candidates", "legs"),
    [
        ((0.40, 0.42), (0.25, 0.30), {("100", "Yes"), ("101", "No"), ("102", "No")}),
        ((0.60, 0.62), (0.25, 0.28), {("100", "No"), ("101", "Yes"), ("102", "Yes")}),
        ((0.52, 0.54), (0.25, 0.28), set()),
    ],
    ids=["the candidates are dear", "the party is dear", "they agree"],
)
def test_a_party_is_worth_its_candidates(party, candidates, legs):
    relations = [rel("union", "100", "101", "102")]
    markets = [single(0, *party), single(1, *candidates), single(2, *candidates)]

    found = look(relations, *markets)

    assert isinstance(sets_of(relations, *markets)[0].known.shape, Partition)
    assert {leg for finding in found for leg in bought(finding)} == legs
    for finding in found:
        assert checks(finding, relations, markets)


def test_findings_across_markets_say_that_a_void_would_break_them_and_what_is_left_then():
    (finding,) = look([rel("implies", "100", "101")], single(0, 0.50, 0.52), single(1, 0.40, 0.45))

    assert finding.conditions == ("riskless_given_no_void",)
    # One leg pays one half; the worst of the other is nothing.
    assert dict(finding.facts)["payoff_if_one_void"] == "50.000000"
    assert finding.cost > 50


def test_one_leg_is_not_sold_twice():
    """Both implications want the same YES; together they may take what it has, no more."""
    shared = single(2, 0.28, 0.30, size=120)
    relations = [rel("implies", "100", "102"), rel("implies", "101", "102")]
    markets = [single(0, 0.50, 0.52), single(1, 0.45, 0.47), shared]

    (finding,) = look(relations, *markets)

    assert bought(finding)["102", "Yes"] == 120
    assert float(finding.profit) == pytest.approx(truth(relations, markets), abs=0.01)


def test_what_an_event_gains_by_itself_is_left_to_the_rule_for_events():
    relations = [rel("exclusive", "100", "101"), rel("implies", "100", "105")]
    event = [market_view(n, ladder((0.7, 100)), bids((0.6, 100))) for n in (0, 1)]
    apart = single(5, 0.90, 0.95)

    assert look(relations, *event, apart) == []
    assert len(look(relations[:1], *(single(n, 0.6, 0.7) for n in (0, 1)))) == 1


# --- a bracket -----------------------------------------------------------------------


def test_a_bracket_of_16_teams_is_solved_and_agrees_with_every_tournament():
    rounds = 4
    markets = bracket_markets(rounds, random.Random(430), noise=0.03)
    relations = bracket_relations(rounds)
    views = by_id(*markets)

    (finding,) = look(relations, *markets, limits=ALL)

    tournaments = bracket_states(rounds)
    assert len(tournaments) == 2**15
    terms = {name: view.terms for name, view in views.items()}
    held = holding(finding, terms)
    names = tuple(views)
    paid = {payout(held, names, tuple(map(played.get, names))) for played in tournaments}
    assert min(paid) == finding.min_payoff == finding.certificate.payoff
    assert finding.certificate.states == 0  # too many to list: the steps prove it
    assert proven(finding.certificate.proof, held) == finding.min_payoff
    assert checks(finding, relations, markets)
    assert float(finding.profit) == pytest.approx(bracket_optimum(markets, tournaments), rel=0.01)


def bracket_optimum(markets: Sequence[MarketView], tournaments: list[dict[str, bool]]) -> float:
    """Return the oracle's optimum over a sample of all states: never less than that over all.

    The kernel's plan, paid out in every state, is never more; where the two meet
    both are the optimum.
    """
    names = [market.terms.market_id for market in markets]
    sample = random.Random(1).sample(tournaments, 900)
    ladders = [m.asks[0] for m in markets] + [m.asks[1] for m in markets]
    rows = [payoffs([state[name] for name in names]) for state in sample]
    return best_profit(ladders, [m.terms.fee for m in markets] * 2, rows)


# --- what may not be relied on -------------------------------------------------------


def dear_and_cheap() -> tuple[MarketView, MarketView]:
    return single(0, 0.50, 0.52), single(1, 0.40, 0.45)


@pytest.mark.parametrize(
    ("relation", "gates"),
    [
        (rel("implies", "100", "101", approved=False), ("unapproved_relation",)),
        (
            rel("implies", "100", "101", blocked_by=("metadata_conflict",)),
            ("metadata_conflict",),
        ),
        (
            rel("implies", "100", "101", approved=False, blocked_by=("metadata_conflict",)),
            ("metadata_conflict", "unapproved_relation"),
        ),
    ],
)
def test_a_relation_that_may_not_be_relied_on_only_makes_a_watch_list(relation, gates):
    (finding,) = look([relation], *dear_and_cheap())

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == gates
    assert finding.profit == 5


def test_a_watch_list_set_is_silent_while_its_sound_part_pays():
    relations = [rel("implies", "100", "101"), rel("implies", "101", "102", approved=False)]
    cheaper = single(2, 0.10, 0.20)

    sound, watched = sets_of(relations, *dear_and_cheap(), cheaper)
    (finding,) = look(relations, *dear_and_cheap(), cheaper)

    assert (sound.gates, watched.gates) == ((), ("unapproved_relation",))
    assert watched.sound == (sound,)
    assert finding.verdict == "EXECUTABLE"
    assert finding.market_ids == ("100", "101")


def test_approval_does_not_change_the_subject_of_a_set():
    proposed = sets_of([rel("implies", "100", "101", approved=False)], *dear_and_cheap())
    approved = sets_of([rel("implies", "100", "101")], *dear_and_cheap())
    reverse = sets_of([rel("implies", "101", "100")], *dear_and_cheap())

    assert proposed[0].subject == approved[0].subject != reverse[0].subject


def test_relations_that_no_outcome_satisfies_are_refused_and_stop_no_others():
    refused: list[Contradiction] = []
    impossible = [rel("equivalent", "100", "101"), rel("complement", "100", "101")]
    good = rel("implies", "102", "103")

    found = related_sets([*impossible, good], {}, refused=refused)

    assert [related.members for related in found] == [("102", "103")]
    assert [contradiction.relations for contradiction in refused] == [tuple(impossible)]


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"untradable": "paused"}, "not_tradable"),
        ({"fee": None}, "unknown_fee"),
        ({"problems": ("stale",)}, "stale"),
        ({"min_size": 101_000_000}, "min_size"),
    ],
)
def test_a_leg_that_may_not_be_bought_blocks(changes, gate):
    (finding,) = look(
        [rel("implies", "100", "101")], single(0, 0.5, 0.52), single(1, 0.4, 0.45, **changes)
    )

    assert (finding.verdict, finding.blocked_by) == ("BLOCKED", (gate,))


def test_money_that_is_locked_for_too_little_is_thin():
    relations = [rel("implies", "100", "101")]

    (slow,) = look(relations, *dear_and_cheap(), min_annualised_pct=Decimal(65))
    (quick,) = look(relations, *dear_and_cheap(), min_annualised_pct=Decimal(64))

    assert (slow.verdict, quick.verdict) == ("THIN", "EXECUTABLE")


# --- metamorphic ---------------------------------------------------------------------


def test_a_dearer_ask_a_smaller_level_or_one_relation_less_never_pays_more():
    rng = random.Random(11)
    for seed in range(150):
        relations, markets = random_case(seed)
        profit = gain(relations, markets)
        at = rng.randrange(len(markets))
        outcome = rng.randrange(2)

        assert gain(relations, worse(markets, at, outcome, cents=1)) <= profit + HAIR
        assert gain(relations, worse(markets, at, outcome, less=2)) <= profit + Decimal("0.05")
        assert gain(relations[1:], markets) <= profit + Decimal("0.05")


def gain(relations: Sequence[Relation], markets: Sequence[MarketView]) -> Decimal:
    """Return what all findings gain. Plans in whole lots may be off by a few cents."""
    return sum((f.profit for f in look(relations, *markets, limits=ALL)), Decimal(0))


def worse(
    markets: Sequence[MarketView], at: int, outcome: int, *, cents: int = 0, less: int = 1
) -> list[MarketView]:
    asks = list(markets[at].asks)
    asks[outcome] = tuple((price + 100 * cents, size // less) for price, size in asks[outcome])
    changed = list(markets)
    changed[at] = replace(markets[at], asks=tuple(asks))
    return changed


def test_the_order_of_relations_and_members_means_nothing():
    rng = random.Random(3)
    for seed in range(100):
        relations, markets = random_case(seed)
        mixed = [
            replace(r, members=tuple(rng.sample(r.members, len(r.members))))
            if r.type in ("exclusive", "exhaustive", "equivalent", "complement")
            else r
            for r in rng.sample(relations, len(relations))
        ]

        assert gain(mixed, markets) == pytest.approx(gain(relations, markets), abs=Decimal("0.05"))


# --- near misses ---------------------------------------------------------------------


def test_a_near_miss_names_the_pair_of_a_ladder_that_comes_closest():
    relations = [rel("ladder", "100", "101", "102")]
    markets = [single(0, 0.40, 0.44), single(1, 0.48, 0.50), single(2, 0.48, 0.55)]
    (related,) = sets_of(relations, *markets)

    miss = near_miss(related, by_id(*markets))

    assert miss.market_ids == ("101", "102")
    assert miss.kind == "ladder"
    assert (miss.gross_sum, miss.gap_cents) == (Decimal("1.07"), 7)
    assert miss.blocked_by == ()


def test_a_near_miss_of_exclusive_markets_leaves_out_what_nobody_sells():
    relations = [rel("exclusive", "100", "101", "102", approved=False)]
    unsold = market_view(2, ladder((0.4, 100)), (), neg_risk_id=None, event_id="2")
    markets = [single(0, 0.50, 0.52), single(1, 0.47, 0.50), unsold]
    (related,) = sets_of(relations, *markets)

    miss = near_miss(related, by_id(*markets))

    assert miss.market_ids == ("100", "101")
    assert (miss.net_sum, miss.gap_cents) == (Decimal("1.03"), 3)
    assert miss.blocked_by == ("unapproved_relation",)


def test_there_is_a_near_miss_or_a_finding_but_never_a_gap_where_there_is_a_finding():
    for seed in range(150):
        relations, markets = random_case(seed)
        (related,) = sets_of(relations, *markets)

        miss = near_miss(related, by_id(*markets))

        if miss.gap_cents == 0 and miss.net_sum < round(miss.net_sum):
            assert related.could_pay(touches(related.members, by_id(*markets)))


def test_an_event_view_is_not_needed_to_relate_its_markets():
    """The kernel takes neg-risk legs one by one; the event adds "at most one" by itself."""
    legs = [market_view(n, ladder((0.32, 50)), bids((0.30, 50))) for n in range(3)]
    view = event_view(legs)
    relations = [rel("union", "109", "100", "101")]
    union = single(9, 0.70, 0.72)

    (finding,) = look(relations, *view.markets, union)

    assert bought(finding) == {("100", "Yes"): 50, ("101", "Yes"): 50, ("109", "No"): 50}
