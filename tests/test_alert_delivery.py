"""From the outbox to Telegram: a Bot API on loopback takes, refuses, hangs and lies."""

from __future__ import annotations

import io
import logging
import threading
from datetime import UTC, datetime, time, timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import F

from alerts import delivery, journal
from alerts.lines import line_of
from alerts.models import Manner, OutboxEntry, Silence, Voice
from mpx_site.logs import Lines
from tests import bot_api
from tests.bot_api import CHAT, TOKEN, Answer

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
State = OutboxEntry.State


telegram = bot_api.telegram


def put(number: int = 1, *, kind: str = "signal.p1", at: datetime = AT, **changed) -> OutboxEntry:
    """Put an alert into the outbox as a signal does."""
    payload = {
        "key": f"{number:032x}", "rule": "DUTCH_BOOK_DETECT", "kind": "yes_basket", "level": "P1",
        "event_id": "7", "event_title": f"Event {number}", "edge_bps": "128.40",
        "profit": f"{number}.5", "cost": "250", **changed,
    }  # fmt: skip
    key = f"{kind}:{number}"
    journal.alert(key=key, kind=kind, payload=payload, at=at)
    return OutboxEntry.objects.filter(key=key).order_by("id")[0]


def tell(at: datetime = AT) -> int:
    return delivery.deliver(at=at, clock=lambda: at)


def states() -> list[str]:
    return list(OutboxEntry.objects.order_by("id").values_list("state", flat=True))


def voice() -> Voice:
    return Voice.objects.get(name="telegram")


# --- what is told ------------------------------------------------------------------


def test_alert_is_told_once_with_a_link(telegram):
    row = put()

    assert (tell(), tell(AT + timedelta(seconds=9))) == (1, 0)

    row.refresh_from_db()
    assert (row.state, row.transport, row.message_id, row.attempts) == ("SENT", "telegram", 1, 1)
    (message,) = telegram.taken
    assert message["chat_id"] == CHAT
    assert "<b>P1 yes basket +128.4 bps</b>\nEvent 1\n+1.50 USD on 250.00 USD" in message["text"]
    assert f'href="http://localhost:8080/signals/{1:032x}/"' in message["text"]
    assert (voice().told, voice().failures, voice().last_ok_at) == (1, 0, AT)


def test_desk_without_telegram_rehearses(settings, caplog):
    settings.TELEGRAM_ENABLED = False
    row = put()

    with caplog.at_level(logging.INFO, logger="alerts.delivery"):
        assert tell() == 1

    row.refresh_from_db()
    assert (row.state, row.transport, row.reason) == ("SENT", "dry_run", "Telegram is off")
    assert "alert.dry_run" in caplog.text


@pytest.mark.parametrize("missing", ["TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID"])
def test_desk_without_token_or_chat_rehearses(telegram, settings, missing):
    setattr(settings, missing, "")
    put()

    tell()

    assert OutboxEntry.objects.get().transport == "dry_run"
    assert telegram.asked == 0


def test_many_are_told_together_the_most_profitable_first(telegram):
    for number in range(1, 31):
        put(number)

    assert tell() == 30

    (text,) = telegram.texts
    lines = text.splitlines()
    assert lines[0] == "<b>30 alerts</b>"
    assert [line.rpartition("Event ")[2] for line in lines[1:4]] == ["30", "29", "28"]
    assert "and 10 more" in lines
    assert set(OutboxEntry.objects.values_list("reason", "message_id")) == {
        ("with 29 others", None)
    }


def test_five_hundred_in_ten_seconds_are_at_most_twenty_messages_a_minute(telegram):
    """T3. The pass runs each second, as the schedule has it; the chat is a group."""
    told = 0
    for second in range(60):
        at = AT + timedelta(seconds=second)
        if second < 10:
            for number in range(50):
                put(second * 50 + number + 1, at=at)
        told += tell(at)

    assert told == 500
    assert set(states()) == {"SENT"}
    assert len(telegram.taken) <= 20


def test_messages_of_a_minute_are_counted_for_a_group(telegram):
    for number in range(30):
        put(number + 1, at=AT + timedelta(seconds=2 * number))
        tell(AT + timedelta(seconds=2 * number))
    in_time = len(telegram.taken)
    tell(AT + timedelta(seconds=61))

    assert in_time == 20
    assert set(states()) == {"SENT"}


