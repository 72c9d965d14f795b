"""What is wrong with data that was given, said once per thing (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataProblem:
    """One thing wrong with one object. Ids are None where the thing is not about one."""

    problem: str
    detail: str
    event_id: str | None = None
    market_id: str | None = None
    token_id: str | None = None

    @property
    def order(self) -> tuple[str, ...]:
        ids = (self.event_id, self.market_id, self.token_id)
        return (*(each or "" for each in ids), self.problem, self.detail)


def shown(value: object) -> str:
    """Return a value from a file as a short quoted text."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
