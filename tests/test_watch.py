"""The watch list: what the stream follows within a budget of tokens, and why."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from alerts import journal
from alerts.models import AuditEntry
from markets import catalogue, watch
from markets.listing import read_page
from markets.models import Market, WatchRule
from markets.watch import WatchedEvent, watched, why
from tests import portal_cast as cast
from tests.listing_venue import event, market, plain

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
Kind, Effect = WatchRule.Kind, WatchRule.Effect


def store(*events: dict[str, Any]) -> None:
    catalogue.store(read_page(list(events), rejected=[]), seen_at=NOON)


def legs(number: int, count: int, *, liquidity: float, **changes: Any) -> list[dict[str, Any]]:
    """Return so many legs of a neg-risk event; together they have this liquidity."""
    each = {"liquidityNum": liquidity / count, "volumeNum": 10 * liquidity}
    return [market(10 * number + leg, **{**each, **changes}) for leg in range(count)]


def group(number: int, count: int, *, liquidity: float, **changes: Any) -> dict[str, Any]:
    return event(number, *legs(number, count, liquidity=liquidity), **changes)


def single(number: int, *, liquidity: float, **changes: Any) -> dict[str, Any]:
    only = plain(10 * number, liquidityNum=liquidity)
    return event(number, only, negRisk=False, enableNegRisk=False, **changes)


def rule(effect: Effect, kind: Kind, value: str = "", **more: Any) -> WatchRule:
    return WatchRule.objects.create(effect=effect, kind=kind, value=value, **more)


def ids(budget: int = 1_000, **more: Any) -> list[str]:
    return [each.event_id for each in watched(budget=budget, **more)]


def reason(market_id: str, budget: int = 1_000) -> str:
    return why(Market.objects.get(id=market_id), budget=budget).text


# --- ranking and budget ----------------------------------------------------


def test_the_most_liquid_events_come_first() -> None:
    store(single(1, liquidity=5), single(2, liquidity=50), group(3, 3, liquidity=20))

    found = watched(budget=1_000)

    assert [(each.event_id, each.rank, each.rule) for each in found] == [
        ("2", 1, None), ("3", 2, None), ("1", 3, None),
    ]  # fmt: skip
    assert found[1].neg_risk
    assert [each.market_id for each in found[1].markets] == ["530", "531", "532"]
    assert found[1].markets[0].token_ids == (str(10**77 + 30), str(2 * 10**77 + 30))
    assert found[1].markets[0].condition_id == market(30)["conditionId"]


def test_an_event_that_does_not_fit_leaves_its_room_to_smaller_ones() -> None:
    store(group(1, 2, liquidity=90), group(2, 3, liquidity=80), single(3, liquidity=70),
          single(4, liquidity=60))  # fmt: skip

    assert ids(budget=8) == ["1", "3", "4"]
    assert reason("520", budget=8) == (
        "Not watched: its event is number 2, by liquidity, but those before it take 4 of 8 tokens "
        "and it needs 6."
    )
    assert reason("540", budget=8) == ("Watched: its event is number 4, by liquidity; tokens: 2.")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_listed_the_budget_is_kept_and_used(seed: int) -> None:
    draw = random.Random(seed)
    sizes = {number: draw.randint(1, 9) for number in range(1, 25)}
    store(*(group(n, size, liquidity=draw.randint(1, 50)) for n, size in sizes.items()))
    budget = draw.randint(2, 120)

    found = watched(budget=budget)

    assert all(len(each.markets) == sizes[int(each.event_id)] for each in found)
    used = sum(tokens_of(each) for each in found)
    assert used <= budget
    left = {n: size for n, size in sizes.items() if str(n) not in {e.event_id for e in found}}
    assert all(2 * size > budget - used for size in left.values())


def tokens_of(each: WatchedEvent) -> int:
    return sum(len(market.token_ids) for market in each.markets)


def test_the_budget_is_a_setting(settings: Any) -> None:
    store(single(1, liquidity=2), single(2, liquidity=1))
    settings.WATCH_TOKENS = 2

    assert [each.event_id for each in watched()] == ["1"]


def test_only_what_trades_counts_and_is_followed() -> None:
    trading = legs(1, 4, liquidity=40)
    trading[1] |= {"acceptingOrders": False}
    trading[2] |= {"closed": True, "outcomePrices": '["0", "1"]'}
    store(event(1, *trading))

    (found,) = watched(budget=4)

    assert [each.market_id for each in found.markets] == ["510", "513"]
    assert reason("511") == "Not watched: it is paused."
    assert reason("512") == "Not watched: it is resolved."


def test_an_event_that_somebody_has_won_is_over() -> None:
    over = legs(1, 3, liquidity=40)
    over[1] |= {"closed": True, "outcomePrices": '["1", "0"]'}
    store(event(1, *over))

    assert ids() == []
    assert reason("510") == "Not watched: one outcome of its event has won already."


def test_what_is_followed_yields_only_to_what_is_much_more_liquid() -> None:
    store(single(1, liquidity=100), single(2, liquidity=110), single(3, liquidity=70))

    assert ids(budget=2) == ["2"]
    assert ids(budget=2, following={"1"}) == ["1"]
    assert ids(budget=2, following={"3"}) == ["2"]


def test_the_list_takes_three_queries(django_assert_num_queries: Any) -> None:
    store(*(group(number, 3, liquidity=number) for number in range(1, 20)))
    rule(Effect.EXCLUDE, Kind.LIQUIDITY, minimum_usd=3)

    with django_assert_num_queries(3):
        assert len(watched(budget=1_000)) == 17


# --- rules -----------------------------------------------------------------


def test_a_tag_can_be_all_that_is_followed() -> None:
    store(single(1, liquidity=9, tags=[{"slug": "sports"}]),
          single(2, liquidity=5, tags=[{"slug": "Politics"}, {"slug": "us"}]))  # fmt: skip
    rule(Effect.EXCLUDE, Kind.EVERYTHING, priority=-1)
    rule(Effect.INCLUDE, Kind.TAG, "politics")

    (found,) = watched(budget=1_000)

    assert (found.event_id, found.rule) == ("2", "include tag politics")
    assert reason("510") == "Not watched: a rule says exclude everything."


def test_a_higher_priority_comes_before_more_liquidity() -> None:
    store(single(1, liquidity=9), single(2, liquidity=5), single(3, liquidity=7))
    rule(Effect.INCLUDE, Kind.EVENT, "2", priority=5)

    assert ids() == ["2", "1", "3"]
    assert reason("520") == (
        "Watched: its event is number 1, by the rule: include event 2; tokens: 2."
    )


def test_at_one_priority_an_exclusion_wins() -> None:
    store(single(1, liquidity=9, tags=[{"slug": "a"}, {"slug": "b"}]))
    rule(Effect.INCLUDE, Kind.TAG, "a")
    rule(Effect.EXCLUDE, Kind.TAG, "b")

    assert ids() == []

    WatchRule.objects.filter(value="a").update(priority=1)

    assert ids() == ["1"]


@pytest.mark.parametrize(("kind", "minimum", "left"), [
    (Kind.LIQUIDITY, 30, ["2"]), (Kind.LIQUIDITY, Decimal("10.01"), ["2"]),
    (Kind.LIQUIDITY, 10, ["2", "1"]), (Kind.VOLUME, 401, []), (Kind.VOLUME, 400, ["2"]),
])  # fmt: skip
def test_events_below_a_minimum_can_be_left_out(kind: Kind, minimum: Any, left: list[str]) -> None:
    store(group(1, 1, liquidity=10), group(2, 2, liquidity=40))
    Market.objects.filter(event="2").update(volume=200)
    rule(Effect.EXCLUDE, kind, minimum_usd=minimum)

    assert ids() == left


def test_events_above_a_minimum_can_come_first() -> None:
    store(single(1, liquidity=90), single(2, liquidity=50))
    Market.objects.filter(event="2").update(volume=5_000)
    rule(Effect.INCLUDE, Kind.VOLUME, minimum_usd=1_000, priority=1)

    assert ids() == ["2", "1"]


def test_one_market_is_left_out_of_a_plain_event() -> None:
    two = [plain(11, liquidityNum=5), plain(12, liquidityNum=7)]
    store(event(1, *two, negRisk=False, enableNegRisk=False))
    rule(Effect.EXCLUDE, Kind.MARKET, "512")

    (found,) = watched(budget=2)

    assert [each.market_id for each in found.markets] == ["511"]
    assert reason("512") == "Not watched: a rule says exclude market 512."
    assert reason("511").startswith("Watched")


def test_a_neg_risk_event_goes_with_its_excluded_market() -> None:
    store(group(1, 3, liquidity=9))
    rule(Effect.EXCLUDE, Kind.MARKET, "512")

    assert ids() == []
    assert reason("510") == "Not watched: a rule says exclude market 512."


def test_a_rule_that_is_off_says_nothing() -> None:
    store(single(1, liquidity=9))
    rule(Effect.EXCLUDE, Kind.EVERYTHING, enabled=False)

    assert ids() == ["1"]


@pytest.mark.parametrize("fields", [
    {"kind": "TAG"}, {"kind": "EVENT", "value": "1", "minimum_usd": 5}, {"kind": "LIQUIDITY"},
    {"kind": "VOLUME", "value": "1", "minimum_usd": 5}, {"kind": "EVERYTHING", "value": "x"},
])  # fmt: skip
def test_a_rule_that_does_not_say_what_is_refused(fields: dict[str, Any]) -> None:
    wrong = WatchRule(effect=Effect.EXCLUDE, **fields)

    with pytest.raises(ValidationError, match="Tag, event and market need a value"):
        wrong.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        wrong.save()


# --- pins ------------------------------------------------------------------


def test_a_pinned_market_brings_its_whole_event_before_all_others() -> None:
    store(group(1, 3, liquidity=1), single(2, liquidity=99))
    rule(Effect.INCLUDE, Kind.EVENT, "2", priority=1_000)
    rule(Effect.EXCLUDE, Kind.EVENT, "1", priority=1_000)

    assert watch.pin(Kind.MARKET, "511", by="operator")

    (found,) = watched(budget=6)
    assert (found.event_id, found.rule, len(found.markets)) == ("1", "pin market 511", 3)


def test_a_pin_is_one_rule_and_can_be_taken_away() -> None:
    store(single(1, liquidity=1))

    assert watch.pin(Kind.EVENT, "1", by="operator")
    assert not watch.pin(Kind.EVENT, "1", by="operator")
    assert WatchRule.objects.count() == 1
    assert watch.unpin(Kind.EVENT, "1", by="operator")
    assert not watch.unpin(Kind.EVENT, "1", by="operator")
    assert not WatchRule.objects.exists()


def test_pins_are_in_the_audit_chain() -> None:
    watch.pin(Kind.EVENT, "1", by="operator")
    watch.unpin(Kind.EVENT, "1", by="deputy")

    told = AuditEntry.objects.order_by("id").values_list("kind", "subject", "actor")
    assert list(told) == [
        ("watch.pinned", "event:1", "operator"), ("watch.unpinned", "event:1", "deputy"),
    ]  # fmt: skip
    assert journal.verify() == 2


# --- in the admin ----------------------------------------------------------


def act(client: Client, model: str, action: str, pk: str) -> Any:
    address = reverse(f"admin:markets_{model}_changelist")
    return client.post(address, {"action": action, "_selected_action": [pk]}, follow=True)


@pytest.mark.parametrize(("model", "pk"), [("event", "1"), ("market", "510")])
def test_an_operator_pins_and_unpins_by_hand(client: Client, model: str, pk: str) -> None:
    store(single(1, liquidity=1))
    client.force_login(cast.operator())

    page = act(client, model, "pin", pk).content.decode()

    assert "1 pinned" in page
    assert ids() == ["1"]
    pinned = WatchRule.objects.get()
    assert (pinned.kind, pinned.value, pinned.effect) == (model.upper(), pk, "PIN")
    assert "1 unpinned" in act(client, model, "unpin", pk).content.decode()
    assert not WatchRule.objects.exists()


def test_who_may_only_look_cannot_pin(client: Client) -> None:
    store(single(1, liquidity=1))
    viewer = cast.viewer()
    viewer.is_staff = True
    viewer.save()
    viewer.user_permissions.set(Permission.objects.filter(codename="view_market"))
    client.force_login(viewer)

    act(client, "market", "pin", "510")

    assert not WatchRule.objects.exists()


def test_the_market_page_says_why_it_is_watched_or_not(client: Client) -> None:
    store(single(1, liquidity=1))
    client.force_login(cast.operator())

    page = client.get(reverse("admin:markets_market_change", args=["510"])).content.decode()

    assert "Watched: its event is number 1, by liquidity; tokens: 2." in page


def test_an_edit_of_a_rule_is_in_the_audit_chain(client: Client) -> None:
    client.force_login(cast.operator())
    form = {"effect": "EXCLUDE", "kind": "TAG", "value": "sports", "priority": "3",
            "enabled": "on", "note": "too fast for us"}  # fmt: skip

    client.post(reverse("admin:markets_watchrule_add"), form)
    added = WatchRule.objects.get()
    client.post(reverse("admin:markets_watchrule_delete", args=[added.pk]), {"post": "yes"})

    told = AuditEntry.objects.filter(kind__startswith="watch.").order_by("id")
    assert [(each.kind, each.actor, each.data["rule"]) for each in told] == [
        ("watch.rule_added", "operator", "exclude tag sports"),
        ("watch.rule_removed", "operator", "exclude tag sports"),
    ]


def test_a_rule_that_says_nothing_is_explained_in_the_form(client: Client) -> None:
    client.force_login(cast.operator())
    form = {"effect": "EXCLUDE", "kind": "TAG", "value": "", "priority": "0"}

    page = client.post(reverse("admin:markets_watchrule_add"), form).content.decode()

    assert "Tag, event and market need a value" in page
    assert not WatchRule.objects.exists()


def test_contradictions_can_be_counted_in_the_admin(client: Client) -> None:
    store(single(1, liquidity=1), event(2, plain(20, question="Gone by March 31?")))
    client.force_login(cast.operator())

    address = reverse("admin:markets_market_changelist")
    page = client.get(f"{address}?conflict__isempty=0").content.decode()

    assert "1 market" in page
    assert "Gone by March 31?" in page
