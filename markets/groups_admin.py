"""Groups of the same subject in the admin: one screen to change and decide a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from alerts.admin import shown_row
from markets.models import Market
from markets.relation_models import SynonymGroup, SynonymGroupMember
from markets.relations import PERMISSION, AlreadyDecided, ReasonMissing
from markets.relations_admin import Screen, decider, history_of
from markets.synonyms import add_members, approve_group, make_group, reject_group
from markets.wording_diff import marked

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _GroupForm = forms.ModelForm[SynonymGroup]
    _GroupAdmin = admin.ModelAdmin[SynonymGroup]
else:
    _GroupForm, _GroupAdmin = forms.ModelForm, admin.ModelAdmin

GroupState = SynonymGroup.State
MOST_SHOWN = 500


class GroupForm(_GroupForm):
    """A group made by hand."""

    markets = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text="Market ids, apart by spaces or lines.",
    )

    class Meta:
        model = SynonymGroup
        fields = ("name", "markets")

    def clean_markets(self) -> list[str]:
        ids = str(self.cleaned_data["markets"]).split()
        known = set(Market.objects.filter(pk__in=ids).values_list("pk", flat=True))
        if missing := [pk for pk in ids if pk not in known]:
            raise ValidationError(f"Not in the catalogue: {', '.join(missing)}.")
        return ids


@admin.register(SynonymGroup)
class SynonymGroupAdmin(Screen, _GroupAdmin):
    form = GroupForm
    list_display = ("name", "method", "state", "size", "from_file", "decided_at")
    list_filter = ("state", "method", "from_file")
    search_fields = ("name", "=members__market__id")
    search_help_text = "Words of its name, or a whole market id."
    ordering = ("state", "-id")
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[SynonymGroup]:
        held = ~Q(members__state=SynonymGroupMember.State.REJECTED)
        return super().get_queryset(request).annotate(held=Count("members", filter=held))

    @admin.display(description="markets", ordering="held")
    def size(self, group: Any) -> int:
        return int(group.held)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one group with its members; change and decide it."""
        group = shown_row(self, request, object_id)
        if request.method == "POST":
            return self._decide(request, group)
        return TemplateResponse(
            request, "admin/markets/synonymgroup/decide.html", self._context(request, group)
        )

    def _decide(self, request: HttpRequest, group: SynonymGroup) -> HttpResponse:
        by, at = decider(request), timezone.now()
        act = request.POST.get("act", "")
        here = reverse("admin:markets_synonymgroup_change", args=[group.pk])
        onward = _group_after(group)
        try:
            if act == "add":
                added = add_members(group.pk, request.POST.get("ids", "").split(), by=by, at=at)
                told = f"{len(added)} added." if added else "None of these ids is new and stored."
                onward = group.pk
            elif act == "approve":
                tally = approve_group(
                    group.pk, members=request.POST.getlist("member"), by=by, at=at
                )
                told = f"Approved. {tally.new} relations that follow wait for approval."
            elif act == "reject":
                reject_group(group.pk, by=by, at=at, reason=request.POST.get("reason", ""))
                told = "Rejected."
            else:
                raise PermissionDenied
        except (AlreadyDecided, ReasonMissing) as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(here)
        self.message_user(request, told, messages.SUCCESS)
        if onward is None:
            return HttpResponseRedirect(reverse("admin:markets_synonymgroup_changelist"))
        return HttpResponseRedirect(reverse("admin:markets_synonymgroup_change", args=[onward]))

    def _context(self, request: HttpRequest, group: SynonymGroup) -> dict[str, Any]:
        rows = list(
            group.members.select_related("market__event", "market__quote").order_by(
                "-score", "market_id"
            )[:MOST_SHOWN]
        )
        after = _group_after(group)
        return {
            **self.admin_site.each_context(request),
            "title": group.name,
            "opts": self.opts,
            "media": self.media,
            "group": group,
            "members": _member_rows(rows),
            "may_decide": request.user.has_perm(PERMISSION) and group.state != GroupState.REJECTED,
            "waiting": SynonymGroup.objects.filter(state=GroupState.PROPOSED).count(),
            "after": reverse("admin:markets_synonymgroup_change", args=[after]) if after else "",
            "history": history_of(f"group:{group.pk}"),
        }

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def has_change_permission(self, request: HttpRequest, obj: SynonymGroup | None = None) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def save_model(self, request: HttpRequest, obj: SynonymGroup, form: Any, change: bool) -> None:
        made = make_group(
            form.cleaned_data["name"],
            form.cleaned_data["markets"],
            by=decider(request),
            at=timezone.now(),
        )
        obj.pk = made.pk

    def response_add(
        self, request: HttpRequest, obj: SynonymGroup, post_url_continue: str | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:markets_synonymgroup_change", args=[obj.pk]))

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None  # the audit chain has it


def _group_after(group: SynonymGroup) -> int | None:
    waiting = SynonymGroup.objects.filter(state=GroupState.PROPOSED).exclude(pk=group.pk)
    ahead = waiting.filter(pk__gt=group.pk).order_by("pk")
    return (
        ahead.values_list("pk", flat=True).first()
        or waiting.order_by("pk").values_list("pk", flat=True).first()
    )


def _member_rows(rows: Sequence[SynonymGroupMember]) -> list[dict[str, Any]]:
    """Return members with what their questions have that the first has not."""
    first = rows[0].market.question if rows else ""
    return [
        {
            "row": row,
            "question": marked(row.market.question, first)[0],
            "kept": row.state != SynonymGroupMember.State.REJECTED,
        }
        for row in rows
    ]
