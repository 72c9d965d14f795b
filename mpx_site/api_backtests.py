"""`/api/v1/backtests`: what was run over the past, over which data, and what came of it."""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from execution.backtest_models import BacktestRun
from mpx_site.api import documented
from mpx_site.api_answers import NoQuery, PagedQuery, asked, page, read_cursor, write_cursor
from mpx_site.api_rows import Row
from mpx_site.api_view import ApiView

MOST_ID = 2**63 - 1


class BacktestQuery(PagedQuery):
    state = serializers.ChoiceField(choices=BacktestRun.State.choices, required=False)


class BacktestRow(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    title = serializers.CharField()
    state = serializers.ChoiceField(choices=BacktestRun.State.choices)
    asked_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    permille = serializers.IntegerField(help_text="Of the frames, read so far.")
    frames_per_s = serializers.FloatField()
    seconds_left = serializers.FloatField(allow_null=True)
    reason = serializers.CharField(help_text="Why it failed; else empty.")
    read = serializers.JSONField(
        source="data",
        allow_null=True,
        help_text="Window (unix ns), coverage, gaps, kind and hash; null: not done.",
    )


class BacktestDetail(BacktestRow):
    asked = serializers.JSONField(help_text="Rules as they ran, sets, terms, window, source.")
    notes = serializers.ListField(child=serializers.CharField())
    code_version = serializers.CharField()
    fingerprint = serializers.CharField(
        help_text="The same for the same rules, terms, data and code."
    )
    results = serializers.ListField(
        child=serializers.JSONField(),
        help_text="A row for each rule and set, as `backtest --json` prints them.",
    )


class BacktestList(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    results = BacktestRow(many=True)


COLUMNS = tuple(name for name in map(str, BacktestRow().fields) if name != "read")


class Backtests(ApiView):
    """Backtests, newest first."""

    @documented("backtests_list", BacktestList, query=BacktestQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, BacktestQuery)
        found = BacktestRun.objects.order_by("-id").defer("asked", "notes")
        if "state" in query:
            found = found.filter(state=query["state"])
        position = read_cursor(query.get("cursor"), tuple[int])
        if position is not None:
            found = found.filter(id__lt=min(position[0], MOST_ID))
        size = query["page_size"]
        runs = list(found[: size + 1])
        cursor = write_cursor((runs[size - 1].pk,)) if len(runs) > size else None
        return Response(page(request, list(map(_row, runs[:size])), next_cursor=cursor))


class BacktestById(ApiView):
    """One backtest with all that it was asked for and all its results."""

    @documented("backtests_retrieve", BacktestDetail)
    def get(self, request: Request, run_id: int) -> Response:
        asked(request, NoQuery)
        run = BacktestRun.objects.filter(pk=min(run_id, MOST_ID)).first()
        if run is None:
            raise exceptions.NotFound(f"No backtest has the number {run_id}.")
        results = run.results.order_by("place").values_list("summary", flat=True)
        more = {
            "asked": run.asked,
            "notes": run.notes,
            "code_version": run.code_version,
            "fingerprint": run.fingerprint,
            "results": list(results),
        }
        return Response(_row(run) | more)


def _row(run: BacktestRun) -> Row:
    return {name: getattr(run, name) for name in COLUMNS} | {"read": run.data}
