"""Exports of every list of the admin: what is ticked, with the columns that the list shows."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import label_for_field, lookup_field
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils.html import strip_tags
from django.utils.safestring import SafeString

from mpx_site.portal import exports
from mpx_site.portal.exports import Column

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    Admin = admin.ModelAdmin[Any]
else:
    Admin = admin.ModelAdmin


def _export(
    asked: str, model_admin: Admin, request: HttpRequest, rows: QuerySet[Any]
) -> HttpResponseBase:
    if (refused := exports.too_often(request)) is not None:
        return refused
    name = str(model_admin.opts.model_name)
    columns = columns_of(model_admin, request)
    return exports.file_of(rows, columns, asked=asked, name=name)


@admin.action(description="Export as CSV", permissions=["view"])
def export_csv(model_admin: Admin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
    return _export("csv", model_admin, request, rows)


@admin.action(description="Export as JSON", permissions=["view"])
def export_json(model_admin: Admin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseBase:
    return _export("json", model_admin, request, rows)


def columns_of(model_admin: Admin, request: HttpRequest) -> list[Column]:
    """Return the key and what the list shows, under the headings it has there."""
    shown = [str(name) for name in model_admin.get_list_display(request)]
    key = model_admin.opts.pk.attname
    others = (Column(_heading(model_admin, name), partial(_value, model_admin, name))
              for name in shown if name != key)  # fmt: skip
    return [Column(key, "pk"), *others]


def _heading(model_admin: Admin, name: str) -> str:
    if name == "__str__":
        return "row"
    return str(label_for_field(name, model_admin.model, model_admin)).replace(" ", "_").lower()


def _value(model_admin: Admin, name: str, row: Model) -> object:
    """Return what a cell holds; of a link its words."""
    try:
        _, _, value = lookup_field(name, row, model_admin)
    except ObjectDoesNotExist:
        return None
    if isinstance(value, SafeString):
        return html.unescape(strip_tags(value))
    return str(value) if isinstance(value, Model) else value
