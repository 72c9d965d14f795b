"""Orders that were shown with buttons, and what a press does: the portal's own step, once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from execution import intents
from execution.models import IdempotencyKey, OrderIntent
from mpx_site.bot.models import ShownOrder, TelegramLink
from risk.locking import in_turn
from risk.models import Policy

BUTTON_LIVES: Final = timedelta(seconds=60)
KEPT: Final = timedelta(days=1)
OVER: Final = "The 60 seconds of this button are over. Ask for the order again."
Act = ShownOrder.Act


class Unusable(Exception):
    """The button does nothing; the message says why, in words for whoever pressed it."""


class Changed(Exception):
    """The order is not what was shown any more."""


def offer(
    link: TelegramLink, intent: OrderIntent, *, act: Act, chat: int, reason: str, at: datetime
) -> str:
    """Keep what is shown to a person now; return the nonce for its buttons."""
    nonce = secrets.token_urlsafe(16)
    ShownOrder.objects.filter(expires_at__lt=at - KEPT).delete()
    ShownOrder.objects.create(
        sha256=_hashed(nonce),
        link=link,
        chat=chat,
        intent=intent,
        act=act,
        revision=intent.revision,
        plan_hash=intent.plan_hash,
        reason=reason,
        expires_at=at + BUTTON_LIVES,
    )
    return nonce


def taken(nonce: str, *, link: TelegramLink, chat: int, update: int, at: datetime) -> ShownOrder:
    """Return what a nonce stands for and use it up, for this update alone; raise `Unusable`.

    The same update may come again after a crash: it finds what it had taken.
    """
    shown = ShownOrder.objects.filter(sha256=_hashed(nonce), link=link, chat=chat).first()
    if shown is None:
        raise Unusable("This button is not yours, or not from this chat.")
    if shown.used_by == update:
        return shown
    if shown.used_by is None and shown.is_over(at):
        raise Unusable(OVER)
    free = Q(used_by=None) | Q(used_by=update)  # another reader may have just taken the same update
    if not ShownOrder.objects.filter(free, pk=shown.pk).update(used_by=update):
        raise Unusable("This button was used already.")
    return shown


def give_back(shown: ShownOrder) -> None:
    """Let a button be pressed again: nothing was done."""
    ShownOrder.objects.filter(pk=shown.pk).update(used_by=None)


def decide(shown: ShownOrder, *, link: TelegramLink, at: datetime) -> intents.Answer:
    """Take the step by the portal's function; raise `Changed` if the order is another by now.

    Raises `DeskBusy`, `NoPolicy` and `Unusable`. One button is one Idempotency-Key, so an
    update that comes again gets the answer that it had.
    """
    key = f"telegram:{shown.sha256}"
    act = _step(shown, link, key, at)
    if IdempotencyKey.objects.filter(user=link.user, key=key).exists():
        return act()
    if shown.is_over(at):
        raise Unusable(OVER)
    return in_turn(lambda policy: _unchanged(policy, shown, act))


def _unchanged(_: Policy, shown: ShownOrder, act: Callable[[], intents.Answer]) -> intents.Answer:
    """Act in the desk's turn, in which nobody else can change the order.

    Another plan is refused by the step itself where it signs one; a rejection does not.
    """
    now = OrderIntent.objects.get(pk=shown.intent_id)
    same_plan = now.plan_hash == shown.plan_hash
    if now.revision != shown.revision and (same_plan or shown.act == Act.REJECT):
        raise Changed
    return act()


def _step(
    shown: ShownOrder, link: TelegramLink, key: str, at: datetime
) -> Callable[[], intents.Answer]:
    number, by = shown.intent_id, link.user
    if shown.act == Act.APPROVE:
        plan = shown.plan_hash
        return lambda: intents.approve(number, by=by, at=at, plan_hash=plan, idempotency_key=key)
    reason = shown.reason
    return lambda: intents.reject(number, by=by, at=at, reason=reason, idempotency_key=key)


def _hashed(nonce: str) -> str:
    return hashlib.sha256(nonce.encode()).hexdigest()
