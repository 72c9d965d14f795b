"""Judging what was told against what could be had, signal by signal and window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from markets.simulator.exam import Case
from mpx_site.scoreboard.families import CODES
from mpx_site.scoreboard.oracle import GENEROUS, Best, Bounds, Market, Token, Window
from mpx_site.scoreboard.sitting import Answer, Told
from rules.kernel.finding import Finding
from rules.kernel.lp import GIVEN_NO_VOID
from rules.kernel.observed import INSUFFICIENT

ARBITRAGE = ("dutch_book", "cross_market", "temporal")
MIN_PROFIT, MIN_EDGE_BPS = 0.50, 20.0  # the THIN bound of the shipped rules
FOUND_WITHIN = 3 * 10**9  # ns from a jump to its spike


@dataclass(slots=True)
class Score:
    """What one rule made of an exam. Times in ms, profit in USD."""

    planted: int = 0  # windows that had to be told
    found: int = 0
    told: int = 0  # P1 signals; bets for rules that make none
    right: int = 0
    gained: float = 0.0
    could_gain: float = 0.0
    size_errors: list[float] = field(default_factory=list)
    to_open: list[float] = field(default_factory=list)
    to_p1: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something to look into: a window that was not told, or a signal that is wrong."""

    case: int
    family: str
    code: str
    what: str


@dataclass(slots=True)
class Judgement:
    """The scores by rule, the mistakes of each family of traps, and all there is to look into."""

    scores: dict[str, Score] = field(
        default_factory=lambda: {code: Score() for code in CODES.values()}
    )
    traps: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    trap_cases: Counter[str] = field(default_factory=Counter)
    mistakes: list[Mistake] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        """Judge one case."""
        case = answer.case
        self.cases[case.family] += 1
        wrong = 0
        market = Market(case)
        windows = list(market.windows(_bounds(case)))
        for detector in ARBITRAGE:
            due = [each for each in windows if detector in each[0].stake.detectors]
            wrong += self._arbitrage(answer, market, detector, due)
        if case.trap:
            self.trap_cases[case.family] += 1
            wrong += self._checked(answer, market)
            self.traps[case.family] += wrong
        self._observed(answer)

    # --- arbitrage -------------------------------------------------------------------

    def _arbitrage(
        self, answer: Answer, market: Market, detector: str, windows: list[tuple[Window, bool]]
    ) -> int:
        """Judge one rule on one case; return how many of its P1 nothing stands behind."""
        code = CODES[detector]
        signals = [each for each in answer.signals if each.code == code]
        for window, must in windows:
            if must:
                self._window(answer.case, code, window, signals)
        behind = [window for window, _ in windows]
        told = [each for each in signals if each.p1 is not None]
        return sum(not self._signal(market, each, behind) for each in told)

    def _window(self, case: Case, code: str, window: Window, signals: list[Told]) -> None:
        """Judge a window that has to be told."""
        score = self.scores[code]
        score.planted += 1
        hits = [each for each in signals if _about(each, window) and _overlaps(each, window)]
        if not hits:
            self._note(case, code, f"missed {window.stake.kind}: {_heard(signals)}")
            return
        score.found += 1
        first = min(hits, key=lambda each: each.p1_at)
        score.to_open.append(max(0, first.opened_at - window.opened_at) / 1e6 + first.took_ns / 1e6)
        score.to_p1.append(max(0, first.p1_at - window.opened_at) / 1e6)

    def _signal(self, market: Market, signal: Told, windows: list[Window]) -> bool:
        """Judge one P1: something must have been there when it was told, and no less than it says.

        What it gains counts against the most that could be gained at that moment.
        """
        score = self.scores[signal.code]
        score.told += 1
        behind = [each for each in windows if _about(signal, each) and _overlaps(signal, each)]
        finding = signal.p1
        if not behind or finding is None:
            self._note(market.case, signal.code, f"false P1: {_said(signal)}")
            return False
        most = market.at(behind[0].stake, signal.p1_at)
        profit = float(finding.profit)
        if most is None or profit > most.profit + GENEROUS * (1 + most.cost):
            there = "nothing" if most is None else f"{most.profit:.4f}"
            self._note(market.case, signal.code, f"P1 of {profit:.4f} where {there} is to be had")
            return False
        score.right += 1
        score.gained += profit
        score.could_gain += most.profit
        score.size_errors.append(_size_error(finding, most))
        if profit < 0.99 * most.profit and not most.small:  # else an order too small was left out
            self._note(market.case, signal.code, f"{profit:.4f} of {most.profit:.4f} taken")
        return True

    def _note(self, case: Case, code: str, what: str) -> None:
        self.mistakes.append(Mistake(case.number, case.family, code, what))

    # --- traps with a check of their own -----------------------------------------------

    def _checked(self, answer: Answer, market: Market) -> int:
        wrong = _CHECKS[answer.case.check](answer, market)
        if wrong:
            self._note(answer.case, answer.case.check, f"{wrong} wrong")
        return wrong

    # --- what is no arbitrage ----------------------------------------------------------

    def _observed(self, answer: Answer) -> None:
        case = answer.case
        spikes = [each for each in answer.signals if each.code == CODES["spike"]]
        score = self.scores[CODES["spike"]]
        for market_id, at in case.jumps:
            score.planted += 1
            near = [
                each
                for each in spikes
                if market_id in each.first.market_ids and 0 <= each.opened_at - at <= FOUND_WITHIN
            ]
            score.found += bool(near)
            score.to_open += [(near[0].opened_at - at) / 1e6] if near else []
            if not near:
                self._note(case, CODES["spike"], "missed jump")
        if case.jumps or case.check == "spike":  # elsewhere a planted basket is a jump, too
            score.told += len(spikes)
            score.right += min(len(spikes), len(case.jumps))
        if case.check == "endgame":
            self._endgame(answer)

    def _endgame(self, answer: Answer) -> None:
        """A case is right if a bet is told where the past allows it, and only there."""
        case, code = answer.case, CODES["endgame"]
        score = self.scores[code]
        signals = [each for each in answer.signals if each.code == code]
        unsure = [each for each in signals if INSUFFICIENT in each.first.blocked_by]
        bets = len(signals) - len(unsure)
        score.planted += 1
        right = bool(unsure and not bets) if case.trap else bool(bets and not unsure)
        score.found += right
        score.told += len(signals)
        score.right += len(unsure) if case.trap else bets
        if not right:
            self._note(case, code, f"{bets} bets, {len(unsure)} told as unknown")


