"""Webhook and e-mail beside Telegram: real sockets, real faults, and nobody waits for another."""

from __future__ import annotations

import io
import logging
import smtplib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from alerts import delivery
from alerts.lines import line_of
from alerts.models import Manner, OutboxEntry, Voice
from alerts.webhook import MOST_BODY
from mpx_site.doctor_alerts import alerts as doctor
from mpx_site.logs import Lines
from tests import bot_api, hook_receiver, smtp_sink
from tests.bot_api import Answer
from tests.hook_receiver import Reply
from tests.test_alert_delivery import put
from tests.test_alert_voice import operator as operator

pytestmark = pytest.mark.django_db
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOSTILE = "<script>x</script>\r\nBcc: all@else.example\u202e" + "y" * 400

telegram, hook, mail = bot_api.telegram, hook_receiver.hook, smtp_sink.mail


def tell(seconds: float = 0) -> int:
    at = AT + timedelta(seconds=seconds)
    return delivery.deliver(at=at, clock=lambda: at)


def rows(voice: str) -> list[str]:
    told = OutboxEntry.objects.filter(voice=voice).order_by("id")
    return list(told.values_list("state", flat=True))


def reason(voice: str) -> str:
    return OutboxEntry.objects.get(voice=voice).reason


def stop_of(voice: str) -> str:
    return Voice.objects.get(name=voice).broken


def put_all(count: int = 1, **changed: str) -> None:
    for number in range(1, count + 1):
        put(number, **changed)


# --- the webhook -----------------------------------------------------------------------


def test_webhook_is_told_once_and_signed(hook):
    put_all()

    assert (tell(), tell(9)) == (1, 0)

    (body,), (headers,) = hook.taken, hook.asked
    assert hook.forged == 0
    assert headers["X-MPX-Delivery"] == body["id"] == "signal.p1:1"
    (alert,) = body["alerts"]
    assert (alert["id"], alert["kind"], alert["headline"]) == (
        "signal.p1:1", "signal.p1", "P1 yes basket +128.4 bps"
    )  # fmt: skip
    assert alert["url"] == f"http://localhost:8080/signals/{1:032x}/"
    assert alert["facts"]["profit"] == "1.5"
    row = OutboxEntry.objects.get()
    assert (row.state, row.transport, row.attempts) == ("SENT", "webhook", 1)


def test_wrong_secret_is_seen_by_the_receiver_and_stops_the_voice(hook, settings):
    settings.MPX_WEBHOOK_SECRET = "another-secret-of-thirty-two-characters"
    put_all()

    tell()

    assert (hook.forged, hook.taken, rows("webhook")) == (1, [], ["PENDING"])
    assert stop_of("webhook") == "it answers 401"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302])
def test_webhook_that_is_refused_for_good_stops_and_loses_nothing(hook, status):
    hook.replies.append(Reply(status, {"Location": hook.url}))
    put_all(2)

    tell()
    tell(1800)

    assert len(hook.asked) == 1, "a redirect is not followed either"
    assert rows("webhook") == ["PENDING"] * 2
    assert str(status) in stop_of("webhook")
    delivery.send_again(by="olga", at=AT, names=["webhook"])
    tell(1801)
    assert rows("webhook") == ["SENT"] * 2


@pytest.mark.parametrize("status", [429, 503])
def test_webhook_is_tried_again_when_it_asks_for_it(hook, status):
    hook.replies.append(Reply(status, {"Retry-After": "30"}))
    put_all()

    early = [tell(seconds) for seconds in (0, 10, 29)]

    assert (early, len(hook.asked)) == ([0, 0, 0], 1)
    assert tell(31) == 1


def test_date_in_retry_after_is_understood(hook):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100))
    hook.replies.append(Reply(503, {"Retry-After": later}))
    put_all()

    tell()

    wait = OutboxEntry.objects.get().due_at - AT
    assert timedelta(seconds=80) < wait <= timedelta(seconds=100)


def test_error_of_the_receiver_is_tried_again_ever_more_slowly(hook):
    hook.replies.extend([Reply(500)] * 3)
    put_all()
    waits, at = [], AT
    for _ in range(3):
        delivery.deliver(at=at, clock=lambda at=at: at)
        due = OutboxEntry.objects.get().due_at
        waits.append((due - at).total_seconds())
        at = due

    assert waits == [5, 10, 20]
    assert delivery.deliver(at=at) == 1


