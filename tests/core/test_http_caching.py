"""How long a response may be kept: clause by clause, against another implementation, and whatever its header holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from types import SimpleNamespace
from unittest import mock

import pytest
from hishel import Headers, Response
from hishel._core import _spec
from hypothesis import example, given
from hypothesis import strategies as st

from fingergw.core.http_caching import conditions, freshness, redirected, revalidated
from fingergw.core.outcome import Freshness

NOW = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"  # the same, RFC 9110 §5.6.7
HOUR_AGO, HOUR_AHEAD = "Sun, 06 Nov 1994 07:49:37 GMT", "Sun, 06 Nov 1994 09:49:37 GMT"
MAX = 2.0**31 - 1
SAYS_NOTHING = Freshness()
NOT_STORED = Freshness(0.0, 0.0, 0.0)
SPELLINGS: list[Callable[[str], str]] = [str, str.upper, str.title]


def read(headers: dict[str, str], delay: float = 0.0) -> Freshness:
    """Return the freshness of a response that comes at NOW."""
    return freshness(headers, received_at=NOW, delay=delay)


def control(value: str) -> Freshness:
    """Return the freshness of a response with this Cache-Control alone, which comes at NOW."""
    return read({"cache-control": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 9111 §4.2.1, which lifetime
        pytest.param("", SAYS_NOTHING, id="4.2.1-none"),
        pytest.param("public, immutable, x=1", SAYS_NOTHING, id="4.2.1-others"),
        pytest.param("max-age=60", Freshness(60.0), id="5.2.2.1"),
        pytest.param("max-age=0", Freshness(0.0), id="5.2.2.1-zero"),
        pytest.param("s-maxage=60", Freshness(60.0, 0.0, 0.0), id="5.2.2.10"),
        pytest.param("max-age=5, s-maxage=60", Freshness(60.0, 0.0, 0.0), id="4.2.1-s-maxage-first"),
        pytest.param("s-maxage=5, max-age=60", Freshness(5.0, 0.0, 0.0), id="4.2.1-s-maxage-last"),
        # §4.2.1, what conflicts or is invalid
        pytest.param("max-age=60, max-age=5", Freshness(5.0), id="4.2.1-twice"),
        pytest.param("max-age=5, Max-Age=60", Freshness(5.0), id="4.2.1-twice-other-case"),
        pytest.param("max-age=60, max-age=x", Freshness(0.0), id="4.2.1-twice-one-invalid"),
        pytest.param("max-age=-1", Freshness(0.0), id="4.2.1-negative"),
        pytest.param("max-age=+60", Freshness(0.0), id="4.2.1-sign"),
        pytest.param("max-age=1.5", Freshness(0.0), id="4.2.1-fraction"),
        pytest.param("max-age=1e3", Freshness(0.0), id="4.2.1-exponent"),
        pytest.param("max-age=1_0", Freshness(0.0), id="4.2.1-underscore"),
        pytest.param("max-age=\u0663", Freshness(0.0), id="4.2.1-other-digits"),
        pytest.param("max-age=\u00b2", Freshness(0.0), id="4.2.1-superscript"),
        pytest.param("max-age=inf", Freshness(0.0), id="4.2.1-infinity"),
        pytest.param("max-age=", Freshness(0.0), id="4.2.1-empty"),
        pytest.param("max-age", Freshness(0.0), id="4.2.1-no-argument"),
        pytest.param("max-age=60, s-maxage=x", Freshness(0.0, 0.0, 0.0), id="4.2.1-the-one-that-applies-is-invalid"),
        pytest.param("max-age=x, s-maxage=60", Freshness(60.0, 0.0, 0.0), id="4.2.1-another-is-invalid"),
        # §1.2.2, sizes
        pytest.param("max-age=2147483647", Freshness(MAX), id="1.2.2-largest"),
        pytest.param("max-age=2147483648", Freshness(MAX), id="1.2.2-larger"),
        pytest.param("max-age=" + "9" * 5000, Freshness(MAX), id="1.2.2-huge"),
        pytest.param("max-age=" + "0" * 5000 + "60", Freshness(60.0), id="1.2.2-zeros"),
        # §5.2, syntax
        pytest.param("MAX-AGE=60", Freshness(60.0), id="5.2-case"),
        pytest.param("max-age = 60", Freshness(60.0), id="5.2-blanks"),
        pytest.param('max-age="60"', Freshness(60.0), id="5.2-quoted"),
        pytest.param('max-age="60', Freshness(0.0), id="5.2-half-quoted"),
        pytest.param(",, \t max-age=60 ,,", Freshness(60.0), id="5.2-empty-elements"),
        pytest.param('x="no-store, max-age=5", max-age=60', Freshness(60.0), id="5.2-quoted-comma"),
        pytest.param('x="\\", no-store, \\\\", max-age=60', Freshness(60.0), id="5.2-quoted-pair"),
        pytest.param('x="a, no-store', NOT_STORED, id="5.2-unbalanced-quote"),
        pytest.param('x="a\\", no-store', NOT_STORED, id="5.2-unbalanced-quoted-pair"),
        pytest.param("max-age=60;no-store", NOT_STORED, id="5.2-semicolon"),
        pytest.param("max-age=60 no-store", NOT_STORED, id="5.2-blank"),
        pytest.param("x-no-store, no-storex, x=no-store", SAYS_NOTHING, id="5.2-whole-names"),
        # what must not be stored
        pytest.param("no-store, max-age=60", NOT_STORED, id="5.2.2.5"),
        pytest.param("No-Store", NOT_STORED, id="5.2.2.5-case"),
        pytest.param("private, max-age=60", NOT_STORED, id="5.2.2.7"),
        pytest.param('max-age=60, private="set-cookie, x"', NOT_STORED, id="5.2.2.7-fields"),
        pytest.param("must-understand, no-store", NOT_STORED, id="5.2.2.3"),
        # what must be revalidated each time
        pytest.param("no-cache, max-age=60, stale-if-error=60", Freshness(0.0, 0.0, 0.0), id="5.2.2.4"),
        pytest.param('max-age=60, no-cache="set-cookie, x"', Freshness(0.0, 0.0, 0.0), id="5.2.2.4-fields"),
        # stale
        pytest.param("stale-while-revalidate=60", Freshness(None, 60.0), id="5861-3"),
        pytest.param("stale-if-error=60", Freshness(None, None, 60.0), id="5861-4"),
        pytest.param("stale-if-error=60, stale-if-error=5", Freshness(None, None, 5.0), id="5861-4-twice"),
        pytest.param("stale-while-revalidate=x", Freshness(None, 0.0), id="5861-3-invalid"),
        pytest.param("stale-if-error", Freshness(None, None, 0.0), id="5861-4-invalid"),
        pytest.param("max-age=5, must-revalidate", Freshness(5.0, 0.0, 0.0), id="5.2.2.2"),
        pytest.param("max-age=5, proxy-revalidate", Freshness(5.0, 0.0, 0.0), id="5.2.2.8"),
        pytest.param(
            "must-revalidate, stale-while-revalidate=60, stale-if-error=60",
            Freshness(None, 0.0, 0.0),
            id="5.2.2.2-over-5861",
        ),
        pytest.param(
            "proxy-revalidate, stale-while-revalidate=60, stale-if-error=60",
            Freshness(None, 0.0, 0.0),
            id="5.2.2.8-over-5861",
        ),
        pytest.param(
            "s-maxage=5, stale-while-revalidate=60", Freshness(5.0, 60.0, 0.0), id="5.2.2.10-while-revalidate"
        ),
        pytest.param("s-maxage=5, stale-if-error=60", Freshness(5.0, 0.0, 60.0), id="5.2.2.10-if-error"),
    ],
)
def test_cache_control(value: str, expected: Freshness) -> None:
    """Each directive counts as its section of RFC 9111, or RFC 5861, says."""
    assert control(value) == expected


@pytest.mark.parametrize(
    ("headers", "ttl"),
    [
        # §4.2.1 and §5.3: Expires - Date, if nothing else is said
        pytest.param({"expires": HOUR_AHEAD, "date": DATE}, 3600.0, id="4.2.1"),
        pytest.param({"expires": HOUR_AGO, "date": DATE}, 0.0, id="4.2.1-past"),
        pytest.param({"expires": HOUR_AGO}, 0.0, id="4.2.1-past-no-date"),
        pytest.param({"expires": "Thu, 01 Jan 1970 00:00:00 GMT", "date": DATE}, 0.0, id="4.2.1-long-past"),
        pytest.param({"expires": HOUR_AGO, "date": DATE, "age": "5"}, -5.0, id="4.2.1-past-and-old"),
        pytest.param({"expires": DATE, "date": DATE}, 0.0, id="4.2.1-now"),
        pytest.param({"expires": HOUR_AHEAD}, 3600.0, id="4.2.1-no-date"),
        pytest.param({"expires": f" {HOUR_AHEAD}\t"}, 3600.0, id="5.3-blanks"),
        pytest.param({"expires": "Sunday, 06-Nov-94 09:49:37 GMT"}, 3600.0, id="5.3-rfc850"),
        pytest.param({"expires": "Sun Nov  6 09:49:37 1994"}, 3600.0, id="5.3-asctime"),
        pytest.param({"expires": "SUN, 06 nov 1994 09:49:37 gmt"}, 3600.0, id="4.2-case"),
        pytest.param({"expires": "Sun, 06 Nov 1994 09:48:60 GMT"}, 3563.0, id="5.6.7-leap-second"),
        pytest.param({"expires": HOUR_AHEAD, "date": "x"}, 3600.0, id="4.2.1-invalid-date"),
        pytest.param({"expires": HOUR_AHEAD, "date": HOUR_AGO}, 3600.0, id="4.2.1-old"),
        pytest.param({"expires": HOUR_AHEAD, "date": HOUR_AHEAD}, 0.0, id="4.2.1-at-once"),
        pytest.param({"expires": "Fri, 31 Dec 9999 23:59:59 GMT"}, MAX, id="4.2.1-never"),
        pytest.param({"expires": "0"}, 0.0, id="5.3-zero"),
        pytest.param({"expires": "-1"}, 0.0, id="5.3-negative"),
        pytest.param({"expires": ""}, 0.0, id="5.3-empty"),
        pytest.param({"expires": f"{HOUR_AHEAD}, {HOUR_AHEAD}"}, 0.0, id="5.3-twice"),
        pytest.param({"expires": HOUR_AHEAD, "cache-control": "max-age=60"}, 60.0, id="5.3-max-age"),
        pytest.param({"expires": HOUR_AHEAD, "cache-control": "s-maxage=60"}, 60.0, id="5.3-s-maxage"),
        pytest.param({"expires": HOUR_AHEAD, "cache-control": "max-age=x"}, 0.0, id="5.3-invalid-max-age"),
        pytest.param({"expires": HOUR_AHEAD, "cache-control": "stale-if-error=1"}, 3600.0, id="5.3-others"),
        # §4.2.2: no heuristics
        pytest.param({"last-modified": HOUR_AGO, "date": DATE}, None, id="4.2.2"),
        # §5.4: Pragma means nothing in a response
        pytest.param({"pragma": "no-cache", "cache-control": "max-age=60"}, 60.0, id="5.4"),
        # §4.1: the gateway's requests do not vary
        pytest.param({"vary": "Accept, Authorization", "cache-control": "max-age=60"}, 60.0, id="4.1"),
        pytest.param({"vary": "*", "cache-control": "max-age=60"}, 0.0, id="4.1-star"),
        pytest.param({"vary": "Accept , *,Cookie", "cache-control": "max-age=60"}, 0.0, id="4.1-star-among-others"),
    ],
)
def test_lifetime(headers: dict[str, str], ttl: float | None) -> None:
    """Without a directive, Expires counts, from the time at which the response was sent."""
    assert read(headers).ttl == ttl


@pytest.mark.parametrize(
    ("headers", "delay", "age"),
    [
        pytest.param({}, 0.0, 0.0, id="none"),
        pytest.param({}, 2.5, 2.5, id="delay"),
        pytest.param({"date": HOUR_AGO}, 2.5, 3600.0, id="apparent"),
        pytest.param({"date": HOUR_AHEAD}, 2.5, 2.5, id="clock-ahead"),
        pytest.param({"date": "x"}, 2.5, 2.5, id="invalid-date"),
        pytest.param({"age": "10"}, 2.5, 12.5, id="corrected"),
        pytest.param({"age": "10", "date": HOUR_AGO}, 2.5, 3600.0, id="apparent-is-more"),
        pytest.param({"age": "4000", "date": HOUR_AGO}, 2.5, 4002.5, id="corrected-is-more"),
        pytest.param({"age": " 10 "}, 0.0, 10.0, id="5.1-blanks"),
        pytest.param({"age": "10, 4000"}, 0.0, 10.0, id="5.1-first"),
        pytest.param({"age": "x, 4000"}, 0.0, 0.0, id="5.1-first-invalid"),
        pytest.param({"age": "-10"}, 2.5, 2.5, id="5.1-negative"),
        pytest.param({"age": "1.5"}, 0.0, 0.0, id="5.1-fraction"),
        pytest.param({"age": "9" * 5000}, 0.0, MAX, id="5.1-huge"),
    ],
)
def test_age(headers: dict[str, str], delay: float, age: float) -> None:
    """What a response has of age when it comes is no time to keep it (RFC 9111 §4.2.3, §5.1)."""
    assert read({"cache-control": "max-age=60"} | headers, delay).ttl == 60.0 - age


def test_age_without_lifetime() -> None:
    """Where upstream does not say how long, its age does not matter: the operator's time counts from the receipt."""
    assert read({"age": "4000", "date": HOUR_AGO}, delay=2.5) == SAYS_NOTHING


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="silent"),
        pytest.param({"cache-control": "max-age=1"}, None, id="fresh"),
        pytest.param({"cache-control": "max-age=1", "expires": "0"}, None, id="fresh-whatever-expires"),
        pytest.param({"cache-control": "max-age=1", "age": "1"}, 0.0, id="just-not"),
        pytest.param({"cache-control": "max-age=0"}, 0.0, id="0"),
        pytest.param({"cache-control": "max-age=x"}, 0.0, id="invalid"),
        pytest.param({"cache-control": "s-maxage=0"}, 0.0, id="0-shared"),
        pytest.param({"cache-control": "max-age=60", "age": "100"}, 0.0, id="old"),
        pytest.param({"cache-control": "max-age=60", "date": HOUR_AGO}, 0.0, id="old-by-date"),
        pytest.param({"expires": HOUR_AGO}, 0.0, id="expires-past"),
        pytest.param({"expires": "0"}, 0.0, id="expires-0"),
        pytest.param({"expires": DATE, "date": DATE}, 0.0, id="expires-now"),
        pytest.param({"expires": HOUR_AHEAD}, None, id="expires-ahead"),
        pytest.param({"cache-control": "max-age=0, stale-while-revalidate=60"}, 60.0, id="0-and-explicit"),
        pytest.param({"cache-control": "s-maxage=0, stale-while-revalidate=60"}, 60.0, id="0-shared-and-explicit"),
        pytest.param({"expires": "0", "cache-control": "stale-while-revalidate=60"}, 60.0, id="expires-and-explicit"),
    ],
)
def test_not_fresh_when_it_comes(headers: dict[str, str], seconds: float | None) -> None:
    """What a server says is not fresh when it comes is not served while it is refreshed, unless it says so itself."""
    assert read(headers).implied_stale_while_revalidate == seconds


