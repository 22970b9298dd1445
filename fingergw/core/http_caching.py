"""How long a shared cache may keep an HTTP response, according to its header fields (RFC 9111, RFC 5861)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate

from fingergw.core.outcome import Freshness

_KEPT = ("cache-control", "expires", "date", "etag", "last-modified", "vary")
FIELDS = (*_KEPT, "age")
"""The header fields that control caching, in lower case."""
_MAX_KEPT = 4096  # characters, of all values together
_MAX_SECONDS = 2.0**31 - 1  # larger values count as this (RFC 9111 §1.2.2)

# Looser than the grammar, so that nothing hides a no-store: semicolons and blanks separate directives too, and an
# unclosed quote is skipped. Each quote is looked at at most twice, so the time is linear.
_DIRECTIVE = re.compile(r'([^\s,;="]+)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,;"]*+)))?')

# RFC 9110 §5.6.7: IMF-fixdate, rfc850-date, asctime-date, in any case; another zone or form is no date (RFC 9111 §4.2)
_DAY, _LONG_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)", "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH, _TIME = r"(?P<month>[a-z]{3})", r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"{_DAY}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def freshness(headers: Mapping[str, str], *, received_at: float, delay: float) -> Freshness:
    """Return how long a response may be kept.

    :param headers: its header fields by lower-case name, several lines of one joined by ``", "``.
    :param received_at: when its head was received, in seconds since 1970.
    :param delay: seconds between sending the request and ``received_at``.
    :return: zeros, without validators, if it must not be stored. The validators are the fields that :func:`conditions`
        and :func:`revalidated` need; empty without ETag and Last-Modified.
    """
    directives = _directives(headers.get("cache-control", ""))
    # Authorization in the request does not matter: RFC 9111 §3.5 keeps one client's responses from the others, but the
    # gateway's credentials are the same for all of its clients.
    if "no-store" in directives or "private" in directives:
        return Freshness(0.0, 0.0, 0.0)
    date = _date(headers.get("date", ""), received_at)
    validators = _validators(headers, received_at if date is None else None)
    # Other fields in Vary do not matter, as requests differ by URL only.
    if "no-cache" in directives or "*" in (name.strip() for name in headers.get("vary", "").split(",")):
        return Freshness(0.0, 0.0, 0.0, validators)

    sent_at = received_at if date is None else date
    lifetime = directives.get("s-maxage", directives.get("max-age"))
    if lifetime is None and "expires" in headers:
        expires = _date(headers["expires"], received_at)
        # An Expires in the past, however far, is like max-age=0, and so is an invalid one (§5.3).
        lifetime = 0.0 if expires is None else min(max(expires - sent_at, 0.0), _MAX_SECONDS)
    age = _seconds(headers.get("age", "").partition(",")[0]) or 0.0
    age = max(received_at - sent_at, age + delay)  # delay is not below 0, so neither is this (§4.2.3)

    strict = "must-revalidate" in directives or "proxy-revalidate" in directives
    # s-maxage implies proxy-revalidate (§5.2.2.10), but an explicit stale-* beside it wins.
    default = 0.0 if "s-maxage" in directives else None
    return Freshness(
        ttl=None if lifetime is None else lifetime - age,
        stale_while_revalidate=0.0 if strict else directives.get("stale-while-revalidate", default),
        stale_if_error=0.0 if strict else directives.get("stale-if-error", default),
        validators=validators,
    )


def conditions(validators: Mapping[str, str]) -> dict[str, str]:
    """Return the header fields that make a request conditional (RFC 9111 §4.3.1).

    :param validators: from :func:`freshness`.
    """
    fields = {"If-None-Match": validators.get("etag"), "If-Modified-Since": validators.get("last-modified")}
    return {name: value for name, value in fields.items() if value}


def revalidated(
    validators: Mapping[str, str], headers: Mapping[str, str], *, received_at: float, delay: float
) -> Freshness | None:
    """Return how long a stored response may be kept after a 304 (RFC 9111 §4.3.4).

    :param validators: the stored response's, from :func:`freshness` or this function.
    :param headers: the 304's; so are ``received_at`` and ``delay``.
    :return: None if the 304 is about another response; then the stored one must not be used.
    """
    etag = headers.get("etag")
    if etag is not None and etag.removeprefix("W/") != validators.get("etag", "").removeprefix("W/"):
        return None  # weak comparison, RFC 9110 §8.8.3.2
    # A 304 without Date is dated by its receipt, not by the stored response's Date.
    stored = {name: value for name, value in validators.items() if name != "date"}
    return freshness({**stored, **headers}, received_at=received_at, delay=delay)


def redirected(said: Freshness, redirects: Sequence[Freshness]) -> Freshness:
    """Return how long a response that was reached by redirects may be kept: no longer than any of these.

    :param said: the freshness of the last response.
    :param redirects: the freshness of each redirect.
    """
    if not redirects:
        return said
    ttls = [one.ttl for one in (said, *redirects) if one.ttl is not None]
    return Freshness(
        ttl=min(ttls, default=None),
        stale_while_revalidate=_least(one.implied_stale_while_revalidate for one in (said, *redirects)),
        stale_if_error=_least(one.stale_if_error for one in (said, *redirects)),
        validators=said.validators,
        ttl_at_most=len(ttls) <= len(redirects),
    )


def _least(seconds: Iterable[float | None]) -> float | None:
    return min((one for one in seconds if one is not None), default=None)


def _validators(headers: Mapping[str, str], received_at: float | None) -> dict[str, str]:
    """Return the fields to keep; the time of receipt, unless None, replaces their date."""
    kept = {name: headers[name] for name in _KEPT if name in headers}
    if not conditions(kept):
        return {}
    if received_at is not None:
        kept["date"] = formatdate(received_at, usegmt=True)
    return kept if sum(map(len, kept.values())) <= _MAX_KEPT else {}


def _directives(value: str) -> dict[str, float]:
    """Return the directives by lower-case name, with the smallest of their arguments; 0 for one that is no number.

    This is the strictest reading (RFC 9111 §4.2.1: invalid freshness information is stale).
    """
    found: dict[str, float] = {}
    for name, quoted, token in _DIRECTIVE.findall(value):
        seconds = _seconds(quoted or token) or 0.0
        found[name.lower()] = min(seconds, found.get(name.lower(), seconds))
    return found


def _seconds(text: str) -> float | None:
    """Parse delta-seconds (RFC 9111 §1.2.2); None if it is not one."""
    text = text.strip()
    # float, as int refuses very long numbers
    return min(float(text), _MAX_SECONDS) if text.isascii() and text.isdigit() else None


def _date(text: str, now: float) -> float | None:
    """Parse a date (RFC 9110 §5.6.7) to seconds since 1970; None if it is not one."""
    match = next(filter(None, (pattern.fullmatch(text.strip()) for pattern in _DATES)), None)
    if match is None or match["month"].lower() not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # the latest year with these digits that is at most 50 years ahead
        last = datetime.fromtimestamp(now, UTC).year + 50
        year = last - (last - year) % 100
    month = _MONTHS.index(match["month"].lower()) + 1
    day, hour, minute, second = (int(match[unit]) for unit in ("day", "hour", "minute", "second"))
    leap = second == 60  # which datetime does not know
    try:
        return datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC).timestamp() + leap
    except ValueError:
        return None
