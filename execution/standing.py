"""How the desk stands towards its limits: what is allowed, what is used, what is switched off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from execution import positions
from execution.models import OrderIntent
from risk import killswitch, limits
from risk.checks import Exposure, Kill
from risk.limits import label_of as label_of  # pages name limits by it too
from risk.models import THE_ROW, Breaker, Policy, PolicyChange


@dataclass(frozen=True, slots=True)
class LimitNow:
    """One limit. `policy` is None where the ceiling counts; `used` where nothing uses it up.

    `ceiling` is what no policy can pass: the environment's where `setting` names a key.
    """

    name: str
    label: str
    meaning: str
    allowed: Decimal
    policy: Decimal | None
    ceiling: Decimal
    setting: str
    used: Decimal | None

    @property
    def share(self) -> Decimal | None:
        """Return the used part of what is allowed, 1 at most."""
        if self.used is None or not self.allowed:
            return None
        return min(self.used / self.allowed, Decimal(1))


@dataclass(frozen=True, slots=True)
class Standing:
    """Limits with their use, exposures, switches, and changes that wait for a second person."""

    at: datetime
    limits: tuple[LimitNow, ...]
    exposures: tuple[Exposure, ...]
    breakers: tuple[Breaker, ...]
    kill: Kill
    proposed: tuple[PolicyChange, ...]


def standing(*, at: datetime) -> Standing:
    """Look at everything that an order would be judged by. Raises `NoPolicy`."""
    exposures = positions.open_exposures()
    proposed = PolicyChange.objects.filter(state=PolicyChange.State.PROPOSED)
    return Standing(
        at=at,
        limits=_limits(exposures, at),
        exposures=exposures,
        breakers=tuple(Breaker.objects.order_by("scope", "subject", "id")),
        kill=killswitch.status(),
        proposed=tuple(proposed.select_related("proposer").order_by("-at", "-id")),
    )


def _limits(exposures: tuple[Exposure, ...], at: datetime) -> tuple[LimitNow, ...]:
    bounds, policy = limits.bounds(), Policy.objects.get(pk=THE_ROW)
    used = used_up(exposures, at=at)
    return tuple(
        LimitNow(
            name=name,
            label=label_of(name),
            meaning=limits.meaning_of(name),
            allowed=Decimal(getattr(bounds, name)),
            policy=_own(getattr(policy, name)),
            ceiling=limit.range()[1],
            setting=limit.setting,
            used=used.get(name),
        )
        for name, limit in limits.LIMITS.items()
    )


def used_up(exposures: tuple[Exposure, ...], *, at: datetime) -> dict[str, Decimal]:
    """Return what is used of each limit that orders use up, by its name."""
    return {
        "concurrent_orders": Decimal(OrderIntent.objects.open().count()),
        "daily_notional": OrderIntent.objects.approved_on(at).notional(),
        "event_exposure": max((each.held for each in exposures), default=Decimal(0)),
    }


def _own(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)