@pytest.mark.parametrize("on_the_way", [0, 1])
def test_a_redirect_that_is_not_fresh_when_it_comes(on_the_way: int) -> None:
    """What another response allows for itself does not count for it."""
    responses = [control("max-age=0"), control("max-age=60, stale-while-revalidate=600")]
    last = responses.pop(1 - on_the_way)
    assert redirected(last, responses).stale_while_revalidate == 0.0


@given(
    st.datetimes(datetime(1977, 1, 1), datetime(2076, 12, 31)),
    st.sampled_from(SPELLINGS),
)
@example(datetime(1977, 1, 1), str)
@example(datetime(2076, 12, 31, 23, 59, 59), str)
def test_dates(moment: datetime, spell: Callable[[str], str]) -> None:
    """Each of HTTP's three formats names the same second, in any case; two digits are a year within 50 (§5.6.7)."""
    now = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    for text in (format_datetime(moment, usegmt=True), f"{moment:%A, %d-%b-%y %H:%M:%S} GMT", moment.ctime()):
        if moment.timestamp() > now:
            headers = {"expires": spell(text)}
        else:  # an Expires in the past is the same whenever that was
            headers = {"date": spell(text), "cache-control": "max-age=0"}
        assert freshness(headers, received_at=now, delay=0.0).ttl == moment.timestamp() - now


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "784115377",
        "1994-11-06T09:49:37Z",
        "Sun, 06 Nov 1994 09:49:37",
        "Sun, 06 Nov 1994 09:49:37 EST",
        "Sun, 06 Nov 1994 09:49:37 +0000",
        "Sun, 06 Nov 1994 09:49:37 UTC",
        "Sun, 06 Nov 1994 09:49:37 Z",
        "Sun, 06 Nov 1994 09:49:37 GMT+0000",
        "Sun, 06 Nov 94 09:49:37 GMT",
        "Sun, 6 Nov 1994 09:49:37 GMT",
        "Sun, 06-Nov-1994 09:49:37 GMT",
        "Sun, 06-Nov-94 09:49:37 GMT",
        "Sunday, 06 Nov 1994 09:49:37 GMT",
        "Sunday, 06-Nov-1994 09:49:37 GMT",
        "Sunday, 06-Nov-94 09:49:37 UTC",
        "Sunday, 6-Nov-94 09:49:37 GMT",
        "06 Nov 1994 09:49:37 GMT",
        "Sun 06 Nov 1994 09:49:37 GMT",
        "Foo, 06 Nov 1994 09:49:37 GMT",
        "Sun, 06  Nov  1994 09:49:37 GMT",
        "Sun, 06 November 1994 09:49:37 GMT",
        "Sun, 06 Nov 1994 9:49:37 GMT",
        "Sun, 06 Nov 1994 09.49.37 GMT",
        "Sun, 06 Nov 1994 09:49:61 GMT",
        "Sun Nov 6 09:49:37 1994",
        "Sun Nov  6 09:49:37 1994 GMT",
        "Sun Nov  6 09:49:37 94",
        "Sun, 06 Nov 1994 09:49 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 09:60:37 GMT",
        "Sun, 06 Nov 1994 09:49:99 GMT",
        "Sun, 31 Nov 1994 09:49:37 GMT",
        "Sun, 00 Nov 1994 09:49:37 GMT",
        "Sun, 06 Foo 1994 09:49:37 GMT",
        "Sun, 06 Nov 0000 09:49:37 GMT",
        "Sun, 06 Nov 19941 09:49:37 GMT",
        "Sun, 06 Nov 1994 09:49:37 GMT x",
        "Sun Nov  6 09:49:37 99999",
        "Sun, \u0660\u0666 Nov 1994 09:49:37 GMT",
        "Sun, 06 Nov " + "9" * 5000 + " 09:49:37 GMT",
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_what_is_no_date(text: str) -> None:
    """An invalid Expires has passed (RFC 9111 §5.3), and an invalid Date is the receipt's (RFC 9110 §6.6.1)."""
    assert read({"expires": text}).ttl == 0.0
    kept = read({"date": text, "cache-control": "max-age=60", "etag": '"a"'})
    assert kept.ttl == 60.0
    assert kept.validators["date"] == DATE