@pytest.mark.parametrize("reply", [Reply(hang=20), Reply(200, drip=True)])
def test_receiver_that_never_ends_is_not_waited_for(hook, reply, monkeypatch):
    """One that hangs is given up; of one that has said 200 nothing more is read."""
    monkeypatch.setattr("alerts.webhook.SECONDS", 0.4)
    hook.replies.append(reply)
    put_all()

    began = time.monotonic()
    told = tell()

    assert time.monotonic() - began < 10
    assert (told, rows("webhook")) in ((0, ["PENDING"]), (1, ["SENT"]))
    assert (told == 1) is reply.drip


def test_receiver_that_is_not_there_is_tried_again(hook, settings):
    settings.MPX_WEBHOOK_URL = "http://127.0.0.1:9/nobody"
    put_all()

    tell()

    assert (rows("webhook"), reason("webhook")) == (["PENDING"], "no connection: ConnectError")


def test_message_that_is_refused_alone_fails_alone(hook):
    hook.replies.append(Reply(422))
    put(1)
    tell()
    put(2)
    tell(5)

    assert rows("webhook") == ["FAILED", "SENT"]


def test_many_go_to_the_webhook_together_and_all_of_them(hook):
    put_all(230)

    for seconds in range(3):
        tell(seconds)

    assert [len(body["alerts"]) for body in hook.taken] == [100, 100, 30]
    assert len(set(hook.ids)) == 230
    assert hook.taken[0]["id"].startswith("digest:")


def test_hostile_facts_stay_text_and_short(hook):
    put(1, event_title=HOSTILE, legs=[{"text": "z" * 10_000}] * 400)

    tell()

    (alert,) = hook.taken[0]["alerts"]
    assert alert["facts"]["event_title"].startswith("<script>x</script> Bcc: all@else.example y")
    assert len(alert["facts"]["event_title"]) == 300
    assert len(alert["facts"]["legs"]) == 50
    assert len(hook.bodies[0]) < MOST_BODY


def test_body_that_would_be_too_long_goes_without_its_facts(hook):
    for number in range(1, 30):
        put(number, legs=[{f"{leg}": "ü" * 300} for leg in range(50)])

    tell()

    assert len(hook.bodies[0]) < MOST_BODY
    assert {alert["facts"] for alert in hook.taken[0]["alerts"]} == {None}
    assert len(hook.ids) == 29


# --- e-mail ------------------------------------------------------------------------------


def test_email_is_told_once_as_text_and_as_html(mail):
    put(1, event_title="A & B")

    assert (tell(), tell(9)) == (1, 0)

    (letter,) = mail.letters
    assert mail.recipients == [list(smtp_sink.TO)]
    assert mail.logins == [f"\0desk\0{smtp_sink.PASSWORD}"]
    assert letter["Subject"] == "[MPX] P1 yes basket +128.4 bps: A & B"
    plain = letter.get_body(("plain",)).get_content()
    assert plain.startswith("P1 yes basket +128.4 bps\nA & B\n+1.50 USD on 250.00 USD")
    assert (
        "<b>P1 yes basket +128.4 bps</b><br>\nA &amp; B<br>"
        in letter.get_body(("html",)).get_content()
    )
    assert OutboxEntry.objects.get().transport == "email"


def test_hostile_title_is_no_header_and_no_markup(mail):
    put(1, event_title=HOSTILE)

    tell()

    (letter,) = mail.letters
    subject = letter["Subject"].strip()  # a long one is folded; that is undone by who reads it
    assert subject.startswith("[MPX] P1") and "\n" not in subject and len(subject) <= 120
    assert letter["Bcc"] is None and mail.recipients == [list(smtp_sink.TO)]
    assert "<script>" not in letter.get_body(("html",)).get_content()
    assert "\u202e" not in letter.as_string()


def test_same_alert_has_the_same_number_in_each_try(mail):
    mail.answers["TAKE"] = [""]
    put(1)
    tell()
    tell(6)
    Manner.objects.create(kind="signal.p1", how="ON")
    put(2)
    tell(12)

    first, second = (letter["Message-ID"] for letter in mail.letters)
    assert first != second and first.endswith("@desk.example>")


def test_many_are_one_letter(mail):
    put_all(30)

    assert tell() == 30

    (letter,) = mail.letters
    assert letter["Subject"] == "[MPX] 30 alerts"
    assert "and 10 more" in letter.get_body(("plain",)).get_content()


