"""The outcome of asking a backend, and how backends are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar, get_args

from attrs import field, frozen
from attrs.validators import in_, instance_of, optional

from fingergw.core.query import Query
from fingergw.core.setting_types import Period
from fingergw.core.settings import setting, settings
from fingergw.core.turns import Payers

T = TypeVar("T")
_NONE: Mapping[str, str] = MappingProxyType({})
_SECONDS = optional(instance_of((int, float)))
_OURS = (GeneratorExit, KeyboardInterrupt)  # raised by Python in a backend, not by the backend
Cached: TypeAlias = Literal["", "fresh", "stale", "stale_if_error", "expired", "absent"]
"""What the cache had: a fresh answer; a stale one, served while it is refreshed or because upstream failed; an expired
one, which is not served; or none. Empty without a cache."""

Upstream: TypeAlias = Literal["responded", "unreachable", "silent", "unknown"]
"""What a failure says of whom a backend asks; see :class:`Failed`."""


@frozen
class Freshness:
    """How long an outcome may be cached according to upstream; None for what upstream leaves open.

    :param ttl: seconds from its receipt for which it is fresh; below 0 if it was stale when it came.
    :param stale_while_revalidate: seconds after that in which it may be served while it is refreshed (RFC 5861 §3);
        see ``implied_stale_while_revalidate`` for None.
    :param stale_if_error: seconds after that in which it may be served when upstream fails (RFC 5861 §4).
    :param validators: what ``revalidate`` needs to ask whether it still holds; empty if the backend cannot ask.
    :param ttl_at_most: whether a shorter ``ttl`` in the configuration wins.
    """

    ttl: float | None = field(default=None, validator=_SECONDS)
    stale_while_revalidate: float | None = field(default=None, validator=_SECONDS)
    stale_if_error: float | None = field(default=None, validator=_SECONDS)
    validators: Mapping[str, str] = _NONE
    ttl_at_most: bool = False

    @property
    def implied_stale_while_revalidate(self) -> float | None:
        """``stale_while_revalidate``, which is 0 if upstream leaves it open and says that the outcome came stale."""
        came_stale = self.ttl is not None and self.ttl <= 0
        return 0.0 if came_stale and self.stale_while_revalidate is None else self.stale_while_revalidate


@settings
class BackendCache:
    """How long the backend's answers are kept."""

    ttl: Period = setting(
        "Seconds for which an answer is fresh: it is served without asking the backend. What an HTTP server says "
        "itself takes precedence.",
        default=30,
    )
    stale: Period = setting(
        "Seconds after that for which the old answer is served while it is refreshed in the background, or when the "
        "backend fails. 0: never",
        default=3600,
    )
    stale_while_revalidate: Period | None = setting(
        "Seconds, at most stale, for which the old answer is served while it is refreshed. 0: a query waits for the "
        "backend, and gets the old answer only if that fails or takes longer than its timeout. Default: as stale",
        default=None,
    )
    stale_if_error: Period | None = setting(
        "Seconds, at most stale, for which the old answer is served when the backend fails. Default: as stale",
        default=None,
    )
    negative_ttl: Period = setting(
        "Seconds for which a name that the backend does not know is not asked for again.", default=10
    )

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield the key of each part of ``stale`` that is longer than it, with a message."""
        for key in ("stale_while_revalidate", "stale_if_error"):
            if (getattr(self, key, None) or 0) > self.stale:  # it is not there if it has a mistake
                yield key, f"expected at most stale, which is {self.stale:.15g}; raise stale, or lower {key}"


@settings
class VaryingCache(BackendCache):
    """How long the backend's answers are kept."""

    vary: tuple[Literal["client", "listener", "verbose"], ...] = setting(
        "The parts of a query, besides the name, that the command gets and that are part of the cache key. "
        "[]: one answer for all clients.",
        default=("client", "listener", "verbose"),
    )


@frozen
class Answered:
    """The backend has an answer.

    :param text: any text; control characters are removed before it is sent.
    :param freshness: how long it may be cached; None if the backend cannot tell.
    :param cache: what the cache had.
    """

    text: str = field(validator=instance_of(str))
    freshness: Freshness | None = field(default=None, eq=False, validator=optional(instance_of(Freshness)))
    cache: Cached = field(default="", eq=False)


@frozen
class Missing:
    """The backend works, and does not know the name.

    :param freshness: how long that may be cached; None if the backend cannot tell.
    :param cache: what the cache had.
    """

    freshness: Freshness | None = field(default=None, eq=False, validator=optional(instance_of(Freshness)))
    cache: Cached = field(default="", eq=False)


@frozen
class Failed:
    """The backend could not tell.

    :param reason: for the log, never for the client.
    :param error: an unforeseen exception that it raised.
    :param cache: what the cache had.
    :param upstream: what it says of the server or program that the backend asks, for its breaker. ``responded``: it has
        responded, if only with an error; ``unreachable``: it could not be asked anything; ``silent``: it did not answer
        this question; ``unknown``: nothing, as it was not asked.
    """

    reason: str = field(validator=instance_of(str))
    error: BaseException | None = None
    cache: Cached = field(default="", eq=False)
    upstream: Upstream = field(default="responded", eq=False, validator=in_(get_args(Upstream)))


