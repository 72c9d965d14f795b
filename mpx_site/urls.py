"""Every address of the desk."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from mpx_site.api_urls import root_urls

urlpatterns = [
    path("", include("mpx_site.portal.urls")),
    path("api/", include("mpx_site.api_urls")),
    path("admin/", admin.site.urls),
    *root_urls,
]
handler500 = "mpx_site.outage.failed"
