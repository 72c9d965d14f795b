"""What a model says of what is told: a chance to fill, and the dollars to expect.

Asked beside the live path, by the thread that stores signals. Whatever is wrong with a
model, signals go on as the rules found them, and say why there is no chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError

from rules import ml_registry
from rules.ml.model_file import BadModel, Chance, Served
from rules.ml_models import MlModel
from signals.samples import Told

log = structlog.stdlib.get_logger(__name__)

RELOAD_SECONDS: Final = 5.0
BUDGET_SECONDS: Final = 0.25  # for one batch: 50 us a row, and batches are small
REST_SECONDS: Final = 60.0  # after which a model that was slow is asked again
OFF: Final = "ML off: "
NO_MODEL: Final = f"{OFF}no model is active"
NOT_MEASURED: Final = f"{OFF}nothing was measured of this signal"
CHANCE_PLACES, USD_PLACES = Decimal("0.0001"), Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one finding. Without a chance `note` is why.

    `unlikely`: the desk wants no alert of it. `chances` is what every model in use said.
    """

    p_fill: Decimal | None = None
    expected_usd: Decimal | None = None
    note: str = NO_MODEL
    unlikely: bool = False
    chances: Mapping[str, float] = field(default_factory=dict)


NOTHING_SAID: Final = Said()


class _InUse:
    """A model of the registry and what became of reading it."""

    def __init__(self, row: MlModel) -> None:
        self.row = row
        self.why_off = ""
        self.rests_until = 0.0
        self._served: Served | None = None
        try:
            self._served = ml_registry.load(row)
        except BadModel as error:
            self.why_off = str(error)
            log.warning("model.off", model=row.pk, why=self.why_off)

    @property
    def name(self) -> str:
        return self.row.sha256[:16]

    def chances(
        self, told: Sequence[Told], *, now: float, clock: Callable[[], float], budget: float
    ) -> list[float] | None:
        """Return a chance for each; None while it is off, `why_off` says why."""
        if self._served is None or now < self.rests_until:
            return None
        begun = clock()
        try:
            found = self._served.chances([each.vector for each in told])
        except BadModel as error:
            self._off(str(error), now)
            return None
        except Exception:  # whatever it is: signals must go on without it
            log.exception("model.failed", model=self.row.pk)
            self._off("it failed", now)
            return None
        took = clock() - begun
        if took > budget:
            self._off(f"it took {took * 1000:.0f} ms for {len(told)} signals", now)
            return None
        self.why_off = ""
        return found

    def _off(self, why: str, now: float) -> None:
        self.why_off, self.rests_until = why, now + REST_SECONDS
        log.warning("model.off", model=self.row.pk, why=why)

    def expected(self, each: Told, chance: float) -> Chance:
        if self._served is None:
            raise AssertionError("a model that is off said something")
        profit, cost = float(each.profit), float(each.cost)
        return self._served.expected(chance, rule=each.rule, profit=profit, cost=cost)


class Scoring:
    """The models in use, read again when the registry changed. Used by one thread."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, budget: float = BUDGET_SECONDS
    ) -> None:
        self._clock = clock
        self._budget = budget
        self._due = 0.0
        self._mark: object = None
        self._in_use: list[_InUse] = []

    def of(self, told: Sequence[Told]) -> dict[str, Said]:
        """Return what is said of each signal, by its key; of one told twice the later."""
        if not told:
            return {}
        self._refresh()
        now = self._clock()
        found = {
            each.name: chances
            for each in self._in_use
            if (chances := each.chances(told, now=now, clock=self._clock, budget=self._budget))
            is not None
        }
        return {
            each.key: self._said(each, {name: chances[at] for name, chances in found.items()})
            for at, each in enumerate(told)
        }

    def _said(self, each: Told, chances: Mapping[str, float]) -> Said:
        active = next((m for m in self._in_use if m.row.state == MlModel.State.ACTIVE), None)
        if active is None:
            return Said(chances=chances)
        if active.name not in chances:
            return Said(note=f"{OFF}{active.why_off}"[:200], chances=chances)
        chance = active.expected(each, chances[active.name])
        below = active.row.suppress_below
        return Said(
            p_fill=Decimal(chance.p_fill).quantize(CHANCE_PLACES),
            expected_usd=min(Decimal(chance.expected_usd).quantize(USD_PLACES), each.profit),
            note="",
            unlikely=below is not None and chance.p_fill < float(below),
            chances=chances,
        )

    def _refresh(self) -> None:
        """Look at the registry now and then; what cannot be read just now changes nothing."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + RELOAD_SECONDS
        try:
            rows = ml_registry.in_use()
        except (DatabaseError, InterfaceError) as error:
            log.warning("models.unreadable", error=str(error))
            return
        mark = [(row.pk, row.state, row.suppress_below) for row in rows]
        if mark == self._mark and not any(each.why_off for each in self._in_use):
            return
        self._mark = mark
        rests = {each.row.pk: (each.rests_until, each.why_off) for each in self._in_use}
        self._in_use = [_InUse(row) for row in rows]
        for each in self._in_use:
            until, why = rests.get(each.row.pk, (0.0, ""))
            if now < until and not each.why_off:  # it can be read, and still has to rest
                each.rests_until, each.why_off = until, why