@pytest.mark.parametrize(
    ("verb", "answer", "state", "stopped"),
    [
        ("CONNECT", "421 busy", "PENDING", False),
        ("AUTH", "535 5.7.8 no", "PENDING", True),
        ("AUTH", "454 4.7.0 not now", "PENDING", False),
        ("MAIL", "550 not from you", "PENDING", True),
        ("MAIL", "451 not now", "PENDING", False),
        ("RCPT", "550 no such mailbox", "PENDING", True),
        ("RCPT", "450 grey", "PENDING", False),
        ("DATA", "451 not now", "PENDING", False),
        ("TAKE", "552 too much", "FAILED", False),
        ("TAKE", "", "PENDING", False),
    ],
)
def test_mail_server_that_refuses(mail, verb, answer, state, stopped):
    mail.answers[verb] = [answer] * len(smtp_sink.TO)
    put_all()

    tell()

    assert (rows("email"), bool(stop_of("email"))) == ([state], stopped)
    assert answer[:3] in reason("email")
    mail.answers.clear()
    if state == "PENDING":
        delivery.send_again(by="olga", at=AT, names=["email"])
        assert tell(60) == 1


def test_mail_server_without_the_encryption_that_was_asked_for_stops_the_voice(mail, settings):
    settings.EMAIL_USE_TLS = True
    put_all()

    tell()

    assert "SMTPNotSupportedError" in stop_of("email")
    assert mail.logins == [], "no password goes out in the open"


def test_mail_server_that_hangs_is_given_up(mail, settings):
    settings.EMAIL_TIMEOUT = 0.3
    mail.answers["DATA"] = ["hang"]
    put_all()

    tell()

    assert rows("email") == ["PENDING"]
    assert tell(6) == 1


# --- each by itself -----------------------------------------------------------------------


def test_voices_do_not_wait_for_each_other(telegram, hook, mail):
    """T1 for three: Telegram is blocked for good, the webhook has a bad minute, e-mail is well."""
    telegram.answers.append(Answer(403, "Forbidden: bot was blocked by the user"))
    hook.replies.append(Reply(503))
    put_all(2)

    tell()
    tell(6)

    assert rows("telegram") == ["PENDING"] * 2
    assert rows("webhook") == rows("email") == ["SENT"] * 2
    assert [bool(each.broken) for each in Voice.objects.order_by("name")] == [False, True, False]
    seen = doctor()
    assert seen.state == "fail" and seen.text.startswith("Telegram stopped: Forbidden")


def test_line_that_never_ends_is_left_behind_and_the_others_are_written_down(
    telegram, hook, mail, monkeypatch
):
    monkeypatch.setattr(delivery, "GIVE_UP", 1.0)
    hook.replies.append(Reply(hang=20))
    put_all()

    began = time.monotonic()
    tell()

    assert time.monotonic() - began < 8
    assert (rows("telegram"), rows("email")) == (["SENT"], ["SENT"])
    assert (rows("webhook"), reason("webhook")) == (["PENDING"], "no end within 1 s")


