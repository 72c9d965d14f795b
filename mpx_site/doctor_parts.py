"""The doctor's checks of beat, broker and pulse, by the signs of life that each of them gives."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from alerts import clocks
from alerts.models import Heartbeat
from alerts.watchdog import BOT, LIMITS, bot_is_set_up
from mpx_site.doctor_words import Seen, fail, ok, span, warn

NO_REDIS = "not used: REDIS_URL is not set, jobs run inside `up`"
SLOW_SECONDS = 5.0  # from a frame to the portal


def beat() -> Seen:
    """Whether beat looks for what is due."""
    if not settings.REDIS_URL:
        return ok(NO_REDIS)
    return _seen("beat", "Start `celery -A mpx_site beat`", "looks for what is due")


def clocks_of_streams() -> Seen:
    """Whether the streams' machines have the database's time, as they compared it themselves."""
    found = clocks.known(Heartbeat.objects.all(), at=timezone.now())
    if not found:
        return ok("not compared: no stream has run lately, or the database is in its process")
    told = "; ".join(clock.words() for clock in found)
    todo = "Let that machine keep time (NTP) and restart its stream: its times are wrong till then"
    if any(clock.is_wrong for clock in found):
        return fail(told, todo)
    off = any(abs(clock.ahead) > clocks.RIGHT_AGAIN for clock in found)
    return warn(told, todo) if off else ok(told)


def broker() -> Seen:
    """Whether Redis takes what is written to it, as the stream and the workers see it."""
    if not settings.REDIS_URL:
        return ok(NO_REDIS)
    found = Heartbeat.objects.filter(component="broker").first()
    waiting = sum((found.detail.get("queues") or {}).values()) if found else 0
    todo = "Check REDIS_URL, that Redis runs and that it is not full; the stream goes on without it"
    return _seen("broker", todo, f"takes jobs, {waiting:,} wait")


def pulse() -> Seen:
    """Whether the desk's own mispricing comes through: engine, writer, feed."""
    if not settings.MPX_PULSE_SECONDS:
        return ok("off: MPX_PULSE_SECONDS is 0")
    found = Heartbeat.objects.filter(component="pulse").first()
    lag = float(found.detail["heard"]) if found else 0.0
    told = f"came through, {lag:.2f} s from its frame to the portal"
    seen = _seen("pulse", "See the checks: stream and database; restart what hangs", told)
    if seen.state == "ok" and lag > SLOW_SECONDS:
        return warn(told, "Find what is slow: mpx_stage_lag_seconds has each stretch of the way")
    return seen


def bot() -> Seen:
    """Whether what people send to the desk's bot is read."""
    if not bot_is_set_up():
        return ok("off: it takes TELEGRAM_ENABLED and TELEGRAM_BOT_TOKEN")
    return _seen(BOT, "Run `up` or `manage.py telegram_bot`; its log says why", "reads commands")


def _seen(component: str, todo: str, told: str) -> Seen:
    """Judge a part by its heartbeat: it is down if it is missed while another part lives."""
    at = timezone.now()
    found = Heartbeat.objects.filter(component=component).first()
    if found is None:
        return warn("never ran here", todo)
    age = found.age(at)
    if age <= LIMITS[component]:
        return ok(f"{told}; seen {span(age)} ago")
    silent = f"last sign of life {span(age)} ago"
    return fail(silent, todo) if _others_live(component, at) else warn(silent, todo)


def _others_live(component: str, at: datetime) -> bool:
    recent = at - timedelta(seconds=15)
    others = Heartbeat.objects.filter(at__gte=recent).exclude(component=component)
    return others.exists()
