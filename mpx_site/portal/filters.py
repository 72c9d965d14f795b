"""What a list page may be asked for: filters, order and page size in the address."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import QueryDict

from markets.models import Market, MarketQuerySet
from markets.relation_models import Relation, SynonymGroup
from mpx_site.portal import words
from rules.models import Rule
from signals.models import HANDLINGS, Signal, SignalQuerySet

SIZES = (10, 20, 50)
LEVELS = [("", "All levels"), *((level, level) for level in Signal.Level.values)]


class Asked(forms.Form):
    """A list's filters. What is not valid counts as not asked, and is said."""

    size = forms.ChoiceField(
        choices=[(str(size), str(size)) for size in SIZES], required=False, label="Rows"
    )

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        self.is_valid()

    def value(self, name: str) -> str:
        return str(self.cleaned_data.get(name) or "")

    def page_of(self, rows: QuerySet[Any], *, number: str | None) -> Page[Any]:
        size = int(self.value("size") or SIZES[0])
        return Paginator(rows, size).get_page(number)

    @property
    def narrowed(self) -> bool:
        """Say whether anything but size and order was asked."""
        kept = {"size", "sort"}
        return any(self.value(name) for name in self.fields if name not in kept)


class AskedSignals(Asked):
    """Filters of the signal list; the home page offers the level alone."""

    level = forms.ChoiceField(choices=LEVELS, required=False)
    status = forms.ChoiceField(
        choices=[("", "Open and closed"), *Signal.Status.choices], required=False
    )
    rule = forms.ModelChoiceField(
        Rule.objects.order_by("code"), to_field_name="code", required=False, empty_label="All rules"
    )
    kind = forms.ChoiceField(
        choices=[("", "All kinds"), *((kind, name) for kind, (name, _) in words.KINDS.items())],
        required=False,
    )
    handling = forms.ChoiceField(
        choices=[("", "Handled or not"), *HANDLINGS.items()], required=False
    )
    sort = forms.ChoiceField(
        choices=[
            ("", "Newest first"),
            ("edge", "Largest edge"),
            ("profit", "Largest profit"),
            ("expected", "Most to expect"),
            ("oldest", "Oldest first"),
        ],
        required=False,
        label="Order",
    )
    field_order = ("level", "status", "rule", "kind", "handling", "sort", "size")

    def rows(self, *, by: User, at: datetime) -> SignalQuerySet:
        """Return what fits, for a person at a time: what is theirs, what is snoozed."""
        rows = Signal.objects.handled(self.value("handling"), by=by, at=at).asked(
            level=self.value("level"),
            status=self.value("status"),
            rule=self.value("rule"),
            kind=self.value("kind"),
        )
        return rows.sorted_by(self.value("sort"))


class AskedStream(Asked):
    """The home page's stream: newest first, by level."""

    level = forms.ChoiceField(choices=LEVELS, required=False)

    def rows(self) -> SignalQuerySet:
        return Signal.objects.asked(level=self.value("level")).sorted_by("")


class AskedMarkets(Asked):
    q = forms.CharField(required=False, max_length=200, label="Search")
    state = forms.ChoiceField(choices=[("", "All states"), *Market.State.choices], required=False)
    book = forms.ChoiceField(
        choices=[
            ("", "Any book"),
            *((state, state) for state in words.BOOK_STATES),
            ("none", "no book"),
        ],
        required=False,
    )
    ends = forms.ChoiceField(
        choices=[("", "At any time"), ("24", "Within 24 h"), ("168", "Within 7 days")],
        required=False,
        label="Ends",
    )
    sort = forms.ChoiceField(
        choices=[
            ("", "Most liquid"),
            ("volume", "Most traded"),
            ("spread", "Narrowest spread"),
            ("changed", "Changed last"),
            ("ends", "Ends soonest"),
            ("name", "By name"),
        ],
        required=False,
        label="Order",
    )
    field_order = ("q", "state", "book", "ends", "sort", "size")

    def rows(self, *, at: datetime | None = None) -> MarketQuerySet:
        """Return what fits; `at` is the moment that "within" counts from."""
        rows = Market.objects.asked(search=self.value("q"), state=self.value("state"))
        rows = rows.with_book(self.value("book"))
        if at is not None and self.value("ends"):
            within = timedelta(hours=int(self.value("ends")))
            rows = rows.filter(end_at__gt=at, end_at__lte=at + within)
        return rows.sorted_by(self.value("sort"))


class AskedGroups(Asked):
    q = forms.CharField(required=False, max_length=200, label="Search")
    state = forms.ChoiceField(
        choices=[("", "All states"), *SynonymGroup.State.choices], required=False
    )
    method = forms.ChoiceField(
        choices=[("", "Found by any way"), *SynonymGroup.Method.choices],
        required=False,
        label="Found by",
    )
    field_order = ("q", "state", "method", "size")


class AskedRelations(Asked):
    state = forms.ChoiceField(
        choices=[
            ("", "What waits"),
            *((value, name) for value, name in Relation.State.choices if value != "PROPOSED"),
            ("all", "All states"),
        ],
        required=False,
    )
    type = forms.ChoiceField(choices=[("", "All types"), *Relation.Type.choices], required=False)
    origin = forms.ChoiceField(
        choices=[("", "All origins"), *Relation.Origin.choices], required=False
    )
    market = forms.CharField(required=False, max_length=80, label="Market id")
    field_order = ("state", "type", "origin", "market", "size")
