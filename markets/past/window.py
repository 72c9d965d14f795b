"""What frames cover: when they begin and end, and where something is missing (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from markets.frames import CLOSED, ENDED, Frame
from markets.past.value import Gap

SILENCE_NS = 30_000_000_000  # a connection that says nothing for so long is not believed (DESIGN 6)


@dataclass(slots=True)
class Window:
    """Grows with each frame shown to it; times in unix ns."""

    since: int = 0
    until: int = 0
    frames: int = 0
    _gaps: list[Gap] = field(default_factory=list)
    _down: dict[int, tuple[int, str]] = field(default_factory=dict)

    def show(self, frame: Frame) -> None:
        t = frame.t
        if frame.ch == "ws" and frame.req == ENDED:
            self.until = max(self.until, t)
            return
        if not self.frames:
            self.since = self.until = t
        self.frames += 1
        if t - self.until > SILENCE_NS:
            self._gaps.append(Gap(self.until + SILENCE_NS, t, "nothing came"))
        self.until = max(self.until, t)
        if frame.ch == "ws" and frame.conn is not None:
            self._connection(frame, frame.conn)

    def miss(self, since: int, until: int, why: str) -> None:
        """Note that nothing was kept of a stretch."""
        if since < until:
            self._gaps.append(Gap(since, until, why))

    def gaps(self) -> tuple[Gap, ...]:
        """Return what is missing so far, connections that are still cut included."""
        open_still = (
            Gap(at, self.until, why) for at, why in self._down.values() if at < self.until
        )
        return tuple(sorted([*self._gaps, *open_still]))

    def _connection(self, frame: Frame, conn: int) -> None:
        if frame.req == CLOSED:
            reason = frame.body.decode(errors="replace")[:80]
            self._down.setdefault(conn, (frame.t, f"connection {conn} was cut: {reason}"))
        elif frame.req is None and conn in self._down:
            at, why = self._down.pop(conn)
            self.miss(at, frame.t, why)


def window_of(frames: Iterable[Frame]) -> Window:
    window = Window()
    for frame in frames:
        window.show(frame)
    return window
