"""The forms with which a person looks after signals, from the list or from a signal's page."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from mpx_site.portal.steps import lead_to, person
from signals import handling
from signals.handling import MOST_TEXT, Act, StepRefused, Taken

SNOOZES = (("15", "15 min"), ("60", "1 h"), ("240", "4 h"), ("1440", "1 day"))
DONE = {
    Act.ACK: "acknowledged",
    Act.SNOOZE: "snoozed",
    Act.DISMISS: "dismissed",
    Act.REOPEN: "opened again",
    Act.COMMENT: "commented",
}


class Sent(forms.Form):
    """One step with the signals that it is for. What is not valid stops it and is said."""

    act = forms.ChoiceField(choices=Act.choices)
    minutes = forms.ChoiceField(choices=SNOOZES, required=False)
    text = forms.CharField(max_length=MOST_TEXT, required=False, label="Reason")

    @property
    def problem(self) -> str:
        return " ".join(str(error) for errors in self.errors.values() for error in errors)

    @property
    def chosen(self) -> Act:
        return Act(self.cleaned_data["act"])

    @property
    def snooze(self) -> timedelta | None:
        """Return how long a snooze lasts, an hour unless it is said; None for other steps."""
        if self.chosen != Act.SNOOZE:
            return None
        return timedelta(minutes=int(self.cleaned_data["minutes"] or 60))


@require_POST
def step(request: HttpRequest) -> HttpResponse:
    """Take one step with the signals of `key`, and go back to where it was asked."""
    form = Sent(request.POST)
    if not form.is_valid():
        messages.error(request, f"Nothing was done. {form.problem}")
        return _back(request)
    try:
        taken = handling.take(
            request.POST.getlist("key"),
            form.chosen,
            by=person(request),
            at=timezone.now(),
            text=form.cleaned_data["text"],
            snooze=form.snooze,
        )
    except StepRefused as refused:
        messages.error(request, f"Nothing was done. {refused}")
    else:
        _tell(request, form.chosen, taken)
    return _back(request)


def _tell(request: HttpRequest, act: Act, taken: Taken) -> None:
    if taken.done:
        count = len(taken.done)
        messages.success(request, f"{count} signal{'s' * (count != 1)} {DONE[act]}.")
    reasons = sorted({why for _, why in taken.left})
    if reasons:
        left = len(taken.left)
        word = "was" if left == 1 else "were"
        messages.info(request, f"{left} {word} left as {'it' if left == 1 else 'they'} {word}: "
                               f"{', '.join(reasons)}.")  # fmt: skip


def _back(request: HttpRequest) -> HttpResponse:
    """Go to the page that the form was on, if it is one of ours."""
    asked = request.POST.get("next", "")
    own = url_has_allowed_host_and_scheme(asked, allowed_hosts=None)
    address = urlsplit(asked)
    if not own or not address.path.startswith(reverse("signals")):
        return lead_to(reverse("signals"))
    return lead_to(asked)
