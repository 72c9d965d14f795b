"""Rules in the admin: edit the text, publish by saving, look back through the versions."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rules.dsl import RuleDefinition, RuleError, parse_rule
from rules.load import definition_of, publish, switch
from rules.models import Rule, RuleVersion

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _RuleForm = forms.ModelForm[Rule]
    _RuleAdmin = admin.ModelAdmin[Rule]
    _VersionAdmin = admin.ModelAdmin[RuleVersion]
else:
    _RuleForm, _RuleAdmin, _VersionAdmin = forms.ModelForm, admin.ModelAdmin, admin.ModelAdmin

MOST_PROBLEMS = 20
PERMISSION = "rules.enable_rule"
HELP = (
    "Saving publishes a new version; versions never change. "
    "What only changes comments or layout stays the version it is."
)


class RuleForm(_RuleForm):
    """The text of a rule. Problems name line and column of what was typed."""

    text = forms.CharField(
        label="YAML",
        strip=False,  # a stripped first line would shift every line number
        widget=forms.Textarea(attrs={"rows": 45, "spellcheck": "false"}),
        help_text=HELP,
    )
    seen = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Rule
        fields = ("enabled",)
        help_texts: ClassVar = {"enabled": "The desk's switch. The text has its own; both count."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = self.instance.current
        if current is not None:
            self.initial.update(text=current.source, seen=current.number)

    def clean_text(self) -> str:
        text = str(self.cleaned_data["text"]).replace("\r\n", "\n")
        try:
            self.definition = parse_rule(text, source="text")
        except RuleError as error:
            raise ValidationError(_told(error)) from error
        self._check_code(self.definition)
        return text

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        current, seen = self.instance.current, self.cleaned_data.get("seen")
        if current is not None and seen != current.number:
            raise ValidationError(
                f"Version {current.number} was published while you were editing. "
                "Copy your text, load this page again and apply it there."
            )
        return cleaned

    def _check_code(self, definition: RuleDefinition) -> None:
        code = self.instance.code
        if code and definition.code != code:
            raise ValidationError(
                f"The code of this rule is {code}; add a new rule for {definition.code}."
            )
        if not code and Rule.objects.filter(code=definition.code).exists():
            raise ValidationError(f"{definition.code} exists; edit that rule instead.")


def _told(error: RuleError) -> list[str]:
    lines = [f"line {p.line}, column {p.column}: {p.text}" for p in error.problems]
    more = len(lines) - MOST_PROBLEMS
    return lines if more <= 0 else [*lines[:MOST_PROBLEMS], f"and {more} more"]


@admin.register(Rule)
class RuleAdmin(_RuleAdmin):
    class Media:
        css: ClassVar = {"all": ["rules/admin.css"]}

    form = RuleForm
    list_display = ("code", "title", "enabled", "version", "fingerprint", "changed_at")
    list_filter = ("enabled",)
    search_fields = ("code", "title")
    list_select_related = ("current",)
    ordering = ("code",)
    fields = ("code", "title", "state", "enabled", "version", "changed_at", "text", "seen")
    readonly_fields = ("code", "title", "state", "version", "changed_at")

    def get_fields(self, request: HttpRequest, obj: Rule | None = None) -> Any:
        return super().get_fields(request, obj) if obj else ("text", "seen")

    def get_readonly_fields(self, request: HttpRequest, obj: Rule | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.has_perm(PERMISSION) else (*fields, "enabled")

    def has_delete_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        return False  # signals refer to rules for ever; switch a rule off instead

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        at, by, before = timezone.now(), _user(request), obj.current_id
        version = publish(form.definition, source=form.cleaned_data["text"], by=by, at=at)
        if "enabled" in form.changed_data:
            switch(version.rule, on=form.cleaned_data["enabled"], by=by, at=at)
        obj.pk, obj.code, obj.title = version.rule.pk, version.rule.code, version.rule.title
        obj.current = version
        self._say(request, version, unchanged=version.pk == before)

    def _say(self, request: HttpRequest, version: RuleVersion, *, unchanged: bool) -> None:
        if unchanged:
            text = f"The text means what {version} means, so no version was added."
        else:
            text = f"{version} is current now."
        self.message_user(request, text, messages.SUCCESS)

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
        if not rule.enabled:
            return "no: switched off here"
        if rule.current is None:
            return "no: no version is published"
        try:
            definition = definition_of(rule.current)
        except RuleError as error:
            return f"an older version does: {error.problems[0]}"
        return "yes" if definition.enabled else "no: its text says `enabled: false`"


@admin.register(RuleVersion)
class RuleVersionAdmin(_VersionAdmin):
    class Media:
        css: ClassVar = {"all": ["rules/admin.css"]}

    list_display = ("__str__", "is_current", "fingerprint", "created_at", "author")
    list_filter = ("rule",)
    search_fields = ("rule__code", "sha256")
    list_select_related = ("rule__current", "created_by")
    ordering = ("-created_at", "-id")
    fields = ("rule", "number", "sha256", "created_at", "author", "text", "changes")
    readonly_fields = fields

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
        return version.created_by.get_username() if version.created_by else "a file"

    @admin.display(description="text")
    def text(self, version: RuleVersion) -> SafeString:
        return format_html("<pre>{}</pre>", version.source)

    @admin.display(description="change from the version before")
    def changes(self, version: RuleVersion) -> SafeString | str:
        before = version.rule.versions.filter(number=version.number - 1).first()
        if before is None:
            return "This is the first version."
        old, new = before.source.splitlines(), version.source.splitlines()
        lines = difflib.unified_diff(old, new, str(before), str(version), lineterm="")
        return format_html("<pre>{}</pre>", "\n".join(lines))


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
