"""Relations in the admin: an inbox to decide from, and a list to look things up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from alerts.admin import shown_row
from alerts.models import AuditEntry
from markets.models import Market
from markets.related import Member, NotExpressible, RelationType, at_outcome_0
from markets.relation_changes import differences
from markets.relation_models import Relation, RelationMember
from markets.relations import (
    PERMISSION,
    AlreadyDecided,
    AlreadyKnown,
    MembersChanged,
    NotChecked,
    ReasonMissing,
    UnknownMarket,
    approve,
    invalidate,
    propose_by_hand,
    reject,
    reopen,
)
from markets.wording_diff import Part, marked
from markets.wordings import stated_of

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _RelationForm = forms.ModelForm[Relation]
    _RelationAdmin = admin.ModelAdmin[Relation]
else:
    _RelationForm, _RelationAdmin = forms.ModelForm, admin.ModelAdmin

State = Relation.State
Refusal = (AlreadyDecided, MembersChanged, NotChecked, ReasonMissing)
FILTERS = ("type", "method")
MOST_HISTORY = 20


# --- what a relation's page shows ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One member as it is shown. Parts that the member before does not have are marked."""

    letter: str
    market: Market
    outcome: str
    question: tuple[Part, ...]
    rules: tuple[Part, ...]
    source: str
    ends: str
    event: str
    conflict: str
    same_rules: bool  # as the member before


def sides_of(relation: Relation) -> list[Side]:
    """Return the members of a relation with what tells each from the one before it."""
    rows = list(
        relation.members.select_related("market__event", "market__quote").order_by("position")
    )
    return [_side(rows, index) for index in range(len(rows))]


def _side(rows: Sequence[RelationMember], index: int) -> Side:
    row = rows[index]
    other = rows[index - 1] if index else rows[1] if len(rows) > 1 else row
    said, others = row.evidence, other.evidence
    names = [str(name) for name in said["outcomes"]]
    return Side(
        letter=_letter(index),
        market=row.market,
        outcome=names[row.outcome],
        question=marked(said["question"], others["question"])[0],
        rules=marked(said["rules"], others["rules"])[0],
        source=said["source"],
        ends=said["ends"],
        event=said["event_title"],
        conflict=said["conflict"],
        same_rules=index > 0 and said["rules"] == others["rules"],
    )


