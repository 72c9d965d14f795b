"""The door: tries are bounded, the second factor works once, sessions end, some acts ask again."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.utils import timezone

from alerts.models import AuditEntry
from execution import intents
from execution.authenticators import Authenticator, RecoveryCode, has_second_factor
from mpx_site import api_token_book as book
from mpx_site.access import factor, pace, qr, totp
from mpx_site.access_settings import trusted_proxies
from mpx_site.models import ApiToken, Bucket
from mpx_site.portal.settings_sessions import OPENED
from risk import killswitch
from tests.desk_cast import NOW, approver, basket, prepare, show, suggested, trader

PASSWORD = "correct horse battery"
RFC_KEY = b"12345678901234567890"
pytestmark = pytest.mark.django_db


@pytest.fixture
def olga() -> User:
    return User.objects.create_superuser("olga", password=PASSWORD)


def log_in(client: Client, name: str = "olga", password: str = PASSWORD, **more: Any) -> Any:
    return client.post("/login/", {"username": name, "password": password}, **more)


def told(kind: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(kind=kind).order_by("id"))


def app_code(user: User, *, at: datetime | None = None) -> str:
    """Return what the person's app shows, which knows the secret by the text it was told."""
    row = Authenticator.objects.get(user=user)
    text = factor.enrolment(row).text.replace(" ", "")
    secret = base64.b32decode(text + "=" * (-len(text) % 8))
    return totp.code_of(secret, totp.step_at((at or timezone.now()).timestamp()))


def enrolled(user: User, *, at: datetime | None = None) -> list[str]:
    """Set up a second factor a while ago, so that the code of now is unused."""
    then = (at or timezone.now()) - timedelta(minutes=10)
    factor.begin(user, at=then)
    return factor.confirm(user, app_code(user, at=then), at=then)


def age(client: Client, **older: timedelta) -> None:
    """Make the client's session older."""
    session = client.session
    opened = session[OPENED]
    then = datetime.fromisoformat(opened["at"]) - older["by"]
    session[OPENED] = {**opened, "at": then.isoformat()}
    session.save()


# --- codes -------------------------------------------------------------------------------------

# RFC 6238, appendix B.
VECTORS = [
    (59, "94287082", hashlib.sha1, RFC_KEY),
    (1111111109, "07081804", hashlib.sha1, RFC_KEY),
    (1111111111, "14050471", hashlib.sha1, RFC_KEY),
    (1234567890, "89005924", hashlib.sha1, RFC_KEY),
    (2000000000, "69279037", hashlib.sha1, RFC_KEY),
    (20000000000, "65353130", hashlib.sha1, RFC_KEY),
    (59, "46119246", hashlib.sha256, (RFC_KEY * 2)[:32]),
    (1234567890, "91819424", hashlib.sha256, (RFC_KEY * 2)[:32]),
    (59, "90693936", hashlib.sha512, (RFC_KEY * 4)[:64]),
    (20000000000, "47863826", hashlib.sha512, (RFC_KEY * 4)[:64]),
]


@pytest.mark.parametrize(("seconds", "code", "digest", "key"), VECTORS)
def test_codes_are_those_of_the_standard(seconds, code, digest, key):
    assert totp.code_of(key, totp.step_at(seconds), digits=8, digest=digest) == code


@pytest.mark.parametrize(
    ("off", "fits"), [(-61, False), (-30, True), (0, True), (30, True), (61, False)]
)
def test_clock_may_be_half_a_minute_off(off, fits):
    code = totp.code_of(RFC_KEY, totp.step_at(1_000_000_005))

    assert (totp.step_of(RFC_KEY, code, seconds=1_000_000_005 + off) is not None) is fits


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "abcdef", "\N{ARABIC-INDIC DIGIT ONE}" * 6]
)
def test_what_is_no_code_fits_nothing(code):
    assert totp.step_of(RFC_KEY, code, seconds=59) is None


