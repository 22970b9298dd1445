"""An outcome that is kept: until when it is good for what, and how it crosses to another process."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, frozen

from fingergw.core.outcome import Answered, Freshness, Missing

_VERSION = 1
_SILENT = Freshness()
# For so long it is worth asking whether an answer still holds, also where it may not be served before that is known.
_VALIDATE_SECONDS = 3600.0
_MAX_SECONDS = 2.0**33  # more than all that upstream and the configuration can say together
# what an entry takes beside its texts, in a dictionary, and measured
_OVERHEAD_BYTES = 420


@frozen
class Terms:
    """How long a backend's outcomes are kept where upstream does not say; all in seconds.

    :param ttl: an answer is fresh.
    :param stale: after that it is served while it is refreshed, or when upstream fails.
    :param negative_ttl: a Missing is fresh.
    """

    ttl: float
    stale: float
    negative_ttl: float


@define(eq=False)
class Entry:
    """An outcome that is kept. Its times are on the process's own clock, in seconds.

    :param outcome: as it is served while it is fresh, which is almost always.
    :param since: when it was received.
    :param fresh_until: until then it is served as it is.
    :param stale_until: until then it is served while it is refreshed.
    :param error_until: until then it is served when upstream fails.
    :param keep_until: then it is of no use any more.
    :param digest: the SHA-1 of its value in a store, in hexadecimal; empty where it is in none.
    :param retry_at: before that upstream is not asked again.
    :param size_bytes: how much memory it takes, as :class:`Memory` has noted.
    """

    outcome: Answered | Missing
    since: float
    fresh_until: float
    stale_until: float
    error_until: float
    keep_until: float
    digest: str = ""
    retry_at: float = 0.0
    size_bytes: int = 0

    @classmethod
    def made(cls, outcome: Answered | Missing, terms: Terms, now: float) -> Entry | None:
        """Return an entry for what upstream said now; None if that may not be kept.

        Upstream's word on its answer wins over the terms.
        """
        said = outcome.freshness or _SILENT
        missing = isinstance(outcome, Missing)
        ttl, while_refreshed, when_failing = terms.ttl, terms.stale, terms.stale
        if missing:
            # A name that is new is known once negative_ttl is over, and not to the second asker only.
            ttl, while_refreshed = terms.negative_ttl, 0.0
        if said.ttl is not None:
            ttl = min(ttl, said.ttl) if said.ttl_at_most else said.ttl
        fresh_until = now + ttl
        stale_until = fresh_until + _or(said.stale_while_revalidate, while_refreshed)
        error_until = fresh_until + _or(said.stale_if_error, when_failing)
        keep_until = max(fresh_until, stale_until, error_until)
        if said.validators:
            keep_until = max(keep_until, now + _VALIDATE_SECONDS)
        if keep_until <= now:
            return None
        return cls(evolve(outcome, cache="fresh"), now, fresh_until, stale_until, error_until, keep_until)

    @property
    def validators(self) -> Mapping[str, str]:
        """What its backend wants to be given to ask whether it still holds."""
        said = self.outcome.freshness
        return said.validators if said is not None and isinstance(self.outcome, Answered) else {}

    def measure(self, key: str) -> int:
        """Return how much memory it takes, about."""
        text = self.outcome.text if isinstance(self.outcome, Answered) else ""
        texts = (key, text, *self.validators, *self.validators.values())
        return _OVERHEAD_BYTES + sum(sys.getsizeof(text) for text in texts)

    def dumps(self) -> bytes:
        """Return the entry as bytes that :meth:`loads` reads, in any process, and note their digest."""
        value = {
            "version": _VERSION,
            "id": secrets.token_hex(8),  # two entries that say the same are still two
            "text": self.outcome.text if isinstance(self.outcome, Answered) else None,
            "fresh": self.fresh_until - self.since,
            "stale": self.stale_until - self.since,
            "error": self.error_until - self.since,
            "keep": self.keep_until - self.since,
            "validators": dict(self.validators),
        }
        data = json.dumps(value).encode()
        self.digest = digest(data)
        return data

    @classmethod
    def loads(cls, data: bytes, age: float, now: float) -> Entry | None:
        """Return the entry in some bytes; None if there is none: another version, or garbage.

        :param age: seconds since they were written.
        """
        try:
            value: Any = json.loads(data)
            text, validators = value["text"], value["validators"]
            fresh, stale, error, keep = times = [float(value[key]) for key in ("fresh", "stale", "error", "keep")]
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
    """Return what tells one value in a store from another."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _or(said: float | None, default: float) -> float:
    return default if said is None else said