def _letter(index: int) -> str:
    """Return A, B, ... Z, then 27, 28, ..."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _shown(check: dict[str, Any]) -> dict[str, Any]:
    """Return a check with each thing said once, and the letters of those who say it."""
    letters: dict[str, list[str]] = {}
    for index, told in enumerate(check["told"]):
        letters.setdefault(told, []).append(_letter(index))
    return {**check, "told": [(", ".join(who), told) for told, who in letters.items()]}


def sentence(relation: Relation, count: int) -> str:
    """Say in letters what a relation claims."""
    letters = [_letter(index) for index in range(count)]
    listed = ", ".join(letters[:-1]) + f" and {letters[-1]}"
    return {
        "EXCLUSIVE": f"Of {listed} at most one comes true.",
        "EXHAUSTIVE": f"Of {listed} at least one comes true.",
        "IMPLIES": "If A comes true, so does B.",
        "EQUIVALENT": f"{listed} come true together or not at all.",
        "COMPLEMENT": "Exactly one of A and B comes true.",
        "UNION": f"A comes true exactly if one of {', '.join(letters[1:])} does, and only one can.",
        "LADDER": f"Each implies the next: {' → '.join(letters)}.",
    }[relation.type]


# --- acts ---------------------------------------------------------------------------


def decider(request: HttpRequest) -> User:
    """Return who may decide; raise `PermissionDenied` for anybody else."""
    if not isinstance(request.user, User) or not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    return request.user


def _approve(request: HttpRequest, pk: int) -> None:
    approve(
        pk,
        by=decider(request),
        at=timezone.now(),
        seen=request.POST.get("seen", ""),
        checked=request.POST.getlist("checked"),
        reason=request.POST.get("reason", ""),
    )


def _with_reason(act: Callable[..., Relation]) -> Callable[[HttpRequest, int], None]:
    def run(request: HttpRequest, pk: int) -> None:
        reason = request.POST.get("reason", "")
        act(pk, by=decider(request), at=timezone.now(), reason=reason)

    return run


_ACTS: dict[str, tuple[str, Callable[[HttpRequest, int], None]]] = {
    "approve": ("Approved", _approve),
    "reject": ("Rejected", _with_reason(reject)),
    "invalidate": ("Taken out of use", _with_reason(invalidate)),
    "reopen": ("Waits again", _with_reason(reopen)),
}
_ACTS_IN: dict[str, tuple[tuple[str, str], ...]] = {
    State.PROPOSED: (("approve", "Approve"), ("reject", "Reject")),
    State.APPROVED: (("invalidate", "Take out of use"),),
    State.REJECTED: (("reopen", "Look at it again"),),
    State.INVALIDATED: (("reopen", "Look at it again"),),
}


# --- adding by hand ---------------------------------------------------------------


def _member(text: str) -> Member:
    market_id, _, outcome = text.partition(":")
    if outcome not in ("", "0", "1"):
        raise ValidationError(
            f"{text}: write a market's id, or the id and :1 for its second outcome."
        )
    return market_id.strip(), int(outcome or 0)


class RelationForm(_RelationForm):
    """A relation that a person thought of."""

    members = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text=(
            "Market ids, one a line, in order: an implication runs from the first to the last, "
            "a union begins with the whole. Add :1 for a market's second outcome."
        ),
    )

    class Meta:
        model = Relation
        fields = ("type", "members", "reason")
        labels: ClassVar = {"reason": "why it holds"}

    def clean_members(self) -> list[Member]:
        return [_member(line) for line in str(self.cleaned_data["members"]).split()]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        if "members" in cleaned and "type" in cleaned:
            try:
                at_outcome_0(self.relation_type, cleaned["members"])
            except NotExpressible as error:
                raise ValidationError(str(error)) from error
        return cleaned

    @property
    def relation_type(self) -> RelationType:
        return cast(RelationType, str(self.cleaned_data["type"]).lower())


# --- relations ---------------------------------------------------------------------


class Screen:
    """What the screens to decide on share."""

    class Media:
        css: ClassVar = {"all": ["markets/relations.css"]}
        js: ClassVar = ["markets/inbox.js"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what was decided stays on record


@admin.register(Relation)
class RelationAdmin(Screen, _RelationAdmin):
    form = RelationForm
    list_display = ("what", "type", "state", "score", "method", "origin", "proposed_at", "decided")
    list_filter = ("state", "type", "method", "origin")
    list_select_related = ("decided_by",)
    search_fields = ("=members__market__id",)
    search_help_text = "A whole market id."
    ordering = ("-proposed_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    change_list_template = "admin/markets/relation/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Relation]:
        return super().get_queryset(request).prefetch_related("members__market")

    def get_urls(self) -> list[URLPattern]:
        inbox = self.admin_site.admin_view(self.inbox_view)
        return [path("inbox/", inbox, name="markets_relation_inbox"), *super().get_urls()]

    @admin.display(description="what")
    def what(self, relation: Relation) -> SafeString:
        members = sorted(relation.members.all(), key=lambda each: each.position)
        questions = " / ".join(each.market.question[:70] for each in members[:2])
        more = f" and {len(members) - 2} more" if len(members) > 2 else ""
        return format_html("{}{}", questions, more)

    @admin.display(description="decided by", ordering="decided_by")
    def decided(self, relation: Relation) -> str:
        return relation.decided_by.get_username() if relation.decided_by else ""

    # --- the inbox ---

    def inbox_view(self, request: HttpRequest) -> HttpResponse:
        """Go to what waits first, or say that nothing does."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        first = _waiting(request).first()
        if first is not None:
            return HttpResponseRedirect(_address(first.pk, request))
        context = {**self.admin_site.each_context(request), "title": "Relations to decide on"}
        context |= {"opts": self.opts, "filtered": bool(_filters(request)), "media": self.media}
        return TemplateResponse(request, "admin/markets/relation/empty.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one relation with everything to decide it on; decide it."""
        relation = shown_row(self, request, object_id)
        if request.method == "POST":
            return self._decide(request, relation)
        return TemplateResponse(
            request, "admin/markets/relation/decide.html", self._context(request, relation)
        )

    def _decide(self, request: HttpRequest, relation: Relation) -> HttpResponse:
        told, act = _ACTS.get(request.POST.get("act", ""), ("", None))
        if act is None:
            raise PermissionDenied
        onward = _neighbours(request, relation)[1]
        try:
            act(request, relation.pk)
        except Refusal as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(_address(relation.pk, request))
        self.message_user(request, f"{told}: {self.what(relation)}", messages.SUCCESS)
        if relation.state == State.PROPOSED and onward is None:
            return HttpResponseRedirect(_inbox(request))
        following = onward if relation.state == State.PROPOSED else relation.pk
        return HttpResponseRedirect(_address(following, request))

    def _context(self, request: HttpRequest, relation: Relation) -> dict[str, Any]:
        sides = sides_of(relation)
        before, after = _neighbours(request, relation)
        stated = stated_of(side.market.pk for side in sides)
        return {
            **self.admin_site.each_context(request),
            "title": sentence(relation, len(sides)),
            "opts": self.opts,
            "media": self.media,
            "relation": relation,
            "sides": sides,
            "checks": [_shown(check) for check in relation.checks],
            "changed": differences(relation, stated),
            "acts": _ACTS_IN[relation.state] if request.user.has_perm(PERMISSION) else (),
            "waiting": _waiting(request).count(),
            "before": _address(before, request) if before else "",
            "after": _address(after, request) if after else "",
            "filters": _filter_links(request),
            "history": history_of(f"relation:{relation.pk}"),
        }

    # --- by hand ---

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def has_change_permission(self, request: HttpRequest, obj: Relation | None = None) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def save_model(self, request: HttpRequest, obj: Relation, form: Any, change: bool) -> None:
        made = propose_by_hand(
            form.relation_type,
            form.cleaned_data["members"],
            by=decider(request),
            at=timezone.now(),
            reason=form.cleaned_data["reason"],
        )
        obj.pk = made.pk

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().add_view(request, form_url, extra_context)
        except (AlreadyKnown, UnknownMarket, ReasonMissing) as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def response_add(
        self, request: HttpRequest, obj: Relation, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.message_user(request, "It waits for approval like any other.", messages.SUCCESS)
        return HttpResponseRedirect(_address(obj.pk, request))

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None  # the audit chain has it


def _filters(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET[name] for name in FILTERS if request.GET.get(name)}


def _waiting(request: HttpRequest) -> QuerySet[Relation]:
    return Relation.objects.proposed().filter(**_filters(request))


def _neighbours(request: HttpRequest, relation: Relation) -> tuple[int | None, int | None]:
    """Return what waits before and after a relation, in the inbox's order."""
    waiting = _waiting(request)
    after = Q(score__lt=relation.score) | Q(score=relation.score, pk__gt=relation.pk)
    before = Q(score__gt=relation.score) | Q(score=relation.score, pk__lt=relation.pk)
    backwards = waiting.filter(before).order_by("score", "-id")
    return (
        backwards.values_list("pk", flat=True).first(),
        waiting.filter(after).values_list("pk", flat=True).first(),
    )


def _address(pk: int | None, request: HttpRequest) -> str:
    return _with_filters(reverse("admin:markets_relation_change", args=[pk]), _filters(request))


def _inbox(request: HttpRequest) -> str:
    return _with_filters(reverse("admin:markets_relation_inbox"), _filters(request))


def _with_filters(address: str, filters: dict[str, str]) -> str:
    return f"{address}?{urlencode(filters)}" if filters else address


def _filter_links(request: HttpRequest) -> list[tuple[str, str, int, bool]]:
    """Return (name, address, count, chosen) for each way to narrow the inbox by method."""
    inbox = reverse("admin:markets_relation_inbox")
    chosen = _filters(request)
    methods = Relation.objects.filter(state=State.PROPOSED).values_list("method", flat=True)
    counts: dict[str, int] = {}
    for method in methods:
        counts[method] = counts.get(method, 0) + 1
    links = [("all", inbox, sum(counts.values()), not chosen)]
    for method, count in sorted(counts.items()):
        if method:
            narrowed = {"method": method}
            links.append((method, _with_filters(inbox, narrowed), count, chosen == narrowed))
    return links


def history_of(subject: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(subject=subject).order_by("-id")[:MOST_HISTORY])