# Of another encoder (the package qrcode, 8.2), as sha256 over its modules row by row.
OTPAUTH = (
    "otpauth://totp/MarketPulse-X:olga?secret=4WPYXR6QFBQQHSUAIE5GKFCHZRZAXTXN&issuer=MarketPulse-X"
)
PICTURES = [
    ("a", 0, "8ac8f40772e90e7a9fa290ea15bc45c68c2184a9c85450eac32a0bd7fd07ed4a"),
    (OTPAUTH, 3, "c3b202109984f8b3ed203a85b216b10052d7341975bdc03c203aa13b71195662"),
    ("z" * 130, 5, "ec145a7a21cf04b5001470150a166428bd97248010ad1122b053093e3a06c9e3"),
    ("v" * 200, 7, "49d4fcf68024c2f8e55c9637d05cd0e9652a9eb43b811c58e1774d3179ce9b16"),
]


@pytest.mark.parametrize(("text", "mask", "digest"), PICTURES)
def test_picture_is_that_of_another_encoder(text, mask, digest):
    rows = qr.modules(text, mask=mask)

    drawn = "".join(str(int(dark)) for row in rows for dark in row)
    assert hashlib.sha256(drawn.encode()).hexdigest() == digest
    assert qr.modules(text) in [qr.modules(text, mask=each) for each in range(8)]


def test_name_that_is_too_long_for_a_picture_has_the_text(olga):
    olga.username = "n" * 150

    assert factor.begin(olga, at=NOW).picture is None


@pytest.mark.postgres
def test_code_works_once(olga):
    enrolled(olga)
    code = app_code(olga)

    assert factor.passes(olga, code, at=timezone.now()) == "totp"
    assert factor.passes(olga, code, at=timezone.now()) == ""


@pytest.mark.postgres
def test_recovery_code_works_once_and_is_not_kept(olga):
    codes = enrolled(olga)
    at = timezone.now()

    assert len(set(codes)) == 10
    kept = " ".join(RecoveryCode.objects.values_list("digest", flat=True))
    assert not any(code.replace("-", "") in kept for code in codes)
    assert factor.passes(olga, codes[0].upper(), at=at) == "recovery"
    assert factor.passes(olga, codes[0], at=at) == ""
    assert factor.codes_left(olga) == 9


def test_secret_is_neither_in_the_database_nor_the_same_twice(olga):
    first = factor.begin(olga, at=NOW)
    second = factor.begin(olga, at=NOW)

    row = Authenticator.objects.get(user=olga)
    assert first.text != second.text
    assert row.salt not in first.address + second.address
    assert not has_second_factor(olga)


# --- how often ---------------------------------------------------------------------------------


def test_tries_of_an_account_are_bounded_and_read_the_same_for_all(client, olga):
    for name in ("olga", "nobody at all"):
        answers = [
            log_in(client, name, "wrong", REMOTE_ADDR=f"10.0.{len(name)}.{n}") for n in range(22)
        ]

        assert [each.status_code for each in answers] == [200] * 20 + [429] * 2
        assert int(answers[-1]["Retry-After"]) > 60
        assert b"Too many tries" in answers[-1].content
    refused = log_in(client, REMOTE_ADDR="10.9.9.9")
    assert refused.status_code == 429  # the right password tells nothing now


def test_tries_of_an_address_are_bounded_over_accounts(client, olga):
    answers = [log_in(client, f"name {n}", "wrong") for n in range(25)]

    assert [each.status_code for each in answers].count(429) == 5
    assert log_in(client).status_code == 429
    assert log_in(Client(), REMOTE_ADDR="10.1.1.1").status_code == 302


def test_right_password_uses_up_nothing(olga):
    for _ in range(25):
        assert log_in(Client()).status_code == 302


@pytest.mark.postgres
def test_nobody_is_locked_out_for_good(olga):
    request = RequestFactory().post("/login/")
    tries = pace.Tries(request, "olga")
    while tries.take(at=NOW) is None:
        pass
    refused = tries.take(at=NOW)
    assert refused and 0 < refused.minutes <= 72

    assert tries.take(at=NOW + timedelta(seconds=refused.seconds)) is None


