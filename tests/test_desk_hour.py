"""A desk at work on the simulated venue: what it captures, what fails, what unwinding costs.

The full form, an hour of simulated time, is `python -m tests.soak.desk_hour`.
"""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from execution.invariants import invariants
from execution.models import OrderIntent
from markets.frames import moment
from tests.desk_cast import prepare
from tests.desk_shift import Shift, figures

MINUTES = 1.5

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]


def test_desk_captures_profit_and_never_more_than_there_was(settings):
    prepare()
    settings.EXEC_MAX_DAILY_NOTIONAL = D(10_000_000)
    settings.EXEC_MAX_CONCURRENT_ORDERS = 50
    settings.EXEC_MAX_EVENT_EXPOSURE = D(100_000)
    shift = Shift()

    shift.run(MINUTES)

    told = figures(shift, minutes=MINUTES)
    assert told["over_optimum"] == []
    assert told["clean_fills"] > 0
    assert 0 < D(told["captured_by_clean_fills"]) <= D(told["lp_optimum_of_clean_fills"] + 1e-6)
    assert not OrderIntent.objects.open().exists()
    assert invariants(moment(shift.due)) == ()