@pytest.mark.parametrize(
    ("headers", "validators"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"date": DATE, "expires": DATE, "vary": "x", "cache-control": "x"}, {}, id="nothing-to-ask-with"),
        pytest.param({"date": DATE, "etag": "", "last-modified": ""}, {}, id="nothing-in-them"),
        pytest.param({"date": DATE, "etag": '"a"'}, {"date": DATE, "etag": '"a"'}, id="etag"),
        pytest.param(
            {"date": DATE, "last-modified": HOUR_AGO}, {"date": DATE, "last-modified": HOUR_AGO}, id="last-modified"
        ),
        pytest.param({"etag": '"a"'}, {"date": DATE, "etag": '"a"'}, id="no-date"),
        pytest.param({"etag": '"a"', "date": "x"}, {"date": DATE, "etag": '"a"'}, id="invalid-date"),
        pytest.param(
            {"etag": '"a"', "date": DATE, "age": "5", "content-type": "x", "set-cookie": "x"},
            {"etag": '"a"', "date": DATE},
            id="no-others",
        ),
        pytest.param(
            {"etag": '"a"', "date": HOUR_AGO, "expires": "0", "vary": "*", "cache-control": "no-cache"},
            {"etag": '"a"', "date": HOUR_AGO, "expires": "0", "vary": "*", "cache-control": "no-cache"},
            id="all",
        ),
        pytest.param({"etag": '"a"', "date": DATE, "cache-control": "no-store"}, {}, id="no-store"),
        pytest.param({"etag": '"a"', "date": DATE, "cache-control": "private"}, {}, id="private"),
        pytest.param({"etag": "x" * 4067, "date": DATE}, {"etag": "x" * 4067, "date": DATE}, id="largest"),
        pytest.param({"etag": "x" * 4068, "date": DATE}, {}, id="too-large"),
        pytest.param({"etag": "x", "date": DATE, "cache-control": "x" * 4067}, {}, id="too-large-together"),
    ],
)
def test_validators(headers: dict[str, str], validators: dict[str, str]) -> None:
    """The fields that a 304 is merged into are kept if one of them can be asked with, and all are not too long."""
    assert dict(read(headers).validators) == validators


