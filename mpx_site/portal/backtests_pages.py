"""What the pages of backtests show: runs, what can be asked, and runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from execution.backtest import writing
from execution.backtest.terms import FillTerms
from execution.backtest_models import BacktestResult, BacktestRun
from mpx_site.portal.backtests_run import Covered, Figures, covered
from mpx_site.portal.whatif_pages import Hours, RecordingChoice, kept_hours, recording_choices
from rules.models import Rule

MOST_RUNS: Final = 50
MOST_COMPARED: Final = 4
DEFAULTS: Final = FillTerms()


# --- the list and what can be asked ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """What the form says."""

    rules: tuple[str, ...] = ()
    data: str = ""
    sets: str = ""
    latency_ms: str = str(DEFAULTS.latency_ms)
    haircut: str = str(DEFAULTS.depth_share)
    capital: str = str(DEFAULTS.capital_usd)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the list: its row, how many results it has, and the one that captured most."""

    run: BacktestRun
    results: int
    best: BacktestResult | None


@dataclass(frozen=True, slots=True)
class ListPage:
    rows: tuple[RunRow, ...]
    rules: Sequence[Rule]
    hours: tuple[Hours, ...]
    recordings: tuple[RecordingChoice, ...]
    sent: Sent
    refusal: str = ""

    @property
    def anything(self) -> bool:
        """Say whether there is anything to run over."""
        return bool(self.recordings) or any(each.kept for each in self.hours)


def list_page(*, at: datetime, sent: Sent | None = None, refusal: str = "") -> ListPage:
    """`sent` is what was sent before; else all rules over the newest data are chosen."""
    hours = kept_hours(at)
    recordings = tuple(recording_choices())
    rules = list(Rule.objects.enabled().select_related("current").order_by("code"))
    first = next((str(each.hours) for each in hours if each.kept), "")
    fallback = f"recording:{recordings[0].name}" if recordings else ""
    codes = tuple(rule.code for rule in rules)
    return ListPage(
        rows=tuple(_rows()),
        rules=rules,
        hours=hours,
        recordings=recordings,
        sent=sent or Sent(rules=codes, data=first or fallback),
        refusal=refusal,
    )


def _rows() -> Iterator[RunRow]:
    newest = list(BacktestRun.objects.newest().defer("asked", "notes")[:MOST_RUNS])
    found: dict[int, list[BacktestResult]] = {}
    for result in BacktestResult.objects.filter(run__in=newest).defer("summary"):
        found.setdefault(result.run_id, []).append(result)
    for run in newest:
        results = found.get(run.pk, [])
        traded = [each for each in results if each.trades]
        best = max(traded, key=lambda each: (each.captured, -each.place), default=None)
        yield RunRow(run, len(results), best)


# --- runs beside each other -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedRow:
    rule: str
    label: str
    cells: tuple[Figures | None, ...]  # in the order of the runs


@dataclass(frozen=True, slots=True)
class ComparePage:
    runs: tuple[tuple[BacktestRun, Covered], ...]
    rows: tuple[ComparedRow, ...]
    choices: Sequence[BacktestRun]

    @property
    def alike(self) -> bool:
        """Say whether all ran over the same data in the same window."""
        return len({(data.sha256, data.since, data.until) for _, data in self.runs}) <= 1


def compare_page(ids: Sequence[int]) -> ComparePage:
    """Return finished runs beside each other; others are left out."""
    done = BacktestRun.objects.newest().filter(state=BacktestRun.State.DONE)
    found = {run.pk: run for run in done.filter(pk__in=ids[:MOST_COMPARED])}
    shown = [found[run_id] for run_id in dict.fromkeys(ids) if run_id in found]
    results = [
        (run.pk, list(run.results.order_by("place").values_list("summary", flat=True)))
        for run in shown
    ]
    rows = tuple(
        ComparedRow(
            row["rule"],
            row["set"],
            tuple(
                Figures.of(cell) if (cell := row["runs"][str(run.pk)]) else None for run in shown
            ),
        )
        for row in writing.compared(results)
    )
    pairs = tuple((run, covered(run.data)) for run in shown if run.data)
    return ComparePage(pairs, rows, list(done.defer("asked", "notes", "data")[:MOST_RUNS]))
