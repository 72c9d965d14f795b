"""What every voice of the desk has in common: a message out, an outcome back (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from alerts.pace import Limits
from alerts.words import Words, as_html, as_text


@dataclass(frozen=True, slots=True)
class Alert:
    """One row of the outbox as a voice is given it. `thread` is common to what belongs together.

    `facts` came from outside in part: whoever shows them cuts and escapes them.
    """

    key: str
    kind: str
    at: datetime
    thread: str
    words: Words
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message, which tells one alert or many together. `id` is the same in each try.

    `about` is the number of an earlier message that this one goes on with, and `edit` says that
    it takes that one's place; where the place cannot be taken it is an answer to it.
    """

    id: str
    words: Words
    portal: str
    alerts: tuple[Alert, ...] = ()
    silent: bool = False
    about: int | None = None
    edit: bool = False

    @property
    def html(self) -> str:
        return as_html(self.words, portal=self.portal)

    @property
    def plain(self) -> str:
        return as_text(self.words, portal=self.portal)


@dataclass(frozen=True, slots=True)
class Sent:
    """It was taken. `message_id` is None where messages have no numbers.

    `chat` is another than asked if the group has become one of another id.
    """

    message_id: int | None = None
    chat: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """It was not taken, and may be in `seconds`; None when nobody says how long."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """It will not be taken. `voice` says whether no other message would be either."""

    reason: str
    voice: bool


Outcome = Sent | Later | Never


class Line(Protocol):
    """Where one voice speaks to. `most` is how many alerts one message of it can tell."""

    @property
    def masked(self) -> str:
        """Name the place so that a person knows it again and nobody else learns it."""

    @property
    def limits(self) -> Limits:
        """Return what the far side takes of messages."""

    @property
    def most(self) -> int: ...

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send one after the other and stop at the first that is not taken.

        Raises nothing for what the far side does.
        """
