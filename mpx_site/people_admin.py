"""Accounts and roles in the admin: who may do what; every change of it is in the audit chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from alerts import journal

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin


class Audited:
    """Writes into the audit chain what Django's own log is told."""

    def log_addition(self, request: HttpRequest, object: Any, message: Any) -> Any:
        _record("added", [object], request, message)
        return super().log_addition(request, object, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, object: Any, message: Any) -> Any:
        _record("changed", [object], request, message)
        return super().log_change(request, object, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        _record("removed", list(queryset), request, [])
        return super().log_deletions(request, queryset)  # type: ignore[misc]


class PersonAdmin(Audited, _UserAdmin):
    list_display = ("username", "roles", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("groups", "is_active", "is_staff", "is_superuser")
    search_fields = ("username",)
    search_help_text = "A part of a user name."
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description="roles", empty_value="none")
    def roles(self, person: User) -> str | None:
        return ", ".join(sorted(group.name for group in person.groups.all())) or None


class RoleAdmin(Audited, GroupAdmin):
    list_display = ("name", "people", "rights")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        counts = {"held": Count("user", distinct=True), "has": Count("permissions", distinct=True)}
        return super().get_queryset(request).annotate(**counts)

    @admin.display(description="people", ordering="held")
    def people(self, role: Any) -> int:
        return int(role.held)

    @admin.display(description="rights", ordering="has")
    def rights(self, role: Any) -> int:
        return int(role.has)


@transaction.atomic
def _record(what: str, rows: Sequence[User | Group], request: HttpRequest, message: Any) -> None:
    """`message` is what changed in Django's words; values of fields are not in it."""
    for row in rows:
        kind = "account" if isinstance(row, User) else "role"
        journal.record(
            kind=f"{kind}.{what}",
            subject=f"{kind}:{row}"[:120],
            actor=request.user.get_username(),
            at=timezone.now(),
            data={"changes": message, **_state(row)},
        )


def _state(row: User | Group) -> dict[str, object]:
    if isinstance(row, Group):
        return {"rights": sorted(row.permissions.values_list("codename", flat=True))}
    return {
        "roles": sorted(row.groups.values_list("name", flat=True)),
        "rights": sorted(row.user_permissions.values_list("codename", flat=True)),
        "is_active": row.is_active,
        "is_staff": row.is_staff,
        "is_superuser": row.is_superuser,
    }


admin.site.unregister(User)
admin.site.register(User, PersonAdmin)
admin.site.unregister(Group)
admin.site.register(Group, RoleAdmin)
