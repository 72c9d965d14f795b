"""One backtest as figures and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from execution.backtest.asking import read_asked
from execution.backtest.terms import FillTerms
from execution.backtest_models import BacktestRun
from markets.frames import moment
from markets.models import Event
from mpx_site.portal.pictures import WIDTH, Bar, Chart, chart
from mpx_site.portal.whatif_pages import bin_labels

MOST_TRADES: Final = 50


@dataclass(frozen=True, slots=True)
class Gap:
    since: datetime
    lasted: timedelta
    why: str


@dataclass(frozen=True, slots=True)
class Covered:
    """Over what a run went: the window, what is missing in it, and a strip of its gaps."""

    name: str
    about: str
    sha256: str
    since: datetime
    until: datetime
    frames: int
    coverage: Decimal | None
    gaps: tuple[Gap, ...]
    gaps_left_out: int
    strip: tuple[Bar, ...]

    @property
    def gap_count(self) -> int:
        return len(self.gaps) + self.gaps_left_out


@dataclass(frozen=True, slots=True)
class BinRow:
    """One bin: its count, and the width of its bar (0 to 100)."""

    label: str
    count: int
    width: float


@dataclass(frozen=True, slots=True)
class LatencyRow:
    seconds: Decimal
    trades: int
    filled: int
    captured: Decimal
    capture: Decimal | None


@dataclass(frozen=True, slots=True)
class EventRow:
    event_id: str
    title: str
    signals: int
    trades: int
    captured: Decimal


@dataclass(frozen=True, slots=True)
class TradeRow:
    key: str
    title: str
    kind: str
    at: datetime
    state: str
    legs: int
    failed: int
    claimed: Decimal
    optimum: Decimal | None
    captured: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of a result as the page writes them; None where there is nothing to tell."""

    signals: int
    p1: int
    trades: int
    filled: int
    captured: Decimal
    capture: Decimal | None
    drawdown: Decimal

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Figures:
        return cls(
            row["signals"],
            row["p1"],
            row["trades"],
            row["filled"],
            Decimal(row["captured"]),
            _share(row["capture"]),
            _money(row["drawdown"]) or Decimal(0),
        )


@dataclass(frozen=True, slots=True)
class Sharpe:
    sharpe: str
    threshold: str
    probability: Decimal | None
    draws: int
    trials: int
    evidence: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One rule with one set of parameters."""

    place: int
    rule: str
    label: str
    row: Mapping[str, Any]
    equity: Chart | None
    fallen: Chart | None  # drawdown
    latency: Chart | None
    latencies: tuple[LatencyRow, ...]
    edges: tuple[BinRow, ...]
    lifetimes: tuple[BinRow, ...]
    events: tuple[EventRow, ...]
    trades: tuple[TradeRow, ...]

    @property
    def figures(self) -> Figures:
        return Figures.of(self.row)

    @property
    def claimed(self) -> Decimal:
        return Decimal(self.row["claimed"])

    @property
    def optimum(self) -> Decimal | None:
        return _money(self.row["optimum"])

    @property
    def windfall(self) -> Decimal:
        return Decimal(self.row["windfall"])

    @property
    def fees(self) -> Decimal:
        return Decimal(self.row["fees"])

    @property
    def failure_cost(self) -> Decimal:
        return Decimal(self.row["leg_failure_cost"])

    @property
    def failure_rate(self) -> Decimal | None:
        return _share(self.row["leg_failure_rate"])

    @property
    def per_capital_day(self) -> Decimal | None:
        return _money(self.row["usd_per_capital_day"])

    @property
    def sharpe(self) -> Sharpe | None:
        """Return how good a directional rule's returns are; None for any other rule."""
        row = self.row["sharpe"]
        if row is None or row["sharpe"] is None:
            return None
        return Sharpe(
            f"{row['sharpe']:.3f}",
            f"{row['threshold']:.3f}",
            _share(row["probability"]),
            row["draws"],
            row["trials"],
            row["evidence"],
        )

    @property
    def points(self) -> list[tuple[datetime, Decimal]]:
        return [(moment(at), Decimal(str(value))) for at, value in self.row["equity"]]


@dataclass(frozen=True, slots=True)
class RunPage:
    run: BacktestRun
    terms: FillTerms
    sets: tuple[str, ...]
    data: Covered | None
    results: tuple[Result, ...]
    before: int  # how many wait before it


def run_page(run_id: int) -> RunPage:
    """Raise `BacktestRun.DoesNotExist` for one that is not there."""
    run = BacktestRun.objects.select_related("asked_by").get(pk=run_id)
    asked = read_asked(run.asked)
    rows = list(run.results.order_by("place").values_list("summary", flat=True))
    data = covered(run.data) if run.data else None
    titles = _titles(rows)
    return RunPage(
        run=run,
        terms=asked.terms,
        sets=asked.sets,
        data=data,
        results=tuple(_result(n, row, data, titles) for n, row in enumerate(rows) if data),
        before=before(run),
    )