@pytest.mark.parametrize("headers", [{"cache-control": "no-cache"}, {"vary": "*"}], ids=["no-cache", "vary"])
def test_what_is_kept_to_be_revalidated(headers: dict[str, str]) -> None:
    """What may not be used without being asked about keeps what that takes (RFC 9111 §4.1, §5.2.2.4)."""
    kept = read({**headers, "etag": '"a"', "date": HOUR_AGO, "expires": HOUR_AHEAD})
    assert kept == Freshness(0.0, 0.0, 0.0, {**headers, "etag": '"a"', "date": HOUR_AGO, "expires": HOUR_AHEAD})


def test_conditions() -> None:
    """A request asks by all the validators that there are, as they came (RFC 9111 §4.3.1)."""
    assert conditions({"date": DATE, "etag": 'W/"a"'}) == {"If-None-Match": 'W/"a"'}
    assert conditions({"date": DATE, "last-modified": HOUR_AGO}) == {"If-Modified-Since": HOUR_AGO}
    assert conditions({"etag": '"a"', "last-modified": HOUR_AGO}) == {
        "If-None-Match": '"a"',
        "If-Modified-Since": HOUR_AGO,
    }
    assert conditions({}) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "selected"),
    [
        ('"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('W/"a"', '"a"', True),
        ('W/"a"', 'W/"a"', True),
        ('"a"', None, True),
        ('"a"', '"b"', False),
        ('W/"a"', 'W/"b"', False),
        ('"a"', '"A"', False),
        ('"a"', 'w/"a"', False),
        ('"a"', "", False),
        (None, None, True),
        (None, '"a"', False),
    ],
)
def test_of_which_response_a_304_speaks(ours: str | None, theirs: str | None, selected: bool) -> None:
    """A 304 whose ETag is not ours, compared weakly, is about another response (RFC 9110 §8.8.3.2, RFC 9111 §4.3.4)."""
    stored = read({"last-modified": HOUR_AGO} | ({"etag": ours} if ours else {})).validators
    kept = revalidated(stored, {} if theirs is None else {"etag": theirs}, received_at=NOW, delay=0.0)
    assert (kept is not None) is selected


