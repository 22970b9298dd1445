"""What a backend says of a query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias, TypeVar

from attrs import field, frozen
from attrs.validators import instance_of, optional

from fingergw.core.query import Query

T = TypeVar("T")
_NONE: Mapping[str, str] = MappingProxyType({})
_SECONDS = optional(instance_of((int, float)))
_OURS = (GeneratorExit, KeyboardInterrupt)  # what Python raises in a backend that is not the backend's doing
Cached: TypeAlias = Literal["", "fresh", "stale", "rescued", "expired", "absent"]
"""What a cache had: an answer; one that was served while it is refreshed, or as upstream failed; one too old to be
served; nothing. Empty where there was no cache."""


@frozen
class Freshness:
    """How long an outcome may be kept, as upstream says; None where it does not say.

    :param ttl: seconds from its receipt for which it is fresh; below 0 for one that was stale when it came.
    :param stale_while_revalidate: seconds after that for which it may be served while it is refreshed (RFC 5861 §3).
    :param stale_if_error: seconds after that for which it may be served when upstream fails (RFC 5861 §4).
    :param validators: what the backend wants to be given to ask whether it still holds; empty if it cannot ask that.
    :param ttl_at_most: whether the ttl is only the longest that it may be fresh, should one's own be shorter.
    """

    ttl: float | None = field(default=None, validator=_SECONDS)
    stale_while_revalidate: float | None = field(default=None, validator=_SECONDS)
    stale_if_error: float | None = field(default=None, validator=_SECONDS)
    validators: Mapping[str, str] = _NONE
    ttl_at_most: bool = False


@frozen
class Answered:
    """The backend knows, and this is its answer.

    :param text: any text; it is cleaned on its way out.
    :param freshness: how long it may be kept; None where the backend knows nothing of that.
    :param cache: what a cache had.
    """

    text: str = field(validator=instance_of(str))
    freshness: Freshness | None = field(default=None, eq=False, validator=optional(instance_of(Freshness)))
    cache: Cached = field(default="", eq=False)


@frozen
class Missing:
    """The backend works, and does not know this name.

    :param freshness: how long that may be kept; None where the backend knows nothing of that.
    :param cache: what a cache had.
    """

    freshness: Freshness | None = field(default=None, eq=False, validator=optional(instance_of(Freshness)))
    cache: Cached = field(default="", eq=False)


@frozen
class Failed:
    """The backend could not tell.

    :param reason: for the log, never for the client.
    :param error: what it raised, if that was not foreseen.
    :param cache: what a cache had.
    """

    reason: str = field(validator=instance_of(str))
    error: BaseException | None = None
    cache: Cached = field(default="", eq=False)


@frozen
class Unchanged:
    """What the backend answered before still holds.

    :param freshness: for how long it may be kept now.
    """

    freshness: Freshness


Outcome: TypeAlias = Answered | Missing | Failed


class Backend(Protocol):
    """Where answers come from. It knows neither routes, nor cache, nor the next backend.

    It may also have:

    - ``revalidate(query, validators)``, called instead of ``answer`` if a cached answer came with validators. It
      returns an outcome, or :class:`Unchanged` if that answer still holds.
    - ``at_once(query)``, of a type that waits: called before the query waits for its turn. It returns an outcome that
      takes no waiting, or None; ``answer`` and ``revalidate`` are called only after None.
    - ``close()``, which may be a coroutine function, called when the backend is no longer needed.
    - ``version``, a string in the cache key: answers cached under another version are not used.
    """

    def answer(self, query: Query) -> Awaitable[Outcome]:
        """Answer a query, or say why not; never raise for what can be foreseen. It is an ``async def``."""


Known: TypeAlias = Callable[[Query], Outcome | None]
"""Say of a query what is known of it without asking anybody; None where somebody is to be asked."""
Ask: TypeAlias = Callable[[Query, Mapping[str, str]], Awaitable[Outcome | Unchanged]]
"""Ask a backend. The validators are those that came with its earlier answer; without any it answers anew."""


def asking(backend: Backend) -> Ask:
    """Return what asks a backend, which may be anybody's.

    It has failed if it raises what is no Exception, and would go through all that takes those for mistakes.
    """
    return _Asking(backend, getattr(backend, "revalidate", None))


@frozen(eq=False)
class _Asking:
    backend: Backend
    revalidate: Ask | None

    async def __call__(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        revalidate = self.revalidate
        try:
            return await (revalidate(query, validators) if revalidate and validators else self.backend.answer(query))
        except (Exception, *_OURS):
            raise
        except BaseException as error:  # SystemExit, say, which is for no backend to decide
            return Failed(_unforeseen(error), error)


def knowing(backend: Backend) -> Known:
    """Return what says what a backend knows without asking anybody."""
    known: Known | None = getattr(backend, "at_once", None)
    if known is None:
        return _nothing_known

    def know(query: Query) -> Outcome | None:
        try:
            return known(query)
        except _OURS:
            raise
        except BaseException as error:
            return Failed(_unforeseen(error), error)

    return know


def _nothing_known(_: Query) -> None:
    return None


async def outcome_of(asking: Awaitable[T], cancelled: tuple[type[BaseException], ...]) -> T | Failed:
    """Await a backend that may have mistakes in it.

    :param cancelled: what is raised when nobody waits for the answer any more; it is let through.
    :return: what it says; Failed if it raises something unforeseen.
    """
    try:
        return await asking
    except cancelled:
        raise
    except _OURS:
        raise
    except BaseException as error:
        return Failed(_unforeseen(error), error)


def _unforeseen(error: BaseException) -> str:
    return f"unforeseen {type(error).__name__}"
