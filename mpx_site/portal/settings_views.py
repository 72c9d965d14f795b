"""The settings of a person: looks, saved views, sessions, API tokens, Telegram."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from alerts.watchdog import bot_is_set_up
from mpx_site import api_token_book as book
from mpx_site.bot import links
from mpx_site.models import ApiToken, Scope, TelegramLink
from mpx_site.portal import steps
from mpx_site.portal.numbers import row_number
from mpx_site.portal.settings_sessions import LOOKS, OpenSession, end_sessions, sessions_of
from mpx_site.portal.views_saved import SavedView, views_of
from mpx_site.preferences import Preference

SHOWN_TOKENS = 30


class LooksForm(forms.Form):
    """How pages look where the bar's buttons have not been used."""

    theme = forms.ChoiceField(
        choices=[("auto", "As the system has it"), ("light", "Light"), ("dark", "Dark")]
    )
    zone = forms.ChoiceField(
        choices=[("utc", "UTC"), ("local", "The zone of the browser")], label="Times in"
    )


class TokenForm(forms.Form):
    """A new token. Its owner's own rights bound it further."""

    name = forms.CharField(max_length=80, label="What it is for")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, widget=forms.CheckboxSelectMultiple, label="It may"
    )
    days = forms.IntegerField(
        min_value=1, max_value=book.MOST_DAYS, initial=book.DAYS, label="Days until it ends"
    )

    def __init__(self, *args: object, user: User) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.user = user

    def clean_scopes(self) -> list[str]:
        scopes: list[str] = self.cleaned_data["scopes"]
        if lacking := book.lacking(self.user, scopes):
            raise forms.ValidationError(f"You have no right that {', '.join(lacking)} would use.")
        return scopes


@dataclass(frozen=True, slots=True)
class TokenLine:
    """One of the person's tokens; `state` is `live`, `expired` or `revoked`."""

    token: ApiToken
    state: str


@dataclass(frozen=True, slots=True)
class Telegram:
    """A person's Telegram account; None while none is linked. `code` was made just now."""

    set_up: bool
    link: TelegramLink | None
    code: str = ""

    @property
    def minutes(self) -> int:
        return round(links.CODE_LIVES.total_seconds() / 60)


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """`made` is the text of a token that was made just now: it is shown this once."""

    looks: LooksForm
    views: list[SavedView]
    sessions: list[OpenSession]
    tokens: list[TokenLine]
    token_form: TokenForm
    made: str
    roles: list[str]
    telegram: Telegram


@require_safe
@never_cache
def settings(request: HttpRequest) -> HttpResponse:
    return _shown(request, TokenForm(user=steps.person(request)))


@require_POST
def looks(request: HttpRequest) -> HttpResponse:
    """Keep how pages look: for this session at once, for others from their next login on."""
    form = LooksForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Nothing was changed: choose one of what is offered.")
        return _back("looks")
    Preference.objects.update_or_create(
        user=steps.person(request), name=LOOKS, defaults={"value": form.cleaned_data}
    )
    request.session[LOOKS] = form.cleaned_data
    messages.success(request, "Kept.")
    return HttpResponseRedirect(f"{reverse('settings')}?saved=looks#looks", status=303)


@require_POST
def end(request: HttpRequest) -> HttpResponse:
    """Log out in all other browsers, or in this one too."""
    user, at = steps.person(request), timezone.now()
    if request.POST.get("which") == "all":
        end_sessions(user, at=at, but=request.session.session_key)
        logout(request)
        return HttpResponseRedirect(reverse("login"), status=303)
    ended = end_sessions(user, at=at, but=request.session.session_key)
    messages.success(request, f"Logged out in {ended} other browser{'' if ended == 1 else 's'}.")
    return _back("sessions")


@require_POST
@never_cache
def make_token(request: HttpRequest) -> HttpResponse:
    """Make a token and show its text, which no later page can."""
    user = steps.person(request)
    form = TokenForm(request.POST, user=user)
    if not form.is_valid():
        return _shown(request, form, status=422)
    try:
        _, text = book.make(user, at=timezone.now(), **form.cleaned_data)
    except book.TooMany as why:
        messages.error(request, str(why))
        return _back("tokens")
    return _shown(request, TokenForm(user=user), made=text)


@require_POST
def revoke_token(request: HttpRequest) -> HttpResponse:
    """End one of one's own tokens."""
    user, number = steps.person(request), row_number(request.POST.get("number"))
    token = next((each for each in book.of(user) if each.pk == number), None)
    if token is None:
        messages.error(request, "You have no such token.")
    elif book.revoke(token, by=user, at=timezone.now()):
        messages.success(request, f"The token “{token.name}” opens nothing any more.")
    else:
        messages.success(request, f"The token “{token.name}” was revoked before.")
    return _back("tokens")


@require_POST
@never_cache
def make_code(request: HttpRequest) -> HttpResponse:
    """Make the code that links a Telegram account, and show it, which no later page can."""
    user = steps.person(request)
    if not bot_is_set_up():
        messages.error(request, "This desk has no bot: nothing would read the code.")
        return _back("telegram")
    return _shown(request, TokenForm(user=user), code=links.make_code(user, at=timezone.now()))


@require_POST
def unlink(request: HttpRequest) -> HttpResponse:
    """Let one's Telegram account do nothing here any more."""
    user = steps.person(request)
    link = links.of(user)
    if link is None:
        messages.error(request, "No Telegram account is linked to you.")
        return _back("telegram")
    links.unlink(link, by=user, at=timezone.now())
    messages.success(request, "Your Telegram account does nothing here any more.")
    return _back("telegram")


def _shown(
    request: HttpRequest, form: TokenForm, *, made: str = "", code: str = "", status: int = 200
) -> HttpResponse:
    page = _page(request, form, made=made, code=code, at=timezone.now())
    return render(request, "portal/settings.html", {"page": page}, status=status)


def _page(
    request: HttpRequest, form: TokenForm, *, made: str, code: str, at: datetime
) -> SettingsPage:
    user = steps.person(request)
    kept = {"theme": "auto", "zone": "utc"} | request.session.get(LOOKS, {})
    return SettingsPage(
        looks=LooksForm(initial=kept),
        views=views_of(user),
        sessions=sessions_of(user, here=request.session.session_key, at=at),
        tokens=[TokenLine(each, each.state(at)) for each in book.of(user)[:SHOWN_TOKENS]],
        token_form=form,
        made=made,
        roles=list(user.groups.order_by("name").values_list("name", flat=True)),
        telegram=Telegram(bot_is_set_up(), links.of(user), code),
    )


def _back(anchor: str) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('settings')}#{anchor}", status=303)
