"""API tokens in the admin: everybody's, to look at and to revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from alerts.admin import ReadOnly
from mpx_site import api_token_book
from mpx_site.models import ApiToken

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _TokenAdmin = admin.ModelAdmin[ApiToken]
else:
    _TokenAdmin = admin.ModelAdmin


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly, _TokenAdmin):
    list_display = (
        "prefix", "user", "name", "scopes_told", "state",
        "created_at", "expires_at", "last_used_at",
    )  # fmt: skip
    list_filter = ("user",)
    list_select_related = ("user",)
    search_fields = ("=prefix",)
    search_help_text = "A token's prefix: the part after mpx_."
    ordering = ("-id",)
    fields = (
        "prefix", "user", "name", "scopes_told", "state",
        "created_at", "expires_at", "last_used_at", "revoked_at",
    )  # fmt: skip
    readonly_fields = ("scopes_told", "state")
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("mpx_site.revoke_apitoken")

    @admin.display(description="scopes")
    def scopes_told(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(description="state")
    def state(self, token: ApiToken) -> str:
        return token.state(timezone.now())

    @admin.action(description="Revoke tokens at once", permissions=["revoke"])
    def revoke(self, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
        at, by = timezone.now(), request.user
        ended = sum(api_token_book.revoke(each, by=by, at=at) for each in tokens)
        told = f"{ended} token(s) revoked." if ended else "They were all revoked before."
        self.message_user(request, told, messages.SUCCESS if ended else messages.WARNING)
