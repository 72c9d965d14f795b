"""Models come, are activated, retired and rolled back: each step once, and audited."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from alerts import journal
from rules.load import SYSTEM
from rules.ml import model_file
from rules.ml.features import FEATURES_SHA
from rules.ml.model_file import BadModel, Served
from rules.ml_models import MlModel

if TYPE_CHECKING:
    from rules.ml.report import Report
    from rules.ml.training import Learnt
    from rules.ml.trees import Trees

ACTIVATE: Final = "rules.activate_mlmodel"
MOST_SHADOWS: Final = 2  # that are asked; older ones retire


class NotAllowed(Exception):
    """A step that a model may not take now; the text says why and what to do."""


def path_of(model: MlModel, folder: Path | None = None) -> Path:
    return (folder or settings.MPX_MODELS) / f"{model.sha256}.txt"


def register(
    trees: Trees, learnt: Learnt, report: Report, *, at: datetime, by: str = SYSTEM
) -> MlModel:
    """Keep a trained model as a shadow; the same one again is the one that is there."""
    from rules.ml.gates import passed, why_not  # LightGBM is large, and the stream registers none

    body = model_file.written(trees, learnt)
    sha = model_file.sha256(body)
    _write(settings.MPX_MODELS, f"{sha}.txt", body)
    with transaction.atomic():
        model, created = MlModel.objects.get_or_create(
            sha256=sha,
            defaults={
                "features_sha256": FEATURES_SHA,
                "passed": passed(report),
                "why_not": why_not(report),
                "report": msgspec.to_builtins(report),
                "trained_at": at,
                "trained_by": by,
            },
        )
        if created:
            _note(model, "trained", at=at, actor=by)
            _retire_old_shadows(at=at)
    return model


def load(model: MlModel) -> Served:
    """Read a model's file; raise `BadModel` for one that is missing, changed or does not fit."""
    return model_file.read(_body(model), sha=model.sha256)


def look(model: MlModel) -> None:
    """Raise `BadModel` if a model's file is missing or was changed; do not load it."""
    model_file.hold(_body(model), sha=model.sha256)


def _body(model: MlModel) -> bytes:
    try:
        with path_of(model).open("rb") as file:
            return file.read(model_file.MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadModel("its file is missing") from None
    except OSError as error:
        raise BadModel(f"its file cannot be read ({error.strerror})") from None


def activate(model: MlModel, *, by: User | None, at: datetime, kind: str = "activated") -> None:
    """Let a model's word count; the one that was active retires.

    Raises `NotAllowed` for one that did not pass its gates, is active already or cannot be
    read now.
    """
    if not model.passed:
        raise NotAllowed(f"{model} did not pass its gates: {model.why_not}. Train another one.")
    try:
        load(model)
    except BadModel as error:
        raise NotAllowed(f"{model} cannot serve: {error}. Train another one.") from error
    with transaction.atomic():
        active = list(MlModel.objects.select_for_update().active())
        if any(each.pk == model.pk for each in active):
            raise NotAllowed(f"{model} is active already.")
        for each in active:
            _move(each, MlModel.State.RETIRED, retired_at=at)
        _move(model, MlModel.State.ACTIVE, activated_at=at, retired_at=None)
        told = {"replaced": [each.pk for each in active]}
        _note(model, kind, at=at, actor=_name(by), told=told)


def roll_back(*, by: User | None, at: datetime) -> MlModel:
    """Make the model active again that was so before; raise `NotAllowed` if there is none."""
    before = MlModel.objects.before_active().first()
    if before is None:
        raise NotAllowed("No model was active before this one. Retire it to do without any.")
    activate(before, by=by, at=at, kind="rolled_back")
    return before


def retire(model: MlModel, *, by: User | None, at: datetime) -> None:
    """Take a model out of use; raise `NotAllowed` if it is out already."""
    with transaction.atomic():
        held = MlModel.objects.select_for_update().get(pk=model.pk)
        if held.state == MlModel.State.RETIRED:
            raise NotAllowed(f"{model} is retired already.")
        _move(model, MlModel.State.RETIRED, retired_at=at)
        _note(model, "retired", at=at, actor=_name(by))


def set_suppression(
    model: MlModel, below: Decimal | None, *, by: User | None, at: datetime
) -> None:
    """Set from what chance on a P1 is alerted while the model is active; None: always."""
    with transaction.atomic():
        held = MlModel.objects.select_for_update().get(pk=model.pk)
        if held.suppress_below == below:
            return
        MlModel.objects.filter(pk=model.pk).update(suppress_below=below)
        model.suppress_below = below
        told = {"below": _text(below), "before": _text(held.suppress_below)}
        _note(model, "suppression_set", at=at, actor=_name(by), told=told)


def in_use() -> Sequence[MlModel]:
    """Return the active model and the newest shadows, without their reports."""
    found = MlModel.objects.defer("report")
    return [*found.active(), *found.shadows().newest()[:MOST_SHADOWS]]


def _move(model: MlModel, state: MlModel.State, **fields: datetime | None) -> None:
    moved = MlModel.objects.filter(pk=model.pk).exclude(state=state)
    if not moved.update(state=state, **fields):
        raise NotAllowed(f"{model} is {state.label} already.")
    model.state = state
    for name, value in fields.items():
        setattr(model, name, value)


def _retire_old_shadows(*, at: datetime) -> None:
    for model in MlModel.objects.shadows().newest()[MOST_SHADOWS:]:
        _move(model, MlModel.State.RETIRED, retired_at=at)
        _note(model, "retired", at=at, actor=SYSTEM, told={"why": "newer shadows"})


def _note(
    model: MlModel, kind: str, *, at: datetime, actor: str, told: Mapping[str, object] | None = None
) -> None:
    data = {"sha256": model.sha256, "passed": model.passed, **(told or {})}
    journal.record(kind=f"model.{kind}", subject=f"model:{model.pk}", data=data, at=at, actor=actor)


def _name(by: User | None) -> str:
    return by.get_username() if by else SYSTEM


def _text(value: Decimal | None) -> str:
    return "" if value is None else str(value)


def _write(folder: Path, name: str, body: bytes) -> None:
    """Put a file in place whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
