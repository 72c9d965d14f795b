"""Telegram accounts in the admin: whose is whose, to look at and to unlink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from mpx_site.bot import links
from mpx_site.bot.models import TelegramLink

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _LinkAdmin = admin.ModelAdmin[TelegramLink]
else:
    _LinkAdmin = admin.ModelAdmin


@admin.register(TelegramLink)
class TelegramLinkAdmin(_LinkAdmin):
    """A link is made by its own person alone, so nobody can add or change one here."""

    list_display = ("user", "masked", "linked_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    search_help_text = "A part of a user name."
    ordering = ("user__username", "id")
    fields = readonly_fields = ("user", "masked", "linked_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: TelegramLink | None = None) -> bool:
        return False

    @admin.display(description="account")
    def masked(self, link: TelegramLink) -> str:
        return link.masked

    def delete_model(self, request: HttpRequest, obj: TelegramLink) -> None:
        links.unlink(obj, by=request.user, at=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[TelegramLink]) -> None:
        for link in queryset.select_related("user"):
            links.unlink(link, by=request.user, at=timezone.now())
