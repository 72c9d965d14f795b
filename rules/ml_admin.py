"""Models in the admin: activate, retire, roll back, and say what is too unlikely for an alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from rules import ml_registry
from rules.ml_models import MlModel
from rules.ml_registry import ACTIVATE, NotAllowed

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _MlModelAdmin = admin.ModelAdmin[MlModel]
else:
    _MlModelAdmin = admin.ModelAdmin


@admin.register(MlModel)
class MlModelAdmin(_MlModelAdmin):
    list_display = ("__str__", "state", "passed", "source", "skill", "ece", "trained_at", "short")
    list_filter = ("state", "passed")
    search_fields = ("sha256",)
    ordering = ("-id",)
    fields = (
        "state",
        "suppress_below",
        "passed",
        "why_not",
        "source",
        "skill",
        "ece",
        "trained_at",
        "trained_by",
        "activated_at",
        "retired_at",
        "sha256",
        "features_sha256",
    )
    readonly_fields = tuple(name for name in fields if name != "suppress_below")
    actions = ("activate", "retire", "roll_back")

    # --- who may -----------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # `manage.py train_model` makes models

    def has_delete_permission(self, request: HttpRequest, obj: MlModel | None = None) -> bool:
        return False  # what was said of signals refers to them; retire one instead

    def has_change_permission(self, request: HttpRequest, obj: MlModel | None = None) -> bool:
        return self.has_activate_permission(request)

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACTIVATE)

    # --- acting ------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: MlModel, form: Any, change: bool) -> None:
        below = form.cleaned_data.get("suppress_below")
        ml_registry.set_suppression(obj, below, by=_user(request), at=timezone.now())

    @admin.action(description="Activate: its word counts from now on", permissions=["activate"])
    def activate(self, request: HttpRequest, queryset: QuerySet[MlModel]) -> None:
        if queryset.count() != 1:
            self._refuse(request, "Choose exactly one model: only one can be active.")
            return
        model = queryset.get()
        try:
            ml_registry.activate(model, by=_user(request), at=timezone.now())
        except NotAllowed as error:
            self._refuse(request, str(error))
        else:
            self._done(request, f"{model} is active. The stream follows within 5 s.")

    @admin.action(description="Retire: it is not asked any more", permissions=["activate"])
    def retire(self, request: HttpRequest, queryset: QuerySet[MlModel]) -> None:
        for model in queryset.order_by("pk"):
            try:
                ml_registry.retire(model, by=_user(request), at=timezone.now())
            except NotAllowed as error:
                self._refuse(request, str(error))
            else:
                self._done(request, f"{model} is retired.")

    @admin.action(
        description="Roll back: the model that was active before (whichever is chosen)",
        permissions=["activate"],
    )
    def roll_back(self, request: HttpRequest, queryset: QuerySet[MlModel]) -> None:
        try:
            model = ml_registry.roll_back(by=_user(request), at=timezone.now())
        except NotAllowed as error:
            self._refuse(request, str(error))
        else:
            self._done(request, f"{model} is active again. The stream follows within 5 s.")

    def _refuse(self, request: HttpRequest, why: str) -> None:
        self.message_user(request, f"Nothing was changed: {why}", messages.ERROR)

    def _done(self, request: HttpRequest, what: str) -> None:
        self.message_user(request, what, messages.SUCCESS)

    # --- columns -----------------------------------------------------------------------

    @admin.display(description="learnt from")
    def source(self, model: MlModel) -> str:
        window = model.report.get("window", {})
        return f"{window.get('source', '')} ({window.get('samples', 0):,} episodes)"

    @admin.display(description="Brier skill")
    def skill(self, model: MlModel) -> str:
        return _figure(model, "skill")

    @admin.display(description="ECE")
    def ece(self, model: MlModel) -> str:
        return _figure(model, "ece")

    @admin.display(description="sha256")
    def short(self, model: MlModel) -> str:
        return model.sha256[:12]


def _figure(model: MlModel, name: str) -> str:
    value = model.report.get("purged", {}).get(name)
    return "" if value is None else f"{value:.3f}"


def _user(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None
