"""Groups of the same subject, and the inbox of relations."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from markets.relation_models import Relation, SynonymGroup
from markets.relations import PERMISSION
from mpx_site.portal import exports, groups, groups_relations, steps
from mpx_site.portal.filters import AskedGroups, AskedRelations

NO_GROUP, NO_RELATION = "There is no group of this number.", "There is no relation of this number."
MISSING: dict[object, str] = {SynonymGroup: NO_GROUP, Relation: NO_RELATION}
NO_ACT = "There is no such decision."
MAY_NOT = "Deciding relations takes the right to decide them."


@require_safe
@never_cache
@steps.for_roles
def group_list(request: HttpRequest) -> HttpResponseBase:
    asked = AskedGroups(request.GET)
    rows = groups.wanted(asked)
    if (file := exports.answer(request, rows, groups.COLUMNS, name="groups")) is not None:
        return file
    page = groups.group_list(asked, request.GET)
    return render(request, "portal/groups.html", {"page": page})


@require_safe
@never_cache
@steps.for_roles
def group(request: HttpRequest, number: int) -> HttpResponse:
    try:
        page = groups.group_page(number)
    except SynonymGroup.DoesNotExist:
        raise Http404(NO_GROUP) from None
    return render(request, "portal/group.html", {"page": page})


@require_POST
@never_cache
@steps.for_permission(PERMISSION, MAY_NOT)
def group_decide(request: HttpRequest, number: int) -> HttpResponse:
    """Approve a group with the markets that are ticked, or reject it with a reason."""
    _decided(request, groups.decide, number, SynonymGroup)
    return HttpResponseRedirect(reverse("group", args=[number]))


def _decided(
    request: HttpRequest,
    decide: Callable[..., str],
    number: int,
    model: type[SynonymGroup] | type[Relation],
) -> None:
    """Do what a person decided and tell it; what is refused leaves all as it is and says why."""
    by, act = steps.person(request), request.POST.get("act", "")
    try:
        told = decide(number, act, by=by, at=timezone.now(), sent=request.POST)
    except model.DoesNotExist:
        raise Http404(MISSING[model]) from None
    except KeyError:
        raise PermissionDenied(NO_ACT) from None
    except groups_relations.Refusal as refusal:
        messages.error(request, f"Nothing was decided. {refusal}")
    else:
        messages.success(request, told)


@require_safe
@never_cache
@steps.for_roles
def relation_list(request: HttpRequest) -> HttpResponseBase:
    asked = AskedRelations(request.GET)
    rows = groups_relations.wanted(asked)
    columns = groups_relations.COLUMNS
    if (file := exports.answer(request, rows, columns, name="relations")) is not None:
        return file
    page = groups_relations.relation_list(asked, request.GET)
    return render(request, "portal/relations.html", {"page": page})


@require_safe
@never_cache
@steps.for_roles
def relation(request: HttpRequest, number: int) -> HttpResponse:
    by = steps.person(request)
    try:
        page = groups_relations.relation_page(number, by=by, at=timezone.now())
    except Relation.DoesNotExist:
        raise Http404(NO_RELATION) from None
    return render(request, "portal/relation.html", {"page": page})


@require_POST
@never_cache
@steps.for_permission(PERMISSION, MAY_NOT)
def decide(request: HttpRequest, number: int) -> HttpResponse:
    _decided(request, groups_relations.decide, number, Relation)
    return HttpResponseRedirect(reverse("relation", args=[number]))