@frozen
class Unchanged:
    """The cached answer still holds.

    :param freshness: how long it may be cached from now on.
    """

    freshness: Freshness


Outcome: TypeAlias = Answered | Missing | Failed


class Backend(Protocol):
    """Where answers come from. It knows neither routes, nor cache, nor the next backend.

    It may also have:

    - ``revalidate(query, validators)``, called instead of ``answer`` if a cached answer came with validators. It
      returns an outcome, or :class:`Unchanged` if that answer still holds.
    - ``at_once(query)``, which returns an outcome that takes no waiting, or None. If the type waits, it is called
      before the query waits for its turn, and ``answer`` or ``revalidate`` only after None. If it does not wait, an
      :class:`Answered` or :class:`Missing` counts without calling ``answer``, and anything else is ignored.
    - ``lasting(query)``, of a type that does not wait, which is called after ``at_once`` has returned an outcome. It
      returns a function that tells whether ``at_once`` would still return that, or None if it cannot tell. While the
      function says so, it may be used for others who ask the same, without calling ``at_once``.
    - ``close()``, which may be a coroutine function, called when the backend is no longer needed.
    - ``version``, a string in the cache key: answers cached under another version are not used.
    """

    def answer(self, query: Query) -> Awaitable[Outcome]:
        """Answer a query, or return why not; raise nothing that can be foreseen. It is an ``async def``."""


Holds: TypeAlias = Callable[[], bool]
"""Tell whether an answer is still what would be answered."""


class Reuse(NamedTuple):
    """How an answer that was known at once is given again, to whoever asks the same.

    :param holds: tells whether it may be. It counts nothing; one that raises has a bug, and says no.
    :param count_again: counts that it was given, as if its backend had been asked.
    """

    holds: Holds
    count_again: Callable[[], object]


Known: TypeAlias = Callable[[Query], Outcome | None]
"""Return the outcome of a query that takes no waiting; None if the backend must be asked."""
Ask: TypeAlias = Callable[[Query, Mapping[str, str], Payers], Awaitable[Outcome | Unchanged]]
"""Ask a backend: with the validators of its cached answer (without any it answers anew), and for whom."""


def ask_function(backend: Backend) -> Ask:
    """Return a function that asks a backend. Call it through :func:`outcome_of`, as the backend may have bugs."""
    return _Asking(backend, getattr(backend, "revalidate", None))


@frozen(eq=False, repr=False)
class _Asking:
    backend: Backend
    revalidate: Callable[[Query, Mapping[str, str]], Awaitable[Outcome | Unchanged]] | None

    async def __call__(self, query: Query, validators: Mapping[str, str], _: Payers) -> Outcome | Unchanged:
        revalidate = self.revalidate
        return await (revalidate(query, validators) if revalidate and validators else self.backend.answer(query))


def nothing_known(_: Query) -> None:
    """Know nothing at once: the backend is to be asked."""


def at_once_function(backend: Backend) -> Known:
    """Return a backend's ``at_once``, or a function that returns None; Failed if it raises."""
    known: Known | None = getattr(backend, "at_once", None)
    if known is None:
        return nothing_known

    def know(query: Query) -> Outcome | None:
        try:
            return known(query)
        except BaseException as error:
            return _bug(error)

    return know


def reuse_of(backend: object, query: Query, outcome: Answered | Missing) -> Reuse | None:
    """Return what the ``reuse`` of what a chain asks returns; None if it has none, or raises.

    :param outcome: what it has just known at once.
    """
    reuse: Callable[[Query, Answered | Missing], Reuse | None] | None = getattr(backend, "reuse", None)
    if reuse is None:
        return None
    try:
        return reuse(query, outcome)
    except BaseException as error:
        _bug(error)
        return None


def all_of(parts: Sequence[Reuse]) -> Reuse:
    """Return how an answer is given again that depends on several backends."""
    return Reuse(lambda: all(each.holds() for each in parts), lambda: [each.count_again() for each in parts])


def still_holds(holds: Holds) -> bool:
    """Tell whether an answer still holds; not if that raises, as the backend that tells it has a bug then."""
    try:
        return bool(holds())
    except BaseException as error:
        _bug(error)
        return False


async def outcome_of(asking: Awaitable[T], cancelled: tuple[type[BaseException], ...]) -> T | Failed:
    """Await a backend that may have bugs.

    :param cancelled: exceptions of a cancellation, which are raised again.
    :return: its outcome; Failed if it raises anything else.
    """
    try:
        return await asking
    except BaseException as error:
        return _bug(error, cancelled)


def _bug(error: BaseException, passed_on: tuple[type[BaseException], ...] = ()) -> Failed:
    """Return Failed for an exception that a bug in a backend raises, also for SystemExit: that is not its to decide.

    :param passed_on: exceptions that are for the caller, and raised again.
    """
    if isinstance(error, (*_OURS, *passed_on)):
        raise error
    return Failed(f"unforeseen {type(error).__name__}", error, upstream="unknown")
