"""What `backtest` may be told on the command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from execution.backtest.groups import GROUPS
from execution.backtest.terms import FillTerms
from markets.frames import unix_ns


def instant(text: str) -> int:
    """Read an ISO time, UTC where it says no zone, as unix ns."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text}: write it as 2026-07-01T00:00:00Z") from None
    return unix_ns(at if at.tzinfo else at.replace(tzinfo=UTC))


def speed(text: str) -> float | None:
    """Read `--speed`: a number above zero, or None for `max`."""
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError("must be a number above 0, or max")
    return value


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text} is no number") from None
    if not value.is_finite() or value < 0:
        raise ArgumentTypeError("must be 0 or more")
    return value


def share(text: str) -> Decimal:
    value = amount(text)
    if not 0 < value <= 1:
        raise ArgumentTypeError("must be above 0 and at most 1")
    return value


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) > 10**9:
        raise ArgumentTypeError(f"{text} is no whole number of 0 or more")
    return int(text)


def some(text: str) -> int:
    if whole(text) == 0:
        raise ArgumentTypeError("must be 1 or more")
    return int(text)


def wholes(text: str) -> tuple[int, ...]:
    return tuple(map(whole, text.split(",")))


def add_data(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("data (default: what the desk has kept)")
    group.add_argument(
        "--from-recording",
        "--from",
        dest="source",
        metavar="PATH",
        help="a recording, a folder of kept spans, or a columnar store",
    )
    group.add_argument(
        "--rule-file", action="append", type=Path, metavar="FILE", help="a rule of your own"
    )
    group.add_argument(
        "--shipped", action="store_true", help="the rules as shipped, not as published here"
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        dest="sets",
        metavar="[CODE:]FIELD=A,B",
        help="try values of a field, as dedupe.persist_ms=250,500; repeatable",
    )


def add_fills(parser: ArgumentParser) -> None:
    known = FillTerms()
    group = parser.add_argument_group("orders")
    options: tuple[tuple[str, Any, Any, str], ...] = (
        ("--latency-ms", whole, known.latency_ms, "from decision to venue"),
        ("--leg-gap-ms", whole, known.leg_gap_ms, "between two legs"),
        ("--quiet-ms", whole, known.quiet_ms, "silence after which a book counts as it is"),
        ("--haircut", share, known.depth_share, "part of displayed sizes that can be had"),
        ("--unwind-ms", whole, known.unwind_ms, "until loose legs are sold"),
        ("--patience-ms", whole, known.patience_ms, "that an order waits for a book"),
        ("--capital", amount, known.capital_usd, "USD an order at most"),
        ("--slippage-bps", whole, known.slippage_bps, "above the touch at most"),
        ("--stake", amount, known.stake_usd, "USD of a directional trade"),
        ("--hold-s", whole, known.hold_s, "seconds that a directional trade is held"),
        ("--most-open", whole, known.most_open, "orders at a time; 0: any"),
        ("--day-usd", amount, known.day_usd, "USD a UTC day; 0: any"),
        ("--seed", whole, known.seed, "of drawn latencies"),
    )
    for name, kind, default, text in options:
        group.add_argument(name, type=kind, default=default, help=f"{text} ({default})")
    group.add_argument(
        "--latencies",
        type=wholes,
        default=(),
        metavar="MS,MS",
        help="draw each signal's latency from these",
    )
    group.add_argument(
        "--curve",
        type=wholes,
        default=known.curve_ms,
        metavar="MS,MS",
        help="latencies to compare (0,200,500,1000,2000,5000)",
    )


def add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--jobs", type=some, default=1, help="processes (1)")
    group.add_argument("--parts", type=some, help="passes that are kept one by one (= jobs)")
    group.add_argument("--groups", type=some, default=GROUPS, help=f"of events ({GROUPS})")
    group.add_argument("--resume", type=int, metavar="ID", help="go on with a run that ended")
    group.add_argument(
        "--store", action=BooleanOptionalAction, default=True, help="keep it in the database"
    )
    group.add_argument("--dry-run", action="store_true", help="say what would run, and end")
    group.add_argument("--check", action="store_true", help="the seven lookahead checks")
    group.add_argument("--json", action="store_true")
    group.add_argument("--parquet-out", type=Path, metavar="FILE", help="episodes as Parquet")
    group.add_argument(
        "--fail-under",
        action="append",
        default=[],
        metavar="WHAT=N",
        help="exit 1 if less: hits, p1, trades, captured",
    )


def terms_of(options: Mapping[str, Any]) -> FillTerms:
    return FillTerms(
        latency_ms=options["latency_ms"],
        leg_gap_ms=options["leg_gap_ms"],
        quiet_ms=options["quiet_ms"],
        depth_share=options["haircut"],
        unwind_ms=options["unwind_ms"],
        patience_ms=options["patience_ms"],
        capital_usd=options["capital"],
        slippage_bps=options["slippage_bps"],
        stake_usd=options["stake"],
        hold_s=options["hold_s"],
        latencies_ms=options["latencies"],
        seed=options["seed"],
        curve_ms=options["curve"],
        most_open=options["most_open"],
        day_usd=options["day_usd"],
    )
