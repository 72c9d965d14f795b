"""What migrations write is there for every test, whatever the test before has flushed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django_celery_beat.models import PeriodicTask

from risk.models import KillSwitch, Policy


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", ["first", "after a flush"])
def test_a_test_that_flushes_the_database_takes_nothing_from_the_next(turn):
    assert PeriodicTask.objects.filter(name="poll-books", interval__every=5).exists()
    assert Policy.objects.count() == KillSwitch.objects.count() == 1
    assert {group.name for group in Group.objects.filter(permissions__isnull=False)} >= {
        "viewer",
        "approver",
    }