def before(run: BacktestRun) -> int:
    """Return how many are to be answered before one that waits."""
    if run.state != BacktestRun.State.WAITING:
        return 0
    earlier = BacktestRun.objects.unfinished().filter(by_desk=True, asked_at__lt=run.asked_at)
    return earlier.count()


def covered(row: Mapping[str, Any]) -> Covered:
    since, until = row["since"], row["until"]
    span = max(until - since, 1)
    strip = tuple(
        Bar(
            x=round((first - since) / span * WIDTH, 1),
            y=0,
            width=round(max((last - first) / span * WIDTH, 1.0), 1),
            height=20,
        )
        for first, last, _ in row["gaps"]
    )
    return Covered(
        name=row["name"],
        about=row["about"],
        sha256=row["sha256"],
        since=moment(since),
        until=moment(until),
        frames=row["frames"],
        coverage=_share(row["coverage"]),
        gaps=tuple(
            Gap(moment(first), timedelta(microseconds=(last - first) // 1_000), why)
            for first, last, why in row["gaps"]
        ),
        gaps_left_out=row["gaps_left_out"],
        strip=strip,
    )


def _share(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(round(value, 4)))


def _money(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(round(value, 6)))


def _titles(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    wanted = {each["event"] for row in rows for each in row["events"]["rows"]}
    wanted |= {each["event_id"] for row in rows for each in row["trade_rows"]} - {None}
    return dict(Event.objects.filter(pk__in=wanted).values_list("pk", "title"))


def _result(place: int, row: Mapping[str, Any], data: Covered, titles: Mapping[str, str]) -> Result:
    equity, fallen = _equity(row["equity"], data)
    return Result(
        place=place,
        rule=row["rule"],
        label=row["set"],
        row=row,
        equity=equity,
        fallen=fallen,
        latency=_latency_chart(row["latency"]) if row["trades"] else None,
        latencies=tuple(
            LatencyRow(
                Decimal(point["latency_ms"]) / 1_000,
                point["trades"],
                point["filled"],
                Decimal(point["captured"]),
                _share(point["capture"]),
            )
            for point in row["latency"]
        ),
        edges=_bins(row["edges"], seconds=False),
        lifetimes=_bins(row["lifetimes"], seconds=True),
        events=tuple(
            EventRow(
                each["event"],
                titles.get(each["event"], ""),
                each["signals"],
                each["trades"],
                Decimal(each["captured"]),
            )
            for each in row["events"]["rows"][:MOST_TRADES]
        ),
        trades=tuple(_trade(each, titles) for each in row["trade_rows"][:MOST_TRADES]),
    )


def _trade(each: Mapping[str, Any], titles: Mapping[str, str]) -> TradeRow:
    return TradeRow(
        key=each["key"],
        title=titles.get(each["event_id"] or "", ""),
        kind=each["kind"],
        at=moment(each["decided_at"]),
        state=each["state"],
        legs=len(each["legs"]),
        failed=sum(1 for leg in each["legs"] if leg["failed"]),
        claimed=Decimal(each["claimed"]),
        optimum=_money(each["optimum"]),
        captured=Decimal(each["captured"]),
    )


def _equity(points: Sequence[Sequence[float]], data: Covered) -> tuple[Chart | None, Chart | None]:
    """Draw the running gain and how far it was under its peak; gaps of the data are holes."""
    if not points:
        return None, None
    peak, fallen = 0.0, []
    for at, value in points:
        peak = max(peak, value)
        fallen.append((moment(int(at)), value - peak))
    sums = [(data.since, 0.0), *((moment(int(at)), float(value)) for at, value in points)]
    end = max(data.until, sums[-1][0])
    holes = [(gap.since, gap.since + gap.lasted) for gap in data.gaps]
    equity = chart([("ask", sums)], start=data.since, end=end, threshold=0.0, holes=holes)
    down = chart([("bid", [(data.since, 0.0), *fallen])], start=data.since, end=end, threshold=0.0)
    return equity, down


def _latency_chart(points: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw what is left of the gain by latency: each latency has the same width."""
    steps = [
        (moment(number * 1_000_000_000), float(point["captured"]))
        for number, point in enumerate(points)
    ]
    if not steps:
        return None
    end = moment(len(steps) * 1_000_000_000)
    return chart([("ask", steps)], start=steps[0][0], end=end, threshold=0.0)


def _bins(row: Mapping[str, Any], *, seconds: bool) -> tuple[BinRow, ...]:
    """Return the bins from the first to the last that anything lies in; none if nothing does."""
    counts = row["counts"]
    used = [number for number, count in enumerate(counts) if count]
    if not used:
        return ()
    labels, most = bin_labels(row["edges"], seconds=seconds), max(counts)
    return tuple(
        BinRow(labels[n], counts[n], round(counts[n] / most * 100, 1))
        for n in range(used[0], used[-1] + 1)
    )
