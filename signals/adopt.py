"""Open signals become episodes again, so that whoever goes on watching goes on with them.

A process that did not open a signal knows it from the database alone: what was
last seen stands in its payload, as `Finding.explained` wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import structlog

from markets.frames import unix_ns
from rules.engine import ActiveRule
from rules.kernel.finding import Certificate, Finding, Leg, ProofStep
from signals.episodes import Episode
from signals.models import Signal

log = structlog.stdlib.get_logger(__name__)


class Unreadable(ValueError):
    """A payload is not what this release writes; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Episodes to go on with, and the signals (by primary key) that nobody can go on with."""

    episodes: tuple[Episode, ...]
    orphans: tuple[int, ...]


def adopt(signals: Iterable[Signal], rules: Iterable[ActiveRule]) -> Adopted:
    """Turn open signals into episodes of the rules that run now.

    Orphans are those whose rule runs no more, or in another version, and those
    whose payload cannot be read. Signals come with their rule, version and event.
    """
    running = {(rule.code, rule.sha256): rule for rule in rules}
    episodes: list[Episode] = []
    orphans: list[int] = []
    for signal in signals:
        rule = running.get((signal.rule.code, signal.rule_version.sha256))
        try:
            if rule is not None:
                episodes.append(episode_of(signal, rule))
                continue
        except Unreadable as error:
            log.error("signal.unreadable", key=signal.key, error=str(error))
        orphans.append(signal.pk)
    return Adopted(tuple(episodes), tuple(orphans))


def episode_of(signal: Signal, rule: ActiveRule) -> Episode:
    """Return the episode that a signal is the record of. Raises `Unreadable`."""
    finding = finding_of(signal.payload)
    changed_at = unix_ns(signal.changed_at)
    return Episode(
        key=signal.key,
        rule=rule,
        subject=subject_of(signal),
        finding=finding,
        level=signal.level,
        opened_at=unix_ns(signal.opened_at),
        seen_at=changed_at,
        told_at=changed_at,
        told=(signal.level, finding.profit, finding.edge_bps),
        peak_edge_bps=signal.peak_edge_bps,
        peak_profit=signal.peak_profit,
        observations=signal.observations,
        standing_since=changed_at,
        deserved=rule.definition.outputs.level_of(finding),
    )


def subject_of(signal: Signal) -> str:
    """Return what the engine watches for it: its event, or a market of a plain event alone."""
    alone = signal.event is None or not signal.event.neg_risk
    return str(signal.market_ids[0]) if alone and signal.market_ids else signal.event_id or ""


def finding_of(payload: Mapping[str, Any]) -> Finding:
    """Read back what `Finding.explained` wrote. Raises `Unreadable`.

    How strong it was (`Finding.strength`) is not written, so it comes back as 0.
    """
    try:
        return _finding(payload)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None


def _finding(payload: Mapping[str, Any]) -> Finding:
    yearly, epochs = payload["annualised_pct"], [leg.get("epoch") for leg in payload["legs"]]
    return Finding(
        kind=payload["kind"],
        event_id=payload["event_id"],
        market_ids=tuple(payload["market_ids"]),
        legs=tuple(map(_leg, payload["legs"])),
        cost=Decimal(payload["cost"]),
        fees=Decimal(payload["fees"]),
        min_payoff=Decimal(payload["min_payoff"]),
        profit=Decimal(payload["profit"]),
        edge_bps=Decimal(str(payload["edge_bps"])),
        annualised_pct=None if yearly is None else Decimal(str(yearly)),
        instant=payload["instant"],
        verdict=payload["verdict"],
        blocked_by=tuple(payload["blocked_by"]),
        conditions=tuple(payload["conditions"]),
        certificate=_certificate(payload["certificate"]),
        epochs=() if None in epochs else tuple(epochs),
        facts=tuple(payload.get("facts", {}).items()),
    )


def _leg(row: Mapping[str, Any]) -> Leg:
    return Leg(
        token_id=row["token_id"],
        market_id=row["market_id"],
        outcome=row["outcome"],
        size=Decimal(row["size"]),
        avg_price=Decimal(row["avg_price"]),
        limit_price=Decimal(row["limit_price"]),
        fee=Decimal(row["fee"]),
        cost=Decimal(row["cost"]),
        takes=tuple(
            (Decimal(price), Decimal(size), Decimal(fee)) for price, size, fee in row["takes"]
        ),
    )


def _certificate(row: Mapping[str, Any]) -> Certificate:
    return Certificate(
        worst_state=row["worst_state"],
        payoff=Decimal(row["payoff"]),
        states=row["states"],
        table=tuple((state, Decimal(payoff)) for state, payoff in row.get("table", ())),
        proof=tuple(map(_step, row.get("proof", ()))),
    )


def _step(row: Mapping[str, Any]) -> ProofStep:
    outcomes = tuple((market_id, outcome) for market_id, outcome in row["outcomes"])
    return ProofStep(row["claim"], outcomes, Decimal(row["shares"]))