def test_what_was_typed_as_a_name_is_kept_nowhere(client, olga):
    log_in(client, "my-password-in-the-wrong-field", "olga")

    rows = [
        *AuditEntry.objects.values_list("subject", "actor", "data"),
        *Bucket.objects.values_list("key"),
    ]
    assert "my-password" not in str(rows)
    assert told("login.failed")[0].subject == "account:unknown account"


def test_refusals_are_told_once_an_hour(client, olga):
    for _ in range(30):
        log_in(client, "olga", "wrong")

    assert len(told("login.failed")) == 20
    (entry,) = told("login.throttled")
    assert (entry.subject, entry.data["from"]) == ("account:olga", "127.0.0.1")


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "10.0.0.5", "1.2.3.4", "10.0.0.5"),
        ("10.0.0.0/24", "10.0.0.5", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.0/24", "10.0.0.5", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.0/24", "10.0.0.5", "6.6.6.6, 1.2.3.4, 10.0.0.9", "1.2.3.4"),
        ("10.0.0.0/24", "11.0.0.5", "1.2.3.4", "11.0.0.5"),
        ("10.0.0.0/24", "10.0.0.5", "", "10.0.0.5"),
    ],
)
def test_only_a_trusted_proxy_says_for_whom_it_asks(
    settings, monkeypatch, trusted, peer, forwarded, address
):
    monkeypatch.setenv("MPX_TRUSTED_PROXIES", trusted)
    settings.MPX_TRUSTED_PROXIES = trusted_proxies()
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}

    request = RequestFactory(headers=headers).get("/", REMOTE_ADDR=peer)

    assert pace.address_of(request) == address


# --- logging in --------------------------------------------------------------------------------


def test_login_takes_a_new_session_and_is_told(client, olga):
    client.get("/login/")
    session = client.session
    session["before"] = 1
    session.save()
    before = session.session_key

    assert log_in(client).status_code == 302
    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()
    (entry,) = told("login.ok")
    assert (entry.actor, entry.data["factor"]) == ("olga", "password")


def test_second_factor_stands_between_the_password_and_the_desk(client, olga):
    enrolled(olga)

    first = client.post(
        "/login/?next=/risk/", {"username": "olga", "password": PASSWORD, "next": "/risk/"}
    )
    assert first["Location"] == "/login/code/"
    assert client.get("/").status_code == 302  # nobody yet
    wrong = client.post("/login/code/", {"code": "000000"})
    assert b"not right" in wrong.content and "_auth_user_id" not in client.session
    right = client.post("/login/code/", {"code": app_code(olga)})

    assert (right.status_code, right["Location"]) == (303, "/risk/")
    assert client.get("/risk/").status_code == 200
    assert [each.data["factor"] for each in told("login.ok")] == ["totp"]
    assert [each.data["factor"] for each in told("login.failed")] == ["code"]


def test_code_without_a_password_opens_nothing(client, olga):
    enrolled(olga)

    assert client.post("/login/code/", {"code": app_code(olga)})["Location"] == "/login/"
    log_in(client)
    session = client.session
    pending = session["password_was_right"]
    then = timezone.now() - timedelta(minutes=6)
    session["password_was_right"] = {**pending, "at": then.isoformat()}
    session.save()
    assert client.post("/login/code/", {"code": app_code(olga)})["Location"] == "/login/"


def test_codes_cannot_be_guessed(client, olga):
    enrolled(olga)
    log_in(client)

    answers = [client.post("/login/code/", {"code": f"{n:06}"}).status_code for n in range(25)]

    assert answers.count(429) >= 5 and "_auth_user_id" not in client.session


def test_setting_it_up_ends_other_sessions_and_shows_codes_once(client, olga):
    elsewhere = Client()
    log_in(elsewhere)
    log_in(client)

    begun = client.post("/settings/second-factor/", {"act": "begin"}).content.decode()
    assert "otpauth://totp/MarketPulse-X:olga?secret=" in begun
    refused = client.post("/settings/second-factor/", {"act": "confirm", "code": "000000"})
    assert refused.status_code == 422 and not has_second_factor(olga)
    done = client.post("/settings/second-factor/", {"act": "confirm", "code": app_code(olga)})

    codes = re.findall(r"<code>([a-z2-7-]{19})</code>", done.content.decode())
    assert len(codes) == 10 and has_second_factor(olga)
    assert codes[0] not in client.get("/settings/second-factor/").content.decode()
    assert elsewhere.get("/settings/").status_code == 302
    assert client.get("/settings/").status_code == 200
    again = client.post("/settings/second-factor/", {"act": "begin"})
    assert again.status_code == 303 and has_second_factor(olga)