STORED = {"etag": '"a"', "date": HOUR_AGO, "cache-control": "max-age=60, stale-if-error=5", "vary": "Accept"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, Freshness(58.0, None, 5.0, STORED | {"date": DATE}), id="nothing-new"),
        pytest.param(
            {"date": HOUR_AHEAD}, Freshness(58.0, None, 5.0, STORED | {"date": HOUR_AHEAD}), id="date-of-the-304"
        ),
        pytest.param(
            {"cache-control": "max-age=10", "etag": 'W/"a"', "expires": "0", "last-modified": HOUR_AGO, "vary": "x"},
            Freshness(
                8.0,
                None,
                None,
                {
                    "cache-control": "max-age=10",
                    "date": DATE,
                    "etag": 'W/"a"',
                    "expires": "0",
                    "last-modified": HOUR_AGO,
                    "vary": "x",
                },
            ),
            id="all-new",
        ),
        pytest.param({"age": "30"}, Freshness(28.0, None, 5.0, STORED | {"date": DATE}), id="age-of-the-304"),
        pytest.param({"cache-control": "no-store"}, NOT_STORED, id="no-store"),
        pytest.param(
            {"cache-control": "no-cache"},
            Freshness(0.0, 0.0, 0.0, STORED | {"date": DATE, "cache-control": "no-cache"}),
            id="no-cache",
        ),
    ],
)
def test_revalidated(headers: dict[str, str], expected: Freshness) -> None:
    """What a 304 says replaces what was stored, and its own age and date count (RFC 9111 §3.2, §4.3.4)."""
    assert revalidated(STORED, headers, received_at=NOW, delay=2.0) == expected


