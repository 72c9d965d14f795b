"""What a linked person may ask: one function per command, each with the portal's own rights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User

from alerts.words import Words
from execution import intents
from execution.models import OrderIntent
from mpx_site.bot import links, pauses, shown, words
from mpx_site.bot.hearing import Button, Heard
from mpx_site.bot.models import TelegramLink
from mpx_site.bot.shown import Act
from mpx_site.portal import orders
from mpx_site.roles import NEEDS_A_ROLE, SEE_DESK
from risk import killswitch

LATE: Final = timedelta(minutes=2)  # what was sent longer ago was meant for another moment
MINUTES, MOST_MINUTES = 60, 24 * 60
MOST_REASON: Final = 300
LEAVE: Final = "leave"
BUTTONS: Final = {Act.APPROVE: ("approve", "Approve"), Act.REJECT: ("reject", "Reject")}


@dataclass(frozen=True, slots=True)
class Asked:
    """One command of one person; `at` is now, `heard.at` when it was sent."""

    link: TelegramLink
    heard: Heard
    at: datetime

    @property
    def by(self) -> User:
        return self.link.user

    @property
    def words(self) -> str:
        return self.heard.words


@dataclass(frozen=True, slots=True)
class Told:
    words: Words
    buttons: tuple[Button, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """`right` is the permission that the portal asks for; a step that checks itself has none.

    `private`: not in a group. `ever`: also when it was sent long ago.
    """

    does: str
    act: Callable[[Asked], Told]
    takes: str = ""
    right: str = SEE_DESK
    lacking: str = NEEDS_A_ROLE
    private: bool = False
    ever: bool = False

    def line(self, name: str) -> str:
        return f"{' '.join(filter(None, (f'/{name}', self.takes)))}: {self.does}"


def answer(asked: Asked) -> Told:
    """Do what a linked person says, or say why not."""
    command = COMMANDS.get(asked.heard.command)
    if command is None:
        return _plain("I do not know that", "/help names what I know.")
    if why := _refusal(asked, command):
        return _plain("Not done", why)
    return command.act(asked)


def _refusal(asked: Asked, command: Command) -> str:
    if not asked.by.is_active:
        return "Your account is switched off."
    if command.private and not asked.heard.private:
        return "Not in a group: write to me alone."
    if command.right and not asked.by.has_perm(command.right):
        return command.lacking
    if asked.at - asked.heard.at > LATE and not command.ever:
        return f"This was sent at {asked.heard.at:%H:%M:%S} UTC and came too late. Send it again."
    return ""


def _plain(headline: str, *lines: str, path: str = "") -> Told:
    return Told(Words(headline, lines, path))


# --- looking -------------------------------------------------------------------------


def _help(asked: Asked) -> Told:
    lines = [command.line(name) for name, command in COMMANDS.items() if command.does]
    return _plain(f"You act as {words.quoted(asked.by.get_username(), words.NAME)}", *lines)


def _status(asked: Asked) -> Told:
    return Told(words.status(at=asked.at))


def _signals(_: Asked) -> Told:
    return Told(words.newest_signals())


def _why(asked: Asked) -> Told:
    key = asked.words.partition(" ")[0]
    if not key:
        return _plain("Which signal?", "Say /why and the id that /signals shows.")
    found = words.signals_like(key)
    if not found:
        return _plain("There is no such signal", "/signals names those that are open.")
    if len(found) > 1:
        return _plain("More than one signal begins like this", "Say more of its id.")
    return Told(words.why(found[0], at=asked.at))


def _orders(asked: Asked) -> Told:
    return Told(words.waiting_orders(orders.inbox(by=asked.by, at=asked.at), at=asked.at))


# --- deciding ------------------------------------------------------------------------


def _approve(asked: Asked) -> Told:
    return _shown(asked, Act.APPROVE)


def _reject(asked: Asked) -> Told:
    return _shown(asked, Act.REJECT)


def _shown(asked: Asked, act: Act) -> Told:
    """Show an order as it is now, with buttons if this person may decide on it."""
    number, _, reason = asked.words.partition(" ")
    intent = _intent(number)
    if intent is None:
        return _plain("Which order?", f"Say /{BUTTONS[act][0]} and its number; /orders has them.")
    if act == Act.REJECT and not reason.strip():
        return _plain("Why?", f"Say /reject {intent.pk} and the reason; whoever asked reads it.")
    verdict = intents.foresee(intent, by=asked.by, at=asked.at)
    if not _may(intent, act, asked):
        return Told(words.order(intent, verdict, asks="", at=asked.at))
    nonce = shown.offer(
        asked.link, intent, act=act, chat=asked.heard.chat, reason=reason[:MOST_REASON], at=asked.at
    )
    plan, (press, name) = intent.plan_hash[: words.HASH_LETTERS], BUTTONS[act]
    told = words.order(intent, verdict, asks=_asks(name, plan, reason), at=asked.at)
    buttons = (Button(f"{name} {plan}", f"{press}:{nonce}"), Button("Leave it", f"{LEAVE}:{nonce}"))
    return Told(told, buttons)


def _may(intent: OrderIntent, act: Act, asked: Asked) -> bool:
    """Say whether buttons make sense; whoever proposed an order may take it back by rejecting."""
    failed = set(orders.may_approve(intent, asked.by).names)
    return not failed - ({"FOUR_EYES"} if act == Act.REJECT else set())


def _asks(name: str, plan: str, reason: str) -> str:
    why = f", because: {words.quoted(reason)}" if reason and name == "Reject" else ""
    return f"{name} plan {plan}? The buttons last 60 seconds{why}"


def _intent(number: str) -> OrderIntent | None:
    if not (number.isascii() and number.isdigit() and len(number) < 15):
        return None
    return OrderIntent.objects.newest().filter(pk=int(number)).first()


# --- switching -----------------------------------------------------------------------


def _pause(asked: Asked) -> Told:
    first, _, rest = asked.words.partition(" ")
    minutes, reason = MINUTES, asked.words
    if first.isascii() and first.isdigit():
        minutes, reason = int(first[:6]), rest
    if not 0 < minutes <= MOST_MINUTES:
        return _plain("Not done", f"Say a number of minutes from 1 to {MOST_MINUTES}.")
    silence = pauses.pause(
        minutes=minutes,
        reason=reason.strip()[:MOST_REASON] or "no reason was given",
        by=asked.by,
        sent_at=asked.heard.at,
    )
    until = f"No alerts until {silence.until:%d %b %H:%M} UTC"
    return _plain(
        until, "For the whole desk; the kill switch is told all the same.", path="/alerts/"
    )


def _resume(asked: Asked) -> Told:
    ended = pauses.resume(by=asked.by, at=asked.at)
    told = "Alerts are told again" if ended else "Alerts were not silenced"
    return _plain(told, path="/alerts/")


def _kill(asked: Asked) -> Told:
    reason = asked.words[:MOST_REASON] or "no reason was given"
    done = killswitch.trip(reason=reason, at=asked.at, by=asked.by)
    if not done.verdict.ok:
        return Told(words.refused("The kill switch was not touched", done.verdict, path="/risk/"))
    headline = "KILL SWITCH ON" if done.done else "It was on already"
    return _plain(
        headline,
        f"Reason: {words.quoted(done.kill.reason)}",
        "Nothing is approved or filled. Another person re-arms it in the portal.",
        path="/risk/",
    )


# --- the link ------------------------------------------------------------------------


def _link(asked: Asked) -> Told:
    return _plain("You are linked already", "/unlink ends it.", path="/settings/")


def _unlink(asked: Asked) -> Told:
    links.unlink(asked.link, by=asked.by, at=asked.at)
    return _plain("Unlinked", "I do nothing for you any more.")


SILENCE_ROLES: Final = "Alerts are silenced by trader, approver or admin."
COMMANDS: Final = {
    "status": Command("how the desk stands", _status),
    "signals": Command("newest open P1 and P2", _signals),
    "why": Command("the sum behind a signal", _why, "ID"),
    "orders": Command("what waits for approval", _orders),
    "approve": Command("show an order, then approve it", _approve, "ID", private=True),
    "reject": Command("show an order, then reject it", _reject, "ID REASON", private=True),
    "pause": Command(
        "no alerts for the whole desk",
        _pause,
        "[MINUTES] [REASON]",
        pauses.MAY_PAUSE,
        SILENCE_ROLES,
    ),
    "resume": Command("end that", _resume, "", pauses.MAY_RESUME, SILENCE_ROLES),
    "kill": Command("stop all approvals and fills", _kill, "REASON", right="", ever=True),
    "link": Command("", _link, right="", private=True, ever=True),
    "unlink": Command("end what this account may do here", _unlink, right="", ever=True),
    "help": Command("this", _help),
    "start": Command("", _help),  # what Telegram sends when a chat begins
}
