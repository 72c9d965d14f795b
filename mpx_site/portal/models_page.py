"""What the page of models shows: which one counts, what it showed, and how it does now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from alerts.models import AuditEntry
from markets.frames import moment, unix_ns
from mpx_site.portal import models_pictures
from rules import ml_registry
from rules.ml import metrics
from rules.ml.features import FEATURES, FEATURES_SHA
from rules.ml.gates import LEAST_OF_EACH, Gate, gates
from rules.ml.metrics import Score
from rules.ml.model_file import BadModel
from rules.ml.report import CHANCE, Report, drift
from rules.ml_models import MlModel
from signals.outcome_models import Outcome
from signals.outcomes import NEW_OUTCOMES, vector_of

LIVE_DAYS: Final = 7
MOST_LIVE: Final = 2_000  # outcomes that are looked at for one page
LEAST_LIVE: Final = 100  # before a comparison says anything
DRIFTED: Final = 0.25  # PSI
MOST_HISTORY: Final = 10
COMMAND: Final = "python manage.py train_model"


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """A feature: its share of the gain in percent, and its drift; None while too few to tell."""

    name: str
    about: str
    gain: float
    psi: float | None
    drifted: bool


@dataclass(frozen=True, slots=True)
class LiveRow:
    """How a model in use has done on signals whose outcome is known; None: too few yet."""

    model: MlModel
    count: int
    score: Score | None


@dataclass(frozen=True, slots=True)
class Known:
    """What became of signals in the last days."""

    filled: int
    missed: int
    dropped: int

    @property
    def total(self) -> int:
        return self.filled + self.missed

    @property
    def share(self) -> float:
        """Return the base rate in percent."""
        return 100 * self.filled / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One model with its report drawn; `off` is why it cannot serve, empty if it can."""

    model: MlModel
    report: Report
    gates: tuple[Gate, ...]
    since: datetime
    until: datetime
    off: str
    calibration: models_pictures.Calibration
    curve: models_pictures.Curve | None
    features: tuple[FeatureRow, ...]
    chance_psi: float | None
    drift_from: int  # outcomes that the drift was told from
    history: Sequence[AuditEntry]

    @property
    def gap(self) -> float | None:
        """Return how much better a random split makes it look."""
        both = self.report.shuffled_auc, self.report.purged_auc
        return None if both[0] is None or both[1] is None else both[0] - both[1]


@dataclass(frozen=True, slots=True)
class ModelsPage:
    """`unreadable`: the chosen model's report is of another release."""

    models: Sequence[MlModel]
    active: MlModel | None
    shown: Shown | None
    unreadable: MlModel | None
    known: Known
    live: tuple[LiveRow, ...]
    needed: int = LEAST_OF_EACH
    new_needed: int = NEW_OUTCOMES
    days: int = LIVE_DAYS
    command: str = COMMAND


def models_page(*, number: str, at: datetime) -> ModelsPage:
    """Show the model of a number; without one the active model, or else the newest."""
    models = list(MlModel.objects.newest()[:20])
    active = next((each for each in models if each.state == MlModel.State.ACTIVE), None)
    active = active or MlModel.objects.active().first()
    chosen = _chosen(models, active, number)
    recent = _recent(at)
    shown = _shown(chosen, recent) if chosen is not None else None
    return ModelsPage(
        models=models,
        active=active,
        shown=shown,
        unreadable=chosen if shown is None else None,
        known=_known(at),
        live=tuple(_live(each, recent) for each in models if each.state != MlModel.State.RETIRED),
    )


def _chosen(models: Sequence[MlModel], active: MlModel | None, number: str) -> MlModel | None:
    if number.isascii() and number.isdecimal() and len(number) < 10:
        found = MlModel.objects.filter(pk=int(number)).first()
        if found is not None:
            return found
    return active or (models[0] if models else None)


def _recent(at: datetime) -> Sequence[Outcome]:
    """Return the newest outcomes of the present features, known or not."""
    since = unix_ns(at - timedelta(days=LIVE_DAYS))
    return list(
        Outcome.objects.of_features(FEATURES_SHA).filter(at__gte=since).newest()[:MOST_LIVE]
    )


def _known(at: datetime) -> Known:
    since = unix_ns(at - timedelta(days=LIVE_DAYS))
    states = Outcome.objects.filter(at__gte=since).values_list("state", flat=True).order_by()
    counts = {state: states.filter(state=state).count() for state in ("FILLED", "MISSED")}
    dropped = states.filter(state="DROPPED").count()
    return Known(counts["FILLED"], counts["MISSED"], dropped)


def _live(model: MlModel, recent: Sequence[Outcome]) -> LiveRow:
    name = model.sha256[:16]
    told = [
        (row.chances[name], row.state == Outcome.State.FILLED)
        for row in recent
        if name in row.chances and row.state in (Outcome.State.FILLED, Outcome.State.MISSED)
    ]
    if len(told) < LEAST_LIVE:
        return LiveRow(model, len(told), None)
    chances, filled = zip(*told, strict=True)
    return LiveRow(model, len(told), metrics.score(chances, filled))


def _shown(model: MlModel, recent: Sequence[Outcome]) -> Shown | None:
    try:
        report = model.typed_report
    except msgspec.ValidationError:
        return None
    moved = _drift(model, report, recent)
    subject = f"model:{model.pk}"
    return Shown(
        model=model,
        report=report,
        gates=gates(report),
        since=moment(report.window.since),
        until=moment(report.window.until),
        off=_off(model),
        calibration=models_pictures.calibration(report.purged.bins),
        curve=models_pictures.curve(report.curve, base=report.purged.base_rate),
        features=tuple(_feature_rows(report, moved)),
        chance_psi=moved.get(CHANCE),
        drift_from=len(recent),
        history=list(AuditEntry.objects.filter(subject=subject).order_by("-id")[:MOST_HISTORY]),
    )


def _off(model: MlModel) -> str:
    """Say why the model could not serve now; its file is only looked for, not loaded."""
    if model.features_sha256 != FEATURES_SHA:
        return "it was trained on other features than this release computes"
    try:
        ml_registry.look(model)
    except BadModel as error:
        return str(error)
    return ""


def _drift(model: MlModel, report: Report, recent: Sequence[Outcome]) -> dict[str, float]:
    if len(recent) < LEAST_LIVE or model.features_sha256 != FEATURES_SHA:
        return {}
    name = model.sha256[:16]
    chances = [row.chances[name] for row in recent if name in row.chances]
    enough = chances if len(chances) >= LEAST_LIVE else []
    return drift(report, [vector_of(row) for row in recent], enough)


def _feature_rows(report: Report, moved: dict[str, float]) -> Sequence[FeatureRow]:
    rows = [
        FeatureRow(
            name=feature.name,
            about=feature.about,
            gain=100 * report.importance.get(feature.name, 0.0),
            psi=moved.get(feature.name),
            drifted=moved.get(feature.name, 0.0) > DRIFTED,
        )
        for feature in FEATURES
    ]
    return sorted(rows, key=lambda row: -row.gain)