def test_revalidated_again() -> None:
    """Expires stays the time that it was, however often the response is revalidated."""
    kept = read({"expires": HOUR_AHEAD, "date": HOUR_AGO, "etag": '"a"'})
    for later in (60, 120, 5000):
        again = revalidated(kept.validators, {}, received_at=NOW + later, delay=0.0)
        assert again is not None
        assert again.ttl == max(3600.0 - later, 0.0)
        kept = again


# hishel is another cache's implementation. Where the header is valid, the two agree but for what is said below.

ARGUMENTS = {"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"}
HARMLESS = ["public", "immutable", "no-transform", "must-understand", "x=1", 'x="a, no-store, max-age=1"']
HARMFUL = ["no-store", "private", "no-cache", 'private="x, y"', 'no-cache="x, y"', "must-revalidate"]
HARMFUL_TO_US = ["proxy-revalidate"]


@st.composite
def cache_control(draw: st.DrawFn, directives: list[str]) -> str:
    """Draw a valid Cache-Control of some of the directives, each once; arguments are at least 1."""
    value = ""
    for directive in draw(st.lists(st.sampled_from(directives), unique=True)):
        argument = str(draw(st.integers(1, 100) | st.integers(1, 10**12))) if directive in ARGUMENTS else ""
        value += draw(st.sampled_from(SPELLINGS))(directive)
        value += argument and draw(st.sampled_from(["={}", '="{}"'])).format(argument)
        value += draw(st.sampled_from([",", ", ", " , ", ",,"]))
    return value


