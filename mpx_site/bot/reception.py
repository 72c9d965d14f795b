"""Who is it, and may they: the one door between Telegram and the desk.

Only the id of a linked account counts, never a name or membership of a chat. Everybody else
gets one sentence, a few times, whatever they say: nobody learns here what exists.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime
from typing import Final

import structlog

from alerts import journal
from alerts.words import Words
from mpx_site.bot import commands, links, shown, words
from mpx_site.bot.commands import Asked
from mpx_site.bot.hearing import Heard, Nod, Pressed, Reply, Rewrite, Say
from mpx_site.bot.models import ShownOrder, TelegramLink
from risk.locking import DeskBusy, NoPolicy

log = structlog.stdlib.get_logger(__name__)

VIA: Final = "telegram"
STRANGER: Final = Words(
    "This bot speaks with people of one desk",
    ("If you are one: make a code on the settings page of its portal and send it as /link CODE.",),
)
LINKED: Final = ("You are linked", "/help says what I can do.")
DONE: Final = {"APPROVE": "approved. Its legs are on their way", "REJECT": "rejected"}
MANY, SECONDS = 5, 600.0  # messages of one stranger that are looked at
OFTEN, MINUTE = 30, 60.0  # messages of one person of the desk
REMEMBERED: Final = 1_000  # accounts; the one that was silent longest is forgotten first


class Turnstile:
    """Lets so many messages of one account through in so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._seen: OrderedDict[int, deque[float]] = OrderedDict()

    def lets(self, account: int, *, at: datetime) -> bool:
        now = at.timestamp()
        seen = self._seen.setdefault(account, deque())
        self._seen.move_to_end(account)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        while seen and now - seen[0] >= self._seconds:
            seen.popleft()
        if len(seen) >= self._most:
            return False
        seen.append(now)
        return True


class Reception:
    """Answers what is heard. Texts are never logged; what changes something is audited."""

    def __init__(self) -> None:
        self._strangers = Turnstile(MANY, SECONDS)
        self._people = Turnstile(OFTEN, MINUTE)

    def answer(self, said: Heard | Pressed, *, at: datetime) -> list[Reply]:
        """Do what was asked and return what is to be said; `at` is now."""
        with journal.acting_via(VIA):
            if isinstance(said, Heard) and said.command == "link" and not said.private:
                links.burn(said.words)  # whoever read it there could use it
            link = links.holder(said.who)
            if isinstance(said, Pressed):
                return self._pressed(said, link, at)
            if link is None:
                return self._stranger(said, at)
            return self._person(said, link, at)

    # --- people of the desk ----------------------------------------------------------

    def _person(self, heard: Heard, link: TelegramLink, at: datetime) -> list[Reply]:
        stop = heard.command == "kill"  # never too often
        if not stop and not self._people.lets(heard.who, at=at):
            log.warning("bot.too_often", user=link.user_id)
            return []
        links.note_use(link, at=at)
        told = commands.answer(Asked(link, heard, at))
        log.info("bot.command", name=_known(heard.command), user=link.user_id)
        return [Say(heard.chat, told.words, told.buttons)]

    def _pressed(self, pressed: Pressed, link: TelegramLink | None, at: datetime) -> list[Reply]:
        if link is None or not link.user.is_active:
            return [Nod(pressed.press, "This button is not yours.")]
        press, _, nonce = pressed.data.partition(":")
        try:
            order = shown.taken(nonce, link=link, chat=pressed.chat, update=pressed.update, at=at)
            left = press == commands.LEAVE
            told = _left(order) if left else _decided(order, link, press, at)
        except shown.Unusable as why:
            return [Nod(pressed.press, str(why))]
        except (DeskBusy, NoPolicy) as trouble:
            shown.give_back(order)
            return [Nod(pressed.press, f"Nothing was done: {trouble}"[:190])]
        log.info("bot.pressed", order=order.intent_id, user=link.user_id)
        return [
            Nod(pressed.press, told.headline), Rewrite(pressed.chat, pressed.message, told)
        ]  # fmt: skip

    # --- everybody else --------------------------------------------------------------

    def _stranger(self, heard: Heard, at: datetime) -> list[Reply]:
        if not heard.private or not self._strangers.lets(heard.who, at=at):
            return []
        if heard.command == "link" and self._linked(heard, at):
            return [Say(heard.chat, Words(LINKED[0], LINKED[1:]))]
        return [Say(heard.chat, STRANGER)]

    @staticmethod
    def _linked(heard: Heard, at: datetime) -> bool:
        made = links.link(heard.words, telegram_id=heard.who, name=heard.name, at=at)
        return made is not None


def _left(order: ShownOrder) -> Words:
    return Words(f"Order {order.intent_id}: left as it is", (), f"/intents/{order.intent_id}/")


def _decided(order: ShownOrder, link: TelegramLink, press: str, at: datetime) -> Words:
    """Raise `shown.Unusable` for the wrong button, or one whose time is over."""
    if press != commands.BUTTONS[shown.Act(order.act)][0]:
        raise shown.Unusable("This button is not one of mine.")
    try:
        answer = shown.decide(order, link=link, at=at)
    except shown.Changed:
        ask = f"It has changed since it was shown. Look again: /{press}_{order.intent_id}"
        return Words(f"Order {order.intent_id}: refused", (ask,), f"/intents/{order.intent_id}/")
    return words.decided(order.intent_id, answer, done=DONE[order.act])


def _known(command: str) -> str:
    """Name a command for the log; what is none could be any text."""
    return command if command in commands.COMMANDS else "unknown"
