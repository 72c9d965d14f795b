"""What the forms of the desk send, and how a step of theirs is answered: by another page.

Every post leads to a page with an address of its own, so reloading repeats nothing.
A refusal is read there from the audit chain (`?refused=`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect

from execution.idempotency import MAX_LENGTH, BadKey, KeyReused
from execution.models import OrderIntent
from mpx_site.portal.refusals import newest_refusal
from mpx_site.roles import NEEDS_A_ROLE, SEE_DESK
from risk.locking import DeskBusy, NoPolicy

T = TypeVar("T")
P = ParamSpec("P")
Answer = TypeVar("Answer", bound=HttpResponseBase)
REASON_LENGTH = 300


class Sent(forms.Form):
    """What a form of the desk carries. What is not valid stops the step and is said."""

    key = forms.CharField(max_length=MAX_LENGTH)
    plan = forms.RegexField(r"^[0-9a-f]{64}$", required=False)
    reason = forms.CharField(max_length=REASON_LENGTH, required=False)
    capital = forms.DecimalField(
        required=False, min_value=Decimal(1), max_digits=12, decimal_places=2
    )
    rehearsal = forms.ChoiceField(choices=OrderIntent.Rehearsal.choices, required=False)

    @property
    def problem(self) -> str:
        said = (f"{name}: {' '.join(map(str, errors))}" for name, errors in self.errors.items())
        return f"Nothing was done. {'; '.join(said)}"

    def text(self, name: str) -> str:
        return str(self.cleaned_data.get(name) or "")

    @property
    def capital_usd(self) -> Decimal | None:
        value: Decimal | None = self.cleaned_data.get("capital")
        return value


def person(request: HttpRequest) -> User:
    """Return who asks; the login stands before every page."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def for_roles(
    view: Callable[Concatenate[HttpRequest, P], Answer],
) -> Callable[Concatenate[HttpRequest, P], Answer]:
    """Show a page of the desk to whoever has a role; raise `PermissionDenied` to others."""
    return for_permission(SEE_DESK, NEEDS_A_ROLE)(view)


def for_permission(
    needed: str, why: str
) -> Callable[
    [Callable[Concatenate[HttpRequest, P], Answer]], Callable[Concatenate[HttpRequest, P], Answer]
]:
    """Let a view be used by who has a permission; raise `PermissionDenied(why)` to others."""

    def guarded(
        view: Callable[Concatenate[HttpRequest, P], Answer],
    ) -> Callable[Concatenate[HttpRequest, P], Answer]:
        @wraps(view)
        def shown(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
            if not request.user.has_perm(needed):
                raise PermissionDenied(why)
            return view(request, *args, **kwargs)

        return shown

    return guarded


def attempt(request: HttpRequest, act: Callable[[], T]) -> T | None:
    """Run a step; what keeps it from being judged at all is told on the next page."""
    try:
        return act()
    except (DeskBusy, NoPolicy, KeyReused, BadKey) as trouble:
        text = str(trouble)
        messages.error(request, f"Nothing was done: {text[:1].lower()}{text[1:].rstrip('.')}.")
        return None


def sent(request: HttpRequest) -> Sent | None:
    """Read a posted form; None, and a word on the next page, if it cannot be."""
    form = Sent(request.POST)
    if form.is_valid():
        return form
    messages.error(request, form.problem)
    return None


def lead_to(address: str) -> HttpResponse:
    """Send to a page, to be got whatever was posted."""
    return HttpResponseRedirect(address, status=303)


def refused_at(address: str, *, subject: str, by: User) -> HttpResponse:
    """Send to a page that shows what a person was just refused."""
    number = newest_refusal(subject, by)
    mark = "&" if "?" in address else "?"
    return lead_to(f"{address}{mark}refused={number}#refused" if number else address)