def dates() -> st.SearchStrategy[str]:
    """Return dates to both sides of NOW."""
    seconds = st.integers(-100, 100) | st.integers(-(10**9), 10**9)
    return seconds.map(lambda second: formatdate(NOW + second, usegmt=True))


def oracle(headers: dict[str, str]) -> Response:
    """Return a response as hishel has them."""
    return Response(200, Headers(headers))


@given(
    st.fixed_dictionaries(
        {}, optional={"cache-control": cache_control([*ARGUMENTS, *HARMLESS]), "expires": dates(), "date": dates()}
    )
)
def test_ttl_is_the_oracles(headers: dict[str, str]) -> None:
    """The ttl is what hishel has for a shared cache's lifetime less the age that it takes from Date.

    It does not look at no-store, private, no-cache and Vary for these; it has -1 for an invalid Expires, and less
    than 0 for one in the past, which we take for 0; of a directive given twice it takes the last, and one that is
    invalid it ignores, which §4.2.1 has us take for stale; it does not know Age and the delay (§4.2.3); it takes dates
    with any zone for GMT (§4.2).
    """
    with mock.patch.object(_spec, "time", SimpleNamespace(time=lambda: float(NOW))):
        lifetime = _spec.get_freshness_lifetime(oracle(headers), is_cache_shared=True)
        age = _spec.get_age(oracle(headers))
    assert read(headers).ttl == (None if lifetime is None else max(lifetime, 0) - age)


@given(cache_control(["max-age", "stale-while-revalidate", "stale-if-error", *HARMLESS, "no-cache", "must-revalidate"]))
def test_stale_is_the_oracles(value: str) -> None:
    """What hishel may serve stale, and only that, is not refused both ways of being stale."""
    kept = control(value)
    assert _spec.allowed_stale(oracle({"cache-control": value}), True) is (kept.stale_if_error != 0.0)
    assert (kept.stale_while_revalidate != 0.0) is (kept.stale_if_error != 0.0)


