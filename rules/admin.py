"""Rules in the admin: edit the text, check it, publish by saving, switch, roll back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from rules.dsl import RuleError
from rules.load import (
    SWITCH,
    SYSTEM,
    Outdated,
    UnknownVersion,
    authors_of,
    difference,
    history_of,
    publish_text,
    roll_back,
    state_of,
    switch,
    version_of,
)
from rules.ml_admin import MlModelAdmin as MlModelAdmin
from rules.models import Rule, RuleVersion
from rules.rule_form import RuleForm

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _RuleAdmin = admin.ModelAdmin[Rule]
    _VersionAdmin = admin.ModelAdmin[RuleVersion]
else:
    _RuleAdmin, _VersionAdmin = admin.ModelAdmin, admin.ModelAdmin

MOST_VERSIONS = 20
MOST_HISTORY = 20


@admin.register(Rule)
class RuleAdmin(_RuleAdmin):
    class Media:
        css: ClassVar = {"all": ["rules/admin.css"]}
        js: ClassVar = ["rules/editor.js"]

    form = RuleForm
    list_display = ("code", "title", "enabled", "state", "version", "fingerprint", "changed_at")
    list_filter = ("enabled",)
    search_fields = ("code", "title")
    list_select_related = ("current",)
    ordering = ("code",)
    fields = ("code", "title", "state", "enabled", "version", "changed_at", "text", "seen")
    readonly_fields = ("code", "title", "state", "version", "changed_at")
    actions = ("switch_on", "switch_off")
    change_form_template = "admin/rules/rule/change_form.html"

    # --- who may -----------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Rule | None = None) -> Any:
        return super().get_fields(request, obj) if obj else ("text", "seen")

    def get_readonly_fields(self, request: HttpRequest, obj: Rule | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if self.has_switch_permission(request) else (*fields, "enabled")

    def has_delete_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        return False  # signals refer to rules for ever; switch a rule off instead

    def has_switch_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(SWITCH)

    # --- saving ------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        at, by, text = timezone.now(), _user(request), form.cleaned_data["text"]
        seen = form.cleaned_data["seen"] or 0
        done = publish_text(text, name="text", seen=seen, by=by, at=at)
        version = done.version
        if "enabled" in form.changed_data:
            switch(version.rule, on=form.cleaned_data["enabled"], by=by, at=at)
        obj.pk, obj.code, obj.title = version.rule.pk, version.rule.code, version.rule.title
        obj.current = version
        self._say(request, version, unchanged=done.change == "unchanged")

    def _say(self, request: HttpRequest, version: RuleVersion, *, unchanged: bool) -> None:
        if unchanged:
            text = f"The text means what {version} means, so no version was added."
        else:
            text = f"{version} is current now."
        self.message_user(request, text, messages.SUCCESS)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        rule = self.get_object(request, object_id) if object_id else None
        shown = self._shown(request, rule) if rule else {}
        try:
            return super().changeform_view(
                request, object_id, form_url, {**shown, **(extra_context or {})}
            )
        except Outdated as error:  # between the form's own check and the publication
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def _shown(self, request: HttpRequest, rule: Rule) -> dict[str, Any]:
        versions = list(rule.versions.newest_first()[:MOST_VERSIONS])
        authors = authors_of(rule)
        return {
            "rule_versions": [(each, authors.get(each.number, SYSTEM)) for each in versions],
            "rule_more": rule.versions.count() - len(versions),
            "rule_history": history_of(rule, most=MOST_HISTORY),
            "may_switch": self.has_switch_permission(request),
        }

    # --- switching and rolling back ----------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        switching = self.admin_site.admin_view(require_POST(self.switch_view))
        back = self.admin_site.admin_view(self.back_view)
        return [
            path("<int:pk>/switch/", switching, name="rules_rule_switch"),
            path("<int:pk>/back/<int:number>/", back, name="rules_rule_back"),
            *super().get_urls(),
        ]

    def switch_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        rule = self._switchable(request, pk)
        self._switch(request, [rule], on=request.POST.get("on") == "1")
        return _to(rule)

    def back_view(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        """Show what going back to a version would change, and do it on a POST."""
        rule = self._switchable(request, pk)
        try:
            version = version_of(rule, number)
        except UnknownVersion as error:
            raise Http404(str(error)) from error
        if request.method == "POST":
            return self._back(request, rule, version)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Go back to {version}?",
            "opts": self.opts,
            "rule": rule,
            "version": version,
            "changes": difference(rule.current, version),
        }
        return TemplateResponse(request, "admin/rules/rule/back.html", context)

    def _back(self, request: HttpRequest, rule: Rule, version: RuleVersion) -> HttpResponse:
        try:
            seen = int(request.POST.get("seen", ""))
            roll_back(rule, number=version.number, seen=seen, by=_user(request), at=timezone.now())
        except (Outdated, RuleError) as error:
            self.message_user(request, f"Nothing was changed: {error}", messages.ERROR)
        except ValueError:
            self.message_user(request, "Nothing was changed: say which was seen.", messages.ERROR)
        else:
            self._say(request, version, unchanged=False)
        return _to(rule)

    def _switchable(self, request: HttpRequest, pk: int) -> Rule:
        rule = self.get_object(request, str(pk))
        if rule is None:
            raise Http404("There is no such rule.")
        if not (self.has_switch_permission(request) and self.has_view_permission(request, rule)):
            raise PermissionDenied
        return rule

    @admin.action(description="Switch on", permissions=["switch"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._switch(request, list(queryset.order_by("code")), on=True)

    @admin.action(description="Switch off", permissions=["switch"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._switch(request, list(queryset.order_by("code")), on=False)

    def _switch(self, request: HttpRequest, rules: list[Rule], *, on: bool) -> None:
        at, by, word = timezone.now(), _user(request), "on" if on else "off"
        changed = [rule.code for rule in rules if switch(rule, on=on, by=by, at=at)]
        same = [rule.code for rule in rules if rule.code not in changed]
        if changed:
            self.message_user(request, f"Switched {word}: {', '.join(changed)}.", messages.SUCCESS)
        if same:
            self.message_user(request, f"{word.capitalize()} already: {', '.join(same)}.")

    # --- columns -----------------------------------------------------------------------

    @admin.display(description="version", ordering="current__number")
    def version(self, rule: Rule) -> str:
        if rule.current is None:
            return "none yet"
        url = reverse("admin:rules_ruleversion_changelist")
        return format_html(
            '<a href="{}?rule__id__exact={}">v{}</a>', url, rule.pk, rule.current.number
        )

    @admin.display(description="sha256")
    def fingerprint(self, rule: Rule) -> str:
        return rule.current.sha256[:12] if rule.current else ""

    @admin.display(description="runs")
    def state(self, rule: Rule) -> str:
        """Say whether the rule runs and, if not, who stops it."""
        state = state_of(rule)
        return f"{'yes' if state.runs else 'no'}: {state.why}" if state.why else "yes"


@admin.register(RuleVersion)
class RuleVersionAdmin(_VersionAdmin):
    class Media:
        css: ClassVar = {"all": ["rules/admin.css"]}

    list_display = ("__str__", "is_current", "fingerprint", "created_at", "author", "back")
    list_filter = ("rule",)
    search_fields = ("rule__code", "sha256")
    list_select_related = ("rule__current", "created_by")
    ordering = ("-created_at", "-id")
    fields = ("rule", "number", "sha256", "created_at", "author", "back", "text", "changes")
    readonly_fields = fields

    def get_list_display(self, request: HttpRequest) -> Any:
        return self._without_back(request, super().get_list_display(request))

    def get_fields(self, request: HttpRequest, obj: RuleVersion | None = None) -> Any:
        return self._without_back(request, super().get_fields(request, obj))

    def _without_back(self, request: HttpRequest, names: Any) -> list[str]:
        return [name for name in names if name != "back" or request.user.has_perm(SWITCH)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: RuleVersion | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RuleVersion | None = None) -> bool:
        return False

    @admin.display(description="current", boolean=True)
    def is_current(self, version: RuleVersion) -> bool:
        return version.rule.current_id == version.pk

    @admin.display(description="sha256")
    def fingerprint(self, version: RuleVersion) -> str:
        return version.sha256[:12]

    @admin.display(description="published by")
    def author(self, version: RuleVersion) -> str:
        return version.created_by.get_username() if version.created_by else "a file or program"

    @admin.display(description="go back")
    def back(self, version: RuleVersion) -> SafeString | str:
        if version.rule.current_id == version.pk:
            return "is current"
        url = reverse("admin:rules_rule_back", args=[version.rule_id, version.number])
        return format_html('<a href="{}">Make it current again…</a>', url)

    @admin.display(description="text")
    def text(self, version: RuleVersion) -> SafeString:
        return format_html("<pre>{}</pre>", version.source)

    @admin.display(description="change from the version before")
    def changes(self, version: RuleVersion) -> SafeString | str:
        before = version.rule.versions.filter(number=version.number - 1).first()
        if before is None:
            return "This is the first version."
        return format_html("<pre>{}</pre>", "\n".join(difference(before, version)))


def _to(rule: Rule) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:rules_rule_change", args=[rule.pk]))


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