def test_removing_it_takes_a_code_of_its_own(client, olga):
    codes = enrolled(olga)
    client.force_login(olga)

    assert client.post("/settings/second-factor/", {"act": "remove"}).status_code == 422
    client.post("/settings/second-factor/", {"act": "remove", "code": codes[3]})

    assert not has_second_factor(olga) and not RecoveryCode.objects.exists()
    assert told("factor.removed")


def test_command_takes_it_away_from_who_lost_everything(olga, capsys):
    enrolled(olga)

    call_command("second_factor", "remove", "olga")

    assert not has_second_factor(olga)
    assert told("factor.removed")[0].actor == "command line"
    with pytest.raises(CommandError, match="no account 'nobody'"):
        call_command("second_factor", "remove", "nobody")


# --- sessions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle", "by", "ended"), [(30, 29, False), (30, 31, True), (0, 31, False), (720, 721, True)]
)
def test_session_that_nobody_touches_ends(client, olga, settings, idle, by, ended):
    settings.MPX_IDLE_MINUTES = idle
    client.force_login(olga)
    age(client, by=timedelta(minutes=by))

    assert (client.get("/settings/").status_code == 302) is ended
    assert bool(told("session.ended")) is ended


def test_session_ends_after_twelve_hours_however_busy(client, olga, settings):
    settings.MPX_IDLE_MINUTES = 0
    client.force_login(olga)
    client.get("/settings/")

    age(client, by=timedelta(hours=12, minutes=1))

    assert client.get("/settings/").status_code == 302
    assert told("session.ended")[0].data["why"] == "its time is up"


def test_what_a_page_fetches_by_itself_is_no_hand_on_it(client, olga):
    client.force_login(olga)
    age(client, by=timedelta(minutes=20))

    client.get("/status/", headers={"Sec-Fetch-Mode": "cors"})
    assert "touched" not in client.session
    client.get("/settings/", headers={"Sec-Fetch-Mode": "navigate"})
    assert "touched" in client.session


# --- once more ---------------------------------------------------------------------------------

ACTS = [
    ("/risk/rearm/", {"key": "k", "reason": "well again"}),
    ("/settings/tokens/", {"name": "t", "scopes": ["read"], "days": 5}),
    ("/settings/second-factor/", {"act": "begin"}),
    ("/admin/risk/killswitch/1/change/", {"act": "rearm", "reason": "well again"}),
    ("/admin/auth/user/add/", {"username": "new"}),
]


@pytest.mark.parametrize(("address", "form"), ACTS, ids=[address for address, _ in ACTS])
def test_old_password_is_asked_for_again(client, olga, address, form):
    prepare()
    killswitch.trip(reason="drill", at=NOW, actor="test")
    client.force_login(olga)
    age(client, by=timedelta(minutes=16))

    sent_on = client.post(address, form, headers={"Referer": "http://testserver/risk/"})

    assert (sent_on.status_code, sent_on["Location"]) == (303, "/login/again/?next=%2Frisk%2F")
    assert killswitch.status().tripped and not ApiToken.objects.exists()
    assert not Authenticator.objects.exists()
    wrong = client.post("/login/again/", {"password": "wrong", "next": "/risk/"})
    assert b"Not right" in wrong.content
    right = client.post("/login/again/", {"password": PASSWORD, "next": "/risk/"})
    assert (right.status_code, right["Location"]) == (303, "/risk/")
    now = client.post(address, form)
    assert "/login/again/" not in now.headers.get("Location", "")