def test_fault_in_one_voice_is_its_own(telegram, hook, monkeypatch, caplog):
    def burst(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("alerts.webhook.body", burst)
    put_all()

    tell()

    assert (rows("telegram"), rows("webhook")) == (["SENT"], ["PENDING"])
    assert reason("webhook") == "fault of this desk: KeyError"


@pytest.mark.parametrize("voice", ["webhook", "email"])
def test_crash_between_sending_and_writing_down_repeats_at_most_once(
    hook, mail, monkeypatch, voice
):
    class Killed(BaseException):
        pass

    def die(*_args, **_kwargs):
        raise Killed

    put_all()
    held = [delivery._turn(name) for name in ("webhook", "email")]
    with monkeypatch.context() as crash:
        crash.setattr(delivery, "_settle", die)
        with pytest.raises(Killed):
            delivery._pass([each for each in held if each.name == voice], AT, lambda: AT)

    assert tell(5) == 0  # the dead one still has the leases
    Voice.objects.update(held_until=F("held_until") - timedelta(seconds=61))
    assert tell(5) == 2
    assert rows(voice) == ["SENT"]
    sent = {"webhook": hook.ids, "email": [each["Message-ID"] for each in mail.letters]}[voice]
    assert len(sent) == 2 and len(set(sent)) == 1, "who gets it twice can see that"


def test_voice_that_is_set_up_later_is_not_told_of_the_past(telegram, hook, settings):
    address, settings.MPX_WEBHOOK_URL = settings.MPX_WEBHOOK_URL, ""
    put_all(5)
    settings.MPX_WEBHOOK_URL = address
    put(6)

    tell()

    assert hook.ids == ["signal.p1:6"]
    assert len(rows("telegram")) == 6


def test_voice_that_is_taken_away_leaves_nothing_waiting(telegram, hook, settings):
    put_all()
    settings.MPX_WEBHOOK_URL = ""

    tell()

    row = OutboxEntry.objects.get(voice="webhook")
    assert (row.state, row.transport, row.reason) == ("SENT", "dry_run", "Webhook is off")


def test_budget_is_each_voices_own(telegram, hook):
    Voice.objects.create(name="telegram", budget=1)
    for number in range(3):
        put(number + 1)
        tell(2 * number)

    assert (len(telegram.taken), len(hook.taken)) == (1, 3)


def test_what_waits_for_the_next_hours_budget_is_not_stuck(hook, operator):
    now = timezone.now()
    Voice.objects.create(name="webhook", budget=1)
    for number, minutes in ((1, 30), (2, 20)):
        at = now - timedelta(minutes=minutes)
        put(number, at=at)
        delivery.deliver(at=at, clock=lambda at=at: at)
    OutboxEntry.objects.update(created_at=now - timedelta(minutes=20))

    page = operator.get(reverse("alerts")).content.decode()

    assert (rows("webhook"), doctor().state) == (["SENT", "PENDING"], "ok")
    assert "has spent the hour&#x27;s budget" in page and "see whether the worker" not in page


def test_manners_count_for_all_voices(telegram, hook, mail):
    Manner.objects.create(kind="breaker.opened", how="OFF")
    put(1, kind="breaker.opened")
    put(2)

    tell()

    for voice in ("telegram", "webhook", "email"):
        assert rows(voice) == ["SUPPRESSED", "SENT"]


# --- what people see of it ----------------------------------------------------------------


def test_page_and_admin_show_each_voice(telegram, hook, mail, operator):
    hook.replies.append(Reply(410))
    put_all(2)
    delivery.deliver(at=timezone.now())

    page = operator.get(reverse("alerts")).content.decode()
    listed = operator.get(reverse("admin:alerts_voice_changelist")).content.decode()

    assert "Webhook has stopped: it answers 410." in page
    for told in (page, listed):
        assert "stopped: it answers 410" in told
        assert "o…@desk.example and 1 more" in told and "http://127.0.0.1:" in told
        assert "path-that-is-secret" not in told
    ours = operator.get(f"{reverse('alerts')}?voice=email&format=json")
    kept = b"".join(ours.streaming_content).decode()
    assert '"email"' in kept and '"webhook"' not in kept


def test_api_tests_all_voices_or_the_one_that_is_named(telegram, hook, mail, operator):
    hook.replies.append(Reply(503))
    post = {"path": "/api/alerts/test", "content_type": "application/json"}

    every = operator.post(data={"text": "Drill"}, **post).json()
    one = operator.post(data={"text": "Drill", "voice": "email"}, **post).json()

    assert [row["transport"] for row in every["voices"]] == ["telegram", "webhook", "email"]
    assert (every["transport"], every["sent"], every["chat"]) == ("telegram", False, "…7890")
    assert every["reason"] == "webhook: it answers 503"
    assert (one["transport"], one["sent"], len(one["voices"])) == ("email", True, 1)
    assert [letter["Subject"] for letter in mail.letters] == ["[MPX] Test: Drill"] * 2
    assert operator.post(data={"voice": "drums"}, **post).status_code == 400


def test_secrets_of_the_voices_are_in_no_log_row_or_page(hook, mail, operator, settings):
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Lines("json"))
    root = logging.getLogger()
    level, was = root.level, smtplib.SMTP.debuglevel
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        hook.replies.extend([Reply(500), Reply(410)])
        mail.answers["AUTH"] = [f"535 no {smtp_sink.PASSWORD}"]
        put_all()
        for seconds in (0, 6):
            tell(seconds)
        logging.getLogger("other").error("%s %s", hook_receiver.SECRET, smtp_sink.PASSWORD)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert smtplib.SMTP.debuglevel == was == 0

    told = [
        text.getvalue(),
        *map(str, OutboxEntry.objects.values()),
        *map(str, Voice.objects.values()),
    ]
    told += [repr(line_of("webhook")), repr(line_of("email"))]
    told += [operator.get(path).content.decode() for path in ("/alerts/", "/metrics", "/health/")]
    for secret in (hook_receiver.SECRET, smtp_sink.PASSWORD):
        assert secret not in "\n".join(told)
    assert "path-that-is-secret" not in "\n".join(told[1:])
