"""The admin as part of the desk: its first page says how things are, with ways on from there."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from mpx_site import admin_exports
from mpx_site.portal import desk


class MpxAdminSite(AdminSite):
    site_title = site_header = "MarketPulse-X"
    index_title = "The desk"
    index_template = "admin/desk_index.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        for export in (admin_exports.export_csv, admin_exports.export_json):
            self.add_action(export)

    @method_decorator(never_cache)
    @login_not_required
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send to the portal's login: there is one door."""
        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return HttpResponseRedirect(index)
        if request.user.is_authenticated:
            raise PermissionDenied("The admin is for staff accounts.")
        return redirect_to_login(request.GET.get(REDIRECT_FIELD_NAME, index))

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        at = timezone.now()
        told = {"figures": desk.figures(at=at), "troubles": desk.troubles(at=at)}
        return super().index(request, {**told, **(extra_context or {})})