def test_budget_of_an_hour_holds_back_and_says_so(telegram):
    Voice.objects.create(name="telegram", budget=2)
    for number in range(8):
        put(number + 1, at=AT + timedelta(minutes=number))
        tell(AT + timedelta(minutes=number))
    assert len(telegram.taken) == 2
    waiting = OutboxEntry.objects.filter(state="PENDING").values_list("reason", flat=True)
    assert set(waiting) == {"the hour's budget of messages is spent"}

    tell(AT + timedelta(minutes=61))

    assert "6 alerts" in telegram.texts[2]
    assert "Held back: the hour&#x27;s budget of messages is spent" in telegram.texts[2]


# --- what goes wrong: T1 -------------------------------------------------------------


def test_flood_control_is_obeyed(telegram):
    telegram.answers.append(Answer(429, "Too Many Requests", {"retry_after": 30}))
    row = put()

    tell()
    early = [tell(AT + timedelta(seconds=seconds)) for seconds in (1, 10, 29)]

    assert (early, telegram.asked) == ([0, 0, 0], 1)
    assert tell(AT + timedelta(seconds=31)) == 1
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("SENT", 2)


@pytest.mark.parametrize("status", [500, 502])
def test_error_of_the_far_side_is_tried_again_ever_more_slowly(telegram, status):
    telegram.answers.extend([Answer(status, "oops")] * 3)
    row = put()
    waits = []
    at = AT
    for _ in range(3):
        tell(at)
        row.refresh_from_db()
        waits.append((row.due_at - at).total_seconds())
        at = row.due_at

    assert waits == [5, 10, 20]
    assert tell(at) == 1
    assert voice().failures == 3


def test_text_that_cannot_be_parsed_is_sent_plain(telegram):
    telegram.answers.append(Answer(400, "Bad Request: can't parse entities: unclosed tag"))
    put()

    assert tell() == 1

    (message,) = telegram.taken
    assert "parse_mode" not in message
    assert message["text"].startswith("P1 yes basket +128.4 bps\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(403, "Forbidden: bot was blocked by the user"), "Forbidden"),
        (Answer(400, "Bad Request: chat not found"), "Chat not found"),
        (Answer(401, "Unauthorized"), "InvalidToken"),
    ],
)
def test_permanent_refusal_stops_the_voice_and_loses_nothing(telegram, answer, reason):
    telegram.answers.append(answer)
    for number in range(3):
        put(number + 1, at=AT + timedelta(seconds=number))

    tell()
    tell(AT + timedelta(minutes=30))

    assert telegram.asked == 1
    assert states() == ["PENDING"] * 3
    assert reason in voice().broken

    delivery.send_again(by="olga", at=AT + timedelta(minutes=31))
    tell(AT + timedelta(minutes=45))
    assert (states(), voice().broken) == (["SENT"] * 3, "")


def test_one_impossible_message_fails_alone(telegram):
    telegram.answers.append(Answer(400, "Bad Request: message text is empty"))
    put(1)
    tell()
    put(2)
    tell(AT + timedelta(seconds=5))

    assert states() == ["FAILED", "SENT"]
    assert "Message text is empty" in OutboxEntry.objects.get(state="FAILED").reason


def test_answer_that_never_comes_is_given_up(telegram, monkeypatch):
    monkeypatch.setattr("alerts.telegram.SECONDS", 0.3)
    telegram.answers.append(Answer(hang=5))
    row = put()

    tell()

    row.refresh_from_db()
    assert (row.state, row.attempts) == ("PENDING", 1)
    assert "no answer within" in row.reason or "TimedOut" in row.reason


def test_connection_that_breaks_is_tried_again(telegram):
    telegram.answers.append(Answer(drop=True))
    put()

    assert (tell(), tell(AT + timedelta(seconds=6))) == (0, 1)


def test_group_that_has_moved_is_followed(telegram):
    telegram.answers.append(
        Answer(400, "Bad Request: group chat was upgraded", {"migrate_to_chat_id": -1009})
    )
    put(1)
    tell()
    put(2)
    tell(AT + timedelta(seconds=5))

    assert [message["chat_id"] for message in telegram.taken] == ["-1009", "-1009"]
    assert voice().chat == "-1009"


# --- crashes and others: T2 --------------------------------------------------------------


