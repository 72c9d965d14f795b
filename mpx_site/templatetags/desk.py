"""How the portal writes money, prices, edges and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts import trace
from markets.models import Quote
from mpx_site.portal import words
from signals.models import Signal

register = template.Library()

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
CENT = Decimal("0.01")
TENTH = Decimal("0.1")


# A filter is given "" where the template's variable does not exist.
Amount = Decimal | str | None


@register.filter
def cents(price: Amount) -> str:
    """Write a price in USD as cents: 0.413 is 41.3¢."""
    return f"{_short(price * 100)}¢" if isinstance(price, Decimal) else NOTHING


@register.filter
def gap(amount: Amount) -> str:
    """Write an amount of cents with its sign."""
    if not isinstance(amount, Decimal):
        return NOTHING
    return f"{MINUS if amount < 0 else '+'}{_rounded(abs(amount), CENT):f}¢"


@register.filter
def missing(amount: Amount) -> str:
    """Write an amount of cents."""
    return f"{_rounded(amount, CENT):f}¢" if isinstance(amount, Decimal) else NOTHING


@register.filter
def usd(amount: Amount) -> str:
    """Write money to the cent; what is smaller than half a cent is said to be."""
    return _money(amount, sign="") if isinstance(amount, Decimal) else NOTHING


@register.filter
def gain(amount: Amount) -> str:
    """Write money with an explicit sign."""
    return _money(amount, sign="+") if isinstance(amount, Decimal) else NOTHING


@register.filter
def exact(amount: Amount) -> str:
    """Write money or a price with all its digits, at least two decimals."""
    return f"{_long(amount):,f}" if isinstance(amount, Decimal) else NOTHING


@register.filter
def bps(edge: Amount) -> str:
    return f"{_rounded(edge, TENTH):,f}" if isinstance(edge, Decimal) else NOTHING


@register.filter
def percent(share: Amount) -> str:
    """Write a share from 0 to 1 in percent, without the sign."""
    return f"{_rounded(share * 100, TENTH):f}" if isinstance(share, Decimal) else NOTHING


@register.filter
def shares(size: Amount) -> str:
    return f"{_rounded(size, CENT):,f}" if isinstance(size, Decimal) else NOTHING


@register.filter
def whole(amount: Decimal | float | str | None) -> str:
    return NOTHING if amount is None or isinstance(amount, str) else f"{amount:,.0f}"


@register.filter
def spread(quote: Quote | str | None) -> Decimal | None:
    """Return ask - bid; None while a side is empty."""
    if not isinstance(quote, Quote) or quote.bid is None or quote.ask is None:
        return None
    return quote.ask - quote.bid


@register.filter
def span(duration: timedelta | None) -> str:
    """Write a duration with its two largest units."""
    return NOTHING if duration is None else _span(duration.total_seconds())


@register.filter
def seconds(age: float | None) -> str:
    return NOTHING if age is None else _span(age)


@register.filter
def ends_in(at: datetime | None) -> str:
    """Write how long something still lasts, or how long ago it ended."""
    if not isinstance(at, datetime):
        return NOTHING
    left = (at - timezone.now()).total_seconds()
    return f"in {_rough(left)}" if left > 0 else f"ended {_rough(-left)} ago"


@register.filter
def lifetime(signal: Signal, at: datetime) -> str:
    """Write how long a signal has lived."""
    return span(signal.lifetime(at))


@register.simple_tag
def trace_id() -> str:
    """Return what names this request in the log; "" where no request is under way."""
    return trace.current()


@register.simple_tag
def ago(at: datetime | None) -> SafeString | str:
    """Write how long ago a moment was; the browser keeps it up to date."""
    if at is None:
        return "never"
    age = max((timezone.now() - at).total_seconds(), 0)
    return _time(at, "ago", f"{_rough(age)} ago")


@register.simple_tag
def clock(at: datetime | None) -> SafeString | str:
    """Write a moment as date and time, in UTC until the browser is told otherwise."""
    return NOTHING if at is None else _time(at, "clock", f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC")


@register.simple_tag
def day(at: datetime | None) -> SafeString | str:
    """Write a moment to the minute."""
    return NOTHING if at is None else _time(at, "minute", f"{_utc(at):%Y-%m-%d %H:%M} UTC")


@register.filter
def plainly(code: str) -> str:
    """Write a code as words."""
    return code.replace("_", " ")


register.filter("kind_name", words.kind_name)
register.filter("kind_meaning", words.kind_meaning)
register.filter("fact_name", words.fact_name)
register.filter("blocker", words.blocker)
register.filter("condition", words.condition)
register.filter("close_reason", words.close_reason)


@register.filter
def level_meaning(level: str) -> str:
    return words.LEVELS.get(level, "")


@register.filter
def verdict_meaning(verdict: str) -> str:
    return words.VERDICTS.get(verdict, "")


@register.filter
def market_state_meaning(state: str) -> str:
    return words.MARKET_STATES.get(state, "")


@register.filter
def book_state_meaning(state: str) -> str:
    return words.BOOK_STATES.get(state, "")


def _time(at: datetime, show: str, text: str) -> SafeString:
    stamp = _utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    title = f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"
    return format_html(
        '<time datetime="{}" data-show="{}" title="{}">{}</time>', stamp, show, title, text
    )


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _money(amount: Decimal, *, sign: str) -> str:
    rounded = _rounded(abs(amount), CENT)
    before = MINUS if amount < 0 else sign if amount else ""
    if amount and not rounded:
        return f"{before}<$0.01"
    return f"{before}${rounded:,f}"


def _rounded(amount: Decimal, to: Decimal) -> Decimal:
    return amount.quantize(to, ROUND_HALF_EVEN)


def _short(amount: Decimal) -> str:
    """Write without needless zeros, but never as an exponent."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _long(amount: Decimal) -> Decimal:
    plain = Decimal(_short(amount))
    exponent = plain.as_tuple().exponent
    return plain if isinstance(exponent, int) and exponent <= -2 else plain.quantize(CENT)


def _rough(total: float) -> str:
    """Write a duration with its largest unit alone."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if total >= size:
            return f"{total // size:.0f} {unit}"
    return f"{total:.0f} s"


def _span(total: float) -> str:
    if total < 1:
        return f"{total * 1000:.0f} ms"
    if total < 60:
        return f"{total:.0f} s"
    minutes, secs = divmod(int(total), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {secs} s"
