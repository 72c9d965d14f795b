"""What comes from Telegram and what goes back, as values. All text in it is untrusted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from telegram import Update

from alerts.words import Words, clean

MOST_TEXT: Final = 400  # characters of a message that are looked at
MOST_NAME: Final = 60
# "/approve 5", "/approve_5" (which Telegram makes a link of) and "/approve@bot 5" are the same.
_COMMAND: Final = re.compile(
    r"/([a-z]{1,20})(?:_(\w{1,40}))?(?:@\w{1,40})?(?:\s+(.*))?", re.S | re.I
)


@dataclass(frozen=True, slots=True)
class Heard:
    """A command that somebody sent. `update` is Telegram's number of it, `at` when it was sent."""

    update: int
    who: int
    name: str
    chat: int
    private: bool
    at: datetime
    command: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button that somebody pressed: `data` is what the button carries. `message` has it."""

    update: int
    who: int
    chat: int
    message: int
    press: str
    data: str


@dataclass(frozen=True, slots=True)
class Button:
    text: str
    data: str  # at most 64 bytes


@dataclass(frozen=True, slots=True)
class Say:
    """A message to a chat; buttons stand in one row below it."""

    chat: int
    words: Words
    buttons: tuple[Button, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Other words for a message of the bot; its buttons go."""

    chat: int
    message: int
    words: Words


@dataclass(frozen=True, slots=True)
class Nod:
    """The answer to a press, shown for a moment; without it the button seems to hang."""

    press: str
    text: str = ""


Reply = Say | Rewrite | Nod


def read(update: Update) -> Heard | Pressed | None:
    """Return what an update says; None for what is no command or button.

    A message that was forwarded was meant for somebody else: it commands nothing.
    """
    if update.callback_query is not None:
        return _pressed(update)
    message = update.message
    if message is None or message.from_user is None or message.text is None:
        return None
    if message.forward_origin is not None or message.sender_chat is not None:
        return None
    found = _COMMAND.fullmatch(message.text[:MOST_TEXT].strip())
    if found is None:
        return None
    command, joined, rest = found.groups()
    return Heard(
        update=update.update_id,
        who=message.from_user.id,
        name=clean(message.from_user.username or message.from_user.full_name, MOST_NAME),
        chat=message.chat.id,
        private=message.chat.type == "private" and message.chat.id == message.from_user.id,
        at=message.date,
        command=command.lower(),
        words=clean(" ".join(filter(None, (joined, rest))), MOST_TEXT),
    )


def _pressed(update: Update) -> Pressed | None:
    query = update.callback_query
    if query is None or query.message is None or query.data is None:
        return None
    return Pressed(
        update=update.update_id,
        who=query.from_user.id,
        chat=query.message.chat.id,
        message=query.message.message_id,
        press=query.id,
        data=query.data[:64],
    )
