"""A person's saved views of the page that is shown."""

from __future__ import annotations

from django import template
from django.contrib.auth.models import User
from django.http import HttpRequest

from mpx_site.portal.views_saved import SavedView, views_of

register = template.Library()


@register.simple_tag
def views_here(request: HttpRequest) -> list[SavedView]:
    user = request.user
    return views_of(user, request.path) if isinstance(user, User) else []