def test_crash_between_sending_and_writing_down_repeats_at_most_once(telegram, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_args, **_kwargs):
        raise Killed

    put()
    with monkeypatch.context() as crash:
        crash.setattr(delivery, "_settle", die)
        with pytest.raises(Killed):
            delivery._pass([delivery._turn("telegram")], AT, lambda: AT)  # as after kill -9

    assert tell(AT + timedelta(seconds=5)) == 0  # the dead one still has the lease
    # The lease is by the database's clock, whatever that of the process says.
    Voice.objects.update(held_until=F("held_until") - timedelta(seconds=61))
    assert tell(AT + timedelta(seconds=5)) == 1
    assert len(telegram.taken) == 2
    assert states() == ["SENT"]


@pytest.mark.django_db(transaction=True)
def test_two_processes_never_send_the_same(telegram):
    telegram.answers.extend([Answer(hang=0.3)] * 2)
    put()
    done: list[int] = []
    both = [threading.Thread(target=_pass_of_its_own, args=(done,)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()

    assert sorted(done) == [0, 1]
    assert len(telegram.taken) == 1


def _pass_of_its_own(done: list[int]) -> None:
    from django.db import connections

    try:
        done.append(tell())
    finally:
        connections.close_all()


# --- what people asked for -----------------------------------------------------------------


def test_stamps_of_a_clock_that_was_ahead_hold_up_nothing(telegram):
    """A process whose clock was ahead has spoken; its lease is by the database's."""
    put(1)
    assert tell(AT + timedelta(seconds=90)) == 1
    put(2)

    assert tell(AT) == 1
    assert len(telegram.texts) == 2


def test_silence_holds_back_its_scope_and_says_who_and_why(telegram):
    dana = User.objects.create_user("dana")
    until = AT + timedelta(hours=1)
    Silence.objects.create(scope="EVENT", value="7", until=until, reason="known", by=dana)
    put(1)
    put(2, event_id="8")
    put(3, kind="killswitch.tripped", reason="drill")

    tell()

    assert states() == ["SUPPRESSED", "SENT", "SENT"]
    told = OutboxEntry.objects.get(state="SUPPRESSED").reason
    assert told == "silenced by dana until 01 Jun 13:00 UTC: known"
    put(4)
    tell(until)
    assert states()[-1] == "SENT"


def test_kinds_are_on_silent_or_off(telegram):
    Manner.objects.create(kind="signal.p1", how="SILENT")
    Manner.objects.create(kind="breaker.opened", how="OFF")
    put(1)
    put(2, kind="breaker.opened")
    put(3, kind="intent.filled")

    tell()

    assert states() == ["SENT", "SUPPRESSED", "SENT"]
    assert [message["disable_notification"] for message in telegram.taken] == ["true", "false"]


@pytest.mark.parametrize(
    ("hours", "hour", "quiet"),
    [((22, 7), 23, True), ((22, 7), 6, True), ((22, 7), 7, False), ((9, 17), 12, True)],
)
def test_quiet_hours_may_span_midnight(hours, hour, quiet):
    row = Voice(name="telegram", quiet_from=time(hours[0]), quiet_to=time(hours[1]))

    assert row.is_quiet(AT.replace(hour=hour)) is quiet


# --- the token stays inside -------------------------------------------------------------------


@pytest.fixture
def worst_log():
    """Everything that any library says, as the handler of the desk writes it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Lines("json"))
    loggers = [logging.getLogger(name) for name in ("", "httpx", "httpcore", "telegram")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    yield text
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_token_is_in_no_log_row_or_text(telegram, worst_log):
    telegram.answers.extend(
        [Answer(500, f"trouble with {TOKEN}"), Answer(404, "Not Found"), Answer(drop=True)]
    )
    row = put()
    for seconds in (0, 6, 3600):
        tell(AT + timedelta(seconds=seconds))
        delivery.send_again(by="olga", at=AT)
    row.refresh_from_db()
    logging.getLogger("other").error("POST %s%s/sendMessage", telegram.url, TOKEN)

    log = worst_log.getvalue()
    assert "Calling Bot API endpoint" in log and "[secret]" in log
    told = [log, row.reason, voice().broken, repr(line_of("telegram"))]
    assert TOKEN not in "\n".join(told)
    assert row.attempts > 1