@given(cache_control([*ARGUMENTS, *HARMLESS, *HARMFUL, *HARMFUL_TO_US]))
def test_stale_is_never_more_than_the_oracles(value: str) -> None:
    """What hishel may not serve stale is never served stale.

    We refuse more: for proxy-revalidate (§5.2.2.8) and s-maxage (§5.2.2.10), as hishel does not see to these, and for
    no-store and private, which it does not store in the first place.
    """
    kept = control(value)
    if kept.stale_while_revalidate != 0.0 or kept.stale_if_error != 0.0:
        assert _spec.allowed_stale(oracle({"cache-control": value}), True)


# anything at all, and what comes near to meaning something
PIECES = st.lists(
    st.sampled_from([*ARGUMENTS, *HARMFUL, *HARMFUL_TO_US, *HARMLESS, "=", '"', "\\", ",", ";", " ", "*", "-1", "60"])
    | st.sampled_from(["9" * 400, "GMT", "Nov", "06", "99", "1994", "09:49:37", "Sun", ":", "W/", "\n", "\x00", "\xa0"])
    | st.text(max_size=3),
    max_size=20,
).map("".join)
VALUES = st.text() | PIECES | dates() | cache_control([*ARGUMENTS, *HARMFUL, *HARMFUL_TO_US, *HARMLESS])
NAMES = ["cache-control", "expires", "date", "age", "etag", "last-modified", "vary"]
HEADERS = st.dictionaries(st.sampled_from(NAMES), VALUES)


@given(HEADERS, HEADERS, st.floats(0, 2.0**35), st.floats(0, 1e6))
def test_any_header(headers: dict[str, str], later: dict[str, str], received_at: float, delay: float) -> None:
    """Whatever stands in the fields, nothing is raised, and all numbers are ones to reckon with."""
    stored = freshness(headers, received_at=received_at, delay=delay)
    again = revalidated(stored.validators, later, received_at=received_at, delay=delay)
    for kept in (stored, again or stored):
        assert kept.ttl is None or math.isfinite(kept.ttl)
        assert kept.ttl is None or kept.ttl <= MAX
        for window in (kept.stale_while_revalidate, kept.stale_if_error):
            assert window is None or 0.0 <= window <= MAX
        assert sum(map(len, kept.validators.values())) <= 4096
        assert bool(kept.validators) is bool(conditions(kept.validators))


def served_until(kept: Freshness) -> list[float]:
    """Return for how long a response is served fresh, while it is revalidated, and if that fails."""
    ttl = math.inf if kept.ttl is None else kept.ttl
    windows = (0.0, kept.stale_while_revalidate, kept.stale_if_error)
    return [max(0.0, math.inf if window is None else ttl + window) for window in windows]


@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.sampled_from([*HARMFUL, *HARMFUL_TO_US]),
    st.booleans(),
)
@example({"cache-control": 'x="'}, "no-store", False)
@example({"cache-control": 'x="\\'}, "must-revalidate", False)
def test_a_restriction_restricts(headers: dict[str, str], directive: str, first: bool) -> None:
    """Where one of the directives that restrict is added, to anything, nothing is served that was not before."""
    value = headers.get("cache-control", "")
    if not first and '"' in directive:  # in front of it, a quote may be open
        value = value.replace('"', "")
    before = read(headers | {"cache-control": value})
    after = read(headers | {"cache-control": f"{directive}, {value}" if first else f"{value}, {directive}"})
    if directive.startswith(("no-store", "private")):
        assert after == NOT_STORED
    for now, then in zip(served_until(after), served_until(before), strict=True):
        assert now <= then
    if directive.startswith("no-"):
        assert served_until(after) == [0.0, 0.0, 0.0]
    else:
        assert (after.stale_while_revalidate, after.stale_if_error) == (0.0, 0.0)


HOSTILE = [",", ";", "=", '"', "\\", " ", "9", "a", "*", ", ", " ,", "a,", "*,", 'a="', 'a="\\', 'a="",', 'a= "', "a "]
HOSTILE += ["a =", '\\="', '=\\"', "max-age=9,", "Sun, ", "Sun, 0", "0:", "W/"]


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_long_values(piece: str) -> None:
    """What is long is read in linear time: were it the square, so much would meet the suite's time limit."""
    value = piece * (2**18 // len(piece))
    for whole in (value, 'a="' + value, value + '"', "a" + value + "b"):
        kept = read(dict.fromkeys(NAMES, whole))
        assert kept.ttl is None or math.isfinite(kept.ttl)
        assert not kept.validators