def test_api_asks_for_a_young_password_too(client, olga):
    prepare()
    killswitch.trip(reason="drill", at=NOW, actor="test")
    client.force_login(olga)
    age(client, by=timedelta(minutes=16))
    body = {"tripped": False, "reason": "well again"}

    rearm = client.post("/api/v1/risk/kill-switch", body, content_type="application/json")
    token = client.post(
        "/api/v1/tokens", {"name": "t", "scopes": ["read"]}, content_type="application/json"
    )

    assert [each.status_code for each in (rearm, token)] == [403, 403]
    assert {each.json()["code"] for each in (rearm, token)} == {"password_needed"}
    assert killswitch.status().tripped


def test_tripping_never_waits_for_a_password(client, olga, settings):
    settings.MPX_IDLE_MINUTES = 0
    prepare()
    client.force_login(olga)
    age(client, by=timedelta(hours=11))

    body = {"tripped": True, "reason": "something is wrong"}
    assert (
        client.post("/api/v1/risk/kill-switch", body, content_type="application/json").status_code
        == 200
    )
    assert killswitch.status().tripped


def test_second_factor_is_asked_for_again_with_the_password(client, olga):
    enrolled(olga)
    client.force_login(olga)

    assert b"authenticator app" in client.get("/login/again/").content
    assert b"Not right" in client.post("/login/again/", {"password": PASSWORD}).content
    done = client.post("/login/again/", {"password": PASSWORD, "code": app_code(olga)})
    assert done.status_code == 303


@pytest.mark.parametrize(
    "there", ["https://evil.example/", "//evil.example", "javascript:alert(1)"]
)
def test_nobody_is_led_elsewhere(client, olga, there):
    client.force_login(olga)

    done = client.post("/login/again/", {"password": PASSWORD, "next": there})

    assert done["Location"] == "/"


# --- approving ---------------------------------------------------------------------------------


def test_desk_may_ask_approvers_for_a_second_factor(settings):
    settings.MPX_REQUIRE_TOTP = True
    prepare()
    view, signal = basket()
    show(view)
    intent, by = suggested(signal, trader()), approver()

    def approve() -> intents.Answer:
        return intents.approve(
            intent.pk,
            by=by,
            at=NOW,
            plan_hash=intent.plan_hash,
            idempotency_key=f"k{has_second_factor(by)}",
        )

    refused = approve()
    assert not refused.verdict.ok and "SECOND_FACTOR" in refused.verdict.names
    assert "Settings, Second factor" in " ".join(refused.verdict.reasons)
    enrolled(by, at=datetime.now(UTC))
    assert approve().verdict.ok


# --- what the audit chain hears ----------------------------------------------------------------


def test_permission_denied_is_told(client):
    viewer = User.objects.create_user("vera", password=PASSWORD)
    client.force_login(viewer)

    assert client.get("/audit/").status_code == 403

    (entry,) = told("access.denied")
    assert (entry.actor, entry.data["path"], entry.data["method"]) == ("vera", "/audit/", "GET")


@pytest.mark.postgres
def test_whoever_asks_on_and_on_does_not_fill_the_chain(client):
    client.force_login(User.objects.create_user("vera", password=PASSWORD))

    assert {client.get("/audit/").status_code for _ in range(40)} == {403}

    assert len(told("access.denied")) == 30


def test_token_that_opens_nothing_is_told(client, olga):
    _, text = book.make(olga, name="old", scopes=["read"], days=1, at=NOW - timedelta(days=400))
    _, reads = book.make(olga, name="reads", scopes=["read"], days=9, at=timezone.now())

    guessed = reads[:-1] + ("a" if reads[-1] != "a" else "b")
    for sent in (text, guessed):
        answer = client.get("/api/v1/signals", headers={"Authorization": f"Bearer {sent}"})
        assert answer.status_code == 401
    beyond = client.post("/api/v1/alerts/test", headers={"Authorization": f"Bearer {reads}"})
    assert beyond.status_code == 403

    assert len(told("token.refused")) == 2
    (entry,) = told("token.beyond_scope")
    assert (entry.actor, entry.data["path"]) == ("olga", "/api/v1/alerts/test")
    everything = str(list(AuditEntry.objects.values_list("subject", "actor", "data")))
    assert text not in everything and reads not in everything