def _bounds(case: Case) -> Bounds:
    capital = None if case.capital is None else float(case.capital)
    return Bounds(MIN_PROFIT, MIN_EDGE_BPS, capital)


def _about(signal: Told, window: Window) -> bool:
    """Say whether a signal speaks of a window's kind and markets."""
    finding, stake = signal.p1 or signal.first, window.stake
    if finding.kind != stake.kind or finding.event_id != stake.event_id:
        return stake.kind == "lp" == finding.kind and set(finding.market_ids) <= {*stake.market_ids}
    return set(finding.market_ids) <= set(stake.market_ids)


def _overlaps(signal: Told, window: Window) -> bool:
    if signal.p1 is None:
        return False
    return signal.p1_at <= window.closed_at and signal.closed_at >= window.opened_at


def _size_error(finding: Finding, most: Best) -> float:
    """Return by how much the shares bought differ from the best plan's, as a share of these."""
    best = sum(most.sizes.values())
    return abs(float(sum(leg.size for leg in finding.legs)) - best) / best


def _heard(signals: Iterable[Told]) -> str:
    return "; ".join(map(_said, signals)) or "nothing told"


def _said(signal: Told) -> str:
    finding = signal.p1 or signal.first
    return (
        f"{finding.kind} {'/'.join(dict.fromkeys(signal.levels))} profit {finding.profit} "
        f"edge {finding.edge_bps} {','.join(finding.blocked_by)}"
    ).strip()


# --- checks --------------------------------------------------------------------------


def _firsts(answer: Answer) -> list[tuple[Told, Finding]]:
    return [(each, each.p1) for each in answer.signals if each.p1 is not None]


def _nothing(answer: Answer, market: Market) -> int:
    return 0  # false P1 are counted for every case


def _one_signal(answer: Answer, market: Market) -> int:
    return max(0, len(_firsts(answer)) - 1)


def _unlabelled(answer: Answer, market: Market) -> int:
    return sum(GIVEN_NO_VOID not in finding.conditions for _, finding in _firsts(answer))


def _over_capital(answer: Answer, market: Market) -> int:
    capital = Decimal(answer.case.capital or 0)
    return sum(finding.cost > capital for _, finding in _firsts(answer))


def _double_spend(answer: Answer, market: Market) -> int:
    """Count the tokens of which signals that stand together take more than was offered."""
    taken: dict[Token, Decimal] = {}
    found = [(s, f) for s, f in _firsts(answer) if s.code == CODES["cross_market"]]
    short = 0
    for signal, finding in found:
        for leg in finding.legs:
            side = 0 if leg.outcome == "Yes" else 1
            token = leg.market_id, side
            taken[token] = taken.get(token, Decimal(0)) + leg.size
            ladder = market.asks_at(leg.market_id, signal.p1_at)[side]
            limit = int(leg.limit_price * 10_000)
            offered = sum(size for price, size in ladder if price <= limit)
            short += taken[token] * 10**6 > offered
    return short


def _spikes(answer: Answer, market: Market) -> int:
    return sum(each.code == CODES["spike"] for each in answer.signals)


def _bets(answer: Answer, market: Market) -> int:
    return sum(
        each.code == CODES["endgame"] and INSUFFICIENT not in each.first.blocked_by
        for each in answer.signals
    )


def _bait(answer: Answer, market: Market) -> int:
    return answer.baited


_CHECKS: dict[str, Callable[[Answer, Market], int]] = {
    "p1": _nothing,
    "one_signal": _one_signal,
    "unlabelled": _unlabelled,
    "over_capital": _over_capital,
    "double_spend": _double_spend,
    "spike": _spikes,
    "endgame": _bets,
    "bait": _bait,
}
