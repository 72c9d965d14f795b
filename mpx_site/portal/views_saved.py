"""Saved views: a list's address with its filters, kept by a person under a name.

A list page offers them with `{% include "portal/_views.html" %}`; nothing else is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.http import require_POST

from mpx_site.portal import steps
from mpx_site.portal.numbers import row_number
from mpx_site.preferences import Preference

PORTAL = "mpx_site.portal."
PREFIX = "view:"
MOST = 50
NAME_LENGTH, QUERY_LENGTH = 60, 1_000
PASSING = ("page", "before", "after", "cursor", "format", "refused")  # of a moment, not of a view


@dataclass(frozen=True, slots=True)
class SavedView:
    number: int
    name: str
    path: str
    query: str

    @property
    def address(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


class ViewForm(forms.Form):
    """What is kept: a page of the portal, and the filters in its address."""

    name = forms.CharField(max_length=NAME_LENGTH)
    path = forms.CharField(max_length=200)
    query = forms.CharField(max_length=QUERY_LENGTH, required=False)

    def clean_path(self) -> str:
        path = str(self.cleaned_data["path"])
        try:
            found = resolve(path)
        except Resolver404 as error:
            raise forms.ValidationError("There is no such page.") from error
        if not found.func.__module__.startswith(PORTAL):
            raise forms.ValidationError("Only lists of the portal can be kept.")
        return path

    def clean_query(self) -> str:
        query = QueryDict(self.cleaned_data["query"], mutable=True)
        for name in [name for name in query if name in PASSING or not any(query.getlist(name))]:
            del query[name]
        return query.urlencode()


def views_of(user: User, path: str | None = None) -> list[SavedView]:
    """Return a person's views by name: all of them, or those of one page."""
    kept = Preference.objects.filter(user=user, name__startswith=PREFIX).order_by("name")
    views = [
        SavedView(each.pk, each.name.removeprefix(PREFIX), each.value["path"], each.value["query"])
        for each in kept
    ]
    return [view for view in views if path is None or view.path == path]


@require_POST
def save(request: HttpRequest) -> HttpResponse:
    """Keep a view, under a name that had another one too, and lead to it."""
    user, form = steps.person(request), ViewForm(request.POST)
    if not form.is_valid():
        told = " ".join(text for errors in form.errors.values() for text in map(str, errors))
        messages.error(request, f"The view was not kept. {told}")
        return _to_settings()
    name, path, query = (str(form.cleaned_data[each]) for each in ("name", "path", "query"))
    known = {view.name for view in views_of(user)}
    if name not in known and len(known) >= MOST:
        messages.error(request, f"You have {MOST} views already; delete one first.")
        return _to_settings()
    value = {"path": path, "query": query}
    Preference.objects.update_or_create(
        user=user, name=f"{PREFIX}{name}", defaults={"value": value}
    )
    messages.success(request, f"The view “{name}” is kept.")
    return HttpResponseRedirect(SavedView(0, name, path, query).address, status=303)


@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Delete one of one's own views."""
    own = Preference.objects.filter(user=steps.person(request), name__startswith=PREFIX)
    number = row_number(request.POST.get("number"))
    gone = number is not None and own.filter(pk=number).delete()[0]
    messages.success(request, "The view is deleted." if gone else "That view was deleted before.")
    return _to_settings()


def _to_settings() -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('settings')}#views", status=303)
