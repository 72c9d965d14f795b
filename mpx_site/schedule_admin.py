"""The schedule in the admin: every edit is in the audit chain, and `up` obeys it too."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import ClockedSchedule, PeriodicTask, SolarSchedule

from alerts import journal


class ScheduleAdmin(PeriodicTaskAdmin):  # type: ignore[misc]  # the package has no types
    change_form_template = None  # its own has a script inside the page, which our policy stops
    date_hierarchy = None
    list_display = ("name", "enabled", "scheduler", "last_run_at", "total_run_count")
    list_filter = ("enabled",)
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "description", "regtask", "task", "enabled")}),
        ("When", {"fields": ("interval", "crontab", "start_time", "last_run_at", "one_off")}),
        (
            "More",
            {
                "classes": ("collapse",),
                "fields": ("args", "kwargs", "queue", "expires", "expire_seconds"),
            },
        ),
    )
    readonly_fields = ("last_run_at",)

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        _expire_in_time(obj)
        super().save_model(request, obj, form, change)
        _record("schedule.changed" if change else "schedule.added", obj, request)

    def delete_model(self, request: HttpRequest, obj: PeriodicTask) -> None:
        _record("schedule.removed", obj, request)
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        for job in queryset:
            _record("schedule.removed", job, request)
        super().delete_queryset(request, queryset)

    @admin.action(description="Enable selected jobs", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, on=True)

    @admin.action(description="Disable selected jobs", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, on=False)

    @admin.action(description="Toggle selected jobs", permissions=["change"])
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        for job in queryset:
            self._switch(request, [job], on=not job.enabled)

    @admin.action(description="Run selected jobs now", permissions=["change"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Send them to the workers; in one process without a broker, let them be due."""
        if settings.REDIS_URL:
            super().run_tasks(request, queryset)
            return
        due = queryset.update(last_run_at=None)
        self.message_user(request, f"{due} job(s) start within a second.", messages.SUCCESS)

    @transaction.atomic
    def _switch(self, request: HttpRequest, jobs: Any, *, on: bool) -> None:
        for job in jobs:
            job.enabled = on
            job.save()  # tells beat, too
            _record("schedule.changed", job, request)


def _expire_in_time(job: PeriodicTask) -> None:
    """Let a message be worth no more than until the next one, whatever the period is now."""
    if job.interval and not job.expires:
        period = int(job.interval.schedule.run_every.total_seconds())
        job.expire_seconds = max(1, min(job.expire_seconds or period, period))


def _record(kind: str, job: PeriodicTask, request: HttpRequest) -> None:
    """Write down what a job is set to; the admin's views run in a transaction."""
    journal.record(
        kind=kind,
        subject=f"schedule:{job.name}"[:120],
        actor=request.user.get_username(),
        at=timezone.now(),
        data={
            "task": job.task,
            "when": str(job.scheduler),
            "enabled": job.enabled,
            "args": job.args,
            "kwargs": job.kwargs,
        },
    )


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, ScheduleAdmin)
admin.site.unregister(SolarSchedule)  # nothing here depends on the sun,
admin.site.unregister(ClockedSchedule)  # and nothing happens just once
