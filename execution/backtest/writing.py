"""Results for people and for other tools: tables, CSV, JSON, Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from execution.backtest.tally import Hit
from markets.frames import moment

COLUMNS: Final = (
    "opened_at",
    "closed_at",
    "rule",
    "set",
    "level",
    "kind",
    "event_id",
    "market_ids",
    "peak_edge_bps",
    "peak_profit",
    "strength",
    "lived_s",
    "observations",
    "why",
    "key",
    "state",
    "paid",
    "captured",
)
# What a spreadsheet would run as a formula.
_FORMULA: Final = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\0",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)


class NoParquet(Exception):
    """What writes Parquet is not installed here."""


def hit_rows(
    hits: Iterable[Hit],
    *,
    names: Mapping[str, tuple[str, str]],
    trades: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield each episode with what its orders came to.

    `names` gives rule and set by the engine's code, `trades` rows by signal key.
    """
    for hit in hits:
        code, label = names.get(hit["rule"], (hit["rule"], ""))
        trade = trades.get(hit["key"], {})
        yield {
            **hit,
            "opened_at": moment(hit["opened_at"]).isoformat(),
            "closed_at": moment(hit["closed_at"]).isoformat(),
            "rule": code,
            "set": label,
            "market_ids": " ".join(hit["market_ids"]),
            "lived_s": f"{(hit['closed_at'] - hit['opened_at']) / 1e9:.3f}",
            "state": trade.get("state", ""),
            "paid": trade.get("paid", ""),
            "captured": trade.get("captured", ""),
        }


def write_csv(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write episodes; return how many."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        writer.writerow(cells(row))
        count += 1
    return count


def cells(row: Mapping[str, Any]) -> list[object]:
    """Return an episode as the cells of its line."""
    return [_safe(row.get(name, "")) for name in COLUMNS]


def _safe(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    text = str(value)
    if not text.startswith(_FORMULA):
        return value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return value


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write episodes as text columns; raise `NoParquet`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NoParquet("pyarrow is not installed") from None
    columns = {name: [str(row.get(name, "")) for row in rows] for name in COLUMNS}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


# --- for people -----------------------------------------------------------------------------


def table(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each rule and set."""
    yield (
        f"{'rule':<24}{'signals':>8}{'P1':>6}{'trades':>7}{'filled':>7}{'part':>6}{'missed':>7}"
        f"{'captured USD':>14}{'of LP':>8}{'drawdown':>10}  set"
    )
    for row in results:
        capture = "-" if row["capture"] is None else f"{row['capture']:.1%}"
        yield (
            f"{row['rule']:<24}{row['signals']:>8}{row['p1']:>6}{row['trades']:>7}"
            f"{row['filled']:>7}{row['partial']:>6}{row['missed']:>7}"
            f"{float(row['captured']):>14.2f}{capture:>8}{row['drawdown']:>10.2f}  {row['set']}"
        )


def latency_lines(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what each latency left of the gain, for what traded at all."""
    for row in results:
        if row["trades"]:
            points = (
                f"{point['latency_ms'] / 1000:g} s {float(point['captured']):.2f}"
                for point in row["latency"]
            )
            yield f"{row['rule']} {row['set']}".strip() + ": by latency " + ", ".join(points)
        if row["sharpe"] is not None and row["sharpe"]["sharpe"] is not None:
            yield _sharpe_line(row)


def _sharpe_line(row: Mapping[str, Any]) -> str:
    sharpe = row["sharpe"]
    chance = "too few draws" if sharpe["probability"] is None else f"{sharpe['probability']:.3f}"
    return (
        f"{row['rule']} {row['set']}".strip() + f": Sharpe {sharpe['sharpe']:.3f} a trade, "
        f"deflated {chance} ({sharpe['draws']} events, {sharpe['trials']} tries)"
    )


def data_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was read, and what is missing in it."""
    covered = "-" if data["coverage"] is None else f"{data['coverage']:.1%}"
    yield (
        f"{data['name']}: {moment(data['since']):%Y-%m-%d %H:%M:%S} to "
        f"{moment(data['until']):%Y-%m-%d %H:%M:%S} UTC, {data['frames']} frames, "
        f"{data['about']}"
    )
    gaps = len(data["gaps"]) + data["gaps_left_out"]
    yield f"covered {covered}, {gaps} gaps, sha256 {data['sha256'][:16]}"
    for since, until, why in data["gaps"][:5]:
        yield f"  gap {moment(since):%Y-%m-%d %H:%M:%S} for {(until - since) / 1e9:.0f} s: {why}"


def compared(runs: Sequence[tuple[int, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return the figures of runs beside each other, a row for each rule and set."""
    names = ("signals", "p1", "trades", "filled", "captured", "capture", "drawdown")
    places: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for run_id, results in runs:
        for row in results:
            places.setdefault((row["rule"], row["set"]), {})[run_id] = row
    return [
        {
            "rule": rule,
            "set": label,
            "runs": {
                str(run_id): {name: by_run[run_id][name] for name in names}
                if run_id in by_run
                else None
                for run_id, _ in runs
            },
        }
        for (rule, label), by_run in places.items()
    ]
