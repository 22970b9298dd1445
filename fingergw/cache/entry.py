"""A cached outcome: how long it may be used for what, and its form in a store."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from attrs import define, evolve

from fingergw.core.outcome import Answered, BackendCache, Freshness, Missing

_VERSION = 1
_SILENT = Freshness()
_TIMES = ("fresh", "stale", "error", "keep")
# For this long an answer is kept to ask upstream whether it is unchanged, even if it may not be served before that.
_VALIDATE_SECONDS = 3600.0
_MAX_SECONDS = 2.0**33  # more than upstream and the configuration can add up to
_OVERHEAD_BYTES = 1100  # an entry without its texts, of a client that has no other; measured


@define(eq=False, repr=False)
class Entry:
    """A cached outcome. Its times are on this process's monotonic clock, in seconds.

    :param outcome: as it is served while it is fresh, which is the common case.
    :param since: when it was received.
    :param fresh_until: until then it is served without asking upstream.
    :param stale_until: until then it is served while it is refreshed.
    :param error_until: until then it is served when upstream fails.
    :param keep_until: after that it is of no use.
    :param digest: the SHA-1 of its value in a store, in hexadecimal; empty if it is in none.
    :param retry_at: it is not refreshed in the background again before that.
    """

    outcome: Answered | Missing
    since: float
    fresh_until: float
    stale_until: float
    error_until: float
    keep_until: float
    digest: str = ""
    retry_at: float = 0.0

    @classmethod
    def from_outcome(cls, outcome: Answered | Missing, settings: BackendCache, now: float) -> Entry | None:
        """Return an entry for an outcome received now; None if it may not be kept.

        :param settings: hold where upstream does not say how long.
        """
        said = outcome.freshness or _SILENT
        ttl: float = settings.ttl
        while_refreshed = _or(settings.stale_while_revalidate, settings.stale)
        if isinstance(outcome, Missing):
            # A stale Missing is not served while it is refreshed: the first to ask for a new name shall get its answer.
            ttl, while_refreshed = settings.negative_ttl, 0.0
        if said.ttl is not None:
            ttl = min(ttl, said.ttl) if said.ttl_at_most else said.ttl
        fresh_until = now + ttl
        stale_until = fresh_until + _or(said.implied_stale_while_revalidate, while_refreshed)
        error_until = fresh_until + _or(said.stale_if_error, _or(settings.stale_if_error, settings.stale))
        keep_until = max(fresh_until, stale_until, error_until)
        if said.validators:
            keep_until = max(keep_until, now + _VALIDATE_SECONDS)
        if keep_until <= now:
            return None
        return cls(evolve(outcome, cache="fresh"), now, fresh_until, stale_until, error_until, keep_until)

    @property
    def validators(self) -> Mapping[str, str]:
        """What its backend needs to ask whether it is unchanged; empty if it cannot ask that."""
        said = self.outcome.freshness
        return said.validators if said is not None and isinstance(self.outcome, Answered) else {}

    def measure(self, key: str) -> int:
        """Return its size in memory in bytes, as an estimate."""
        text = self.outcome.text if isinstance(self.outcome, Answered) else ""
        texts = (key, text, *self.validators, *self.validators.values())
        return _OVERHEAD_BYTES + sum(sys.getsizeof(text) for text in texts)

    def dumps(self) -> bytes:
        """Return the entry as bytes that :meth:`loads` reads in any process, and note their digest."""
        value = {
            "version": _VERSION,
            "id": secrets.token_hex(8),  # two entries that say the same still differ
            "text": self.outcome.text if isinstance(self.outcome, Answered) else None,
            **{name: getattr(self, f"{name}_until") - self.since for name in _TIMES},
            "validators": dict(self.validators),
        }
        data = json.dumps(value).encode()
        self.digest = digest(data)
        return data

    @classmethod
    def loads(cls, data: bytes, age: float, now: float) -> Entry | None:
        """Return the entry in some bytes; None if they are garbage, or another version's.

        :param age: seconds since they were written.
        """
        try:
            value: Any = json.loads(data)
            text, validators = value["text"], value["validators"]
            fresh, stale, error, keep = times = [float(value[name]) for name in _TIMES]
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None
        if (
            value.get("version") != _VERSION
            or not (text is None or isinstance(text, str))
            or not isinstance(validators, dict)
            or not all(isinstance(item, str) for pair in validators.items() for item in pair)
            or not all(-_MAX_SECONDS <= time <= _MAX_SECONDS for time in times)
        ):
            return None
        since = now - max(0.0, age)
        said = Freshness(validators=validators)
        outcome = Missing(cache="fresh") if text is None else Answered(text, said, cache="fresh")
        return cls(outcome, since, since + fresh, since + stale, since + error, since + keep, digest(data))


def digest(data: bytes) -> str:
    """Return what identifies a value in a store: its SHA-1, in hexadecimal."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _or(said: float | None, default: float) -> float:
    return default if said is None else said
