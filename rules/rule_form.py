"""The text of a rule as a form: what is wrong with it, beside what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rules.dsl import RuleDefinition, RuleError
from rules.load import Outdated, difference, validate
from rules.models import Rule, RuleVersion
from rules.strict_yaml import Problem

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _RuleForm = forms.ModelForm[Rule]
else:
    _RuleForm = forms.ModelForm

CHECK: Final = "_check"  # the button that publishes nothing
MOST_PROBLEMS: Final = 20
EXCERPT: Final = 60  # characters of a line on each side of the place
HELP = (
    "Saving publishes a new version; versions never change. "
    "What only changes comments or layout stays the version it is."
)


class RuleForm(_RuleForm):
    """The text of a rule. Problems name line and column of what was typed.

    Pressed with `_check`, it is never valid: the page comes again, with `checked` set if
    the text is good, and `changes` to what is current.
    """

    text = forms.CharField(
        label="YAML",
        strip=False,  # a stripped first line would shift every line number
        widget=forms.Textarea(
            attrs={"rows": 32, "spellcheck": "false", "autocapitalize": "off", "wrap": "off"}
        ),
        help_text=HELP,
    )
    seen = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Rule
        fields = ("enabled",)
        help_texts: ClassVar = {"enabled": "The desk's switch. The text has its own; both count."}

    definition: RuleDefinition
    checked = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.current is not None:
            self.initial.update(text=self.current.source, seen=self.current.number)

    @property
    def current(self) -> RuleVersion | None:
        current: RuleVersion | None = self.instance.current
        return current

    @property
    def changes(self) -> tuple[str, ...]:
        """Return what saving would change of what is current, as a unified diff."""
        return difference(self.current, self.definition, name="your text")

    def is_valid(self) -> bool:
        valid = super().is_valid()
        self.checked = valid and CHECK in self.data
        return valid and not self.checked

    def clean_text(self) -> str:
        text = str(self.cleaned_data["text"]).replace("\r\n", "\n")
        try:
            self.definition = validate(text, name="text")
        except RuleError as error:
            raise ValidationError(told(error, text)) from error
        self._check_code(self.definition)
        return text

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        current, seen = self.current, self.cleaned_data.get("seen")
        if current is not None and seen != current.number:
            raise ValidationError(str(Outdated(self.instance, current=current.number)))
        return cleaned

    def _check_code(self, definition: RuleDefinition) -> None:
        code = self.instance.code
        if code and definition.code != code:
            raise ValidationError(
                f"The code of this rule is {code}; add a new rule for {definition.code}."
            )
        if not code and Rule.objects.filter(code=definition.code).exists():
            raise ValidationError(f"{definition.code} exists; edit that rule instead.")


def told(error: RuleError, text: str) -> list[str]:
    """Return each problem with its place and the line it is about."""
    lines = text.split("\n")
    shown: list[str] = [_shown(problem, lines) for problem in error.problems[:MOST_PROBLEMS]]
    more = len(error.problems) - MOST_PROBLEMS
    return shown if more <= 0 else [*shown, f"and {more} more"]


def _shown(problem: Problem, lines: list[str]) -> SafeString:
    line = lines[problem.line - 1] if problem.line <= len(lines) else ""
    first = max(0, problem.column - 1 - EXCERPT)
    excerpt = line[first : problem.column - 1 + EXCERPT].replace("\t", " ")
    return format_html(
        '<span class="rule-place" data-line="{}" data-column="{}">line {}, column {}: {}</span>'
        '<span class="rule-excerpt" aria-hidden="true">{}\n{}^</span>',
        *(problem.line, problem.column, problem.line, problem.column, problem.text),
        *(excerpt, " " * (problem.column - 1 - first)),
    )
