"""A guard before a store: it never fails, and keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.cache.shares import Owner
from fingergw.cache.store import Claim, Found, Mark, RawStore
from fingergw.core.text import escape

T = TypeVar("T")
_log = Logger()
ANSWER_SECONDS = 0.25
"""Queries wait for a claim: a store that takes longer for one is not used until it is quick again."""
# No query waits for the rest.
_WORK_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 1.0
# A store that could not be written to is back when something was written, or when it has not failed for this long.
_PROOF_SECONDS = 5.0


class _StoreError(Exception):
    """The store takes too long, or has cancelled a call by itself."""


@define(eq=False, repr=False)
class GuardedStore:
    """Stand between the cache and a store that may be slow, unreachable or full of garbage.

    While the store cannot be used, each claim is granted and nothing is shared. The log says so once, and once again
    when the store is back.

    :param name: the store's, for the log.
    :param fingerprint: what it was made from; a reload keeps it while this is the same.
    :param is_open: whether the store is in use.
    :param failures: how often it has failed.
    """

    store: RawStore
    name: str
    clock: IReactorTime
    fingerprint: object = None
    is_open: bool = field(init=False, default=False)
    failures: int = field(init=False, default=0)
    _running: Deferred[None] | None = field(init=False, default=None)
    _is_stopped: bool = field(init=False, default=False)
    _is_unavailable: bool = field(init=False, default=False)  # and the log says so
    _may_be_full: bool = field(init=False, default=False)
    _proving: IDelayedCall | None = field(init=False, default=None)  # that it is back
    _broken: Deferred[None] = field(init=False, factory=Deferred)  # fails when a call to the open store does
    _pending: set[Deferred[Any]] = field(init=False, factory=set)
    _opening: list[Deferred[None]] = field(init=False, factory=list)  # claims that wait for the store to open
    _waits_until: float = field(init=False, default=0.0)

    def start(self) -> None:
        """Open the store, and open it again whenever it has failed."""
        self._is_stopped = self._is_unavailable = self._may_be_full = False
        self._waits_until = self.clock.seconds() + ANSWER_SECONDS
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Let pending calls finish, if they are quick, and close the store."""
        self.is_open, self._is_stopped = False, True
        if self._running is not None:
            self._running.cancel()
            self._running = None
        self._end_opening()
        with suppress(_StoreError):
            await self._bounded(DeferredList(list(self._pending)), _STOP_SECONDS)
        await self._close(_STOP_SECONDS)

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Claim as the store does; if it cannot say in time, the claim is granted."""
        if not self.is_open and not await self._opens():
            return "granted"
        return await self._attempt(self.store.claim(key, known, lock_seconds, waited), ANSWER_SECONDS) or "granted"

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: Mark = ""
    ) -> None:
        """Put as the store does, if it can."""
        if self.is_open:
            broken = self._broken
            await self._attempt(self.store.put(key, value, keep_seconds, missing, owner, mark), _WORK_SECONDS)
            self._may_be_full = broken.called
            if not self._may_be_full:
                self._log_back()

    async def drop(self, key: str, mark: Mark = "") -> None:
        """Drop as the store does, if it can."""
        if self.is_open:
            await self._attempt(self.store.drop(key, mark), _WORK_SECONDS)

    async def release(self, key: str, mark: Mark) -> None:
        """Release as the store does, if it can."""
        if self.is_open:
            await self._attempt(self.store.release(key, mark), _WORK_SECONDS)

    async def _run(self) -> None:
        while not self._is_stopped:
            try:
                await self._bounded(Deferred.fromCoroutine(self.store.open()), _WORK_SECONDS)
                self._opened()
                await self._broken
            except CancelledError:
                return
            except Exception as error:
                if not self._is_stopped:  # a connection attempt that is cancelled raises an error of its own
                    self._failed(error)
            finally:
                if self._proving is not None and self._proving.active():
                    self._proving.cancel()
            await self._close(_WORK_SECONDS)
            if not self._is_stopped:
                with suppress(CancelledError):
                    await deferLater(self.clock, _RETRY_SECONDS)

    def _opened(self) -> None:
        self.is_open, self._broken = True, Deferred()
        if self._may_be_full:  # it may have room enough to be opened, and no more
            self._proving = self.clock.callLater(_PROOF_SECONDS, self._log_back)
        elif self._is_unavailable:
            self._log_back()
        else:
            _log.info("cache store {name} is in use", name=self.name)
        self._end_opening()

    def _log_back(self) -> None:
        if self._is_unavailable:
            self._is_unavailable = False
            _log.info("cache store {name} is back", name=self.name)

    def _failed(self, error: Exception) -> None:
        self.is_open = False
        self.failures += 1
        if not self._is_unavailable:
            self._is_unavailable = True
            text = "cache store {name} is unavailable: {why}; until it is back, answers are cached in memory only"
            _log.error(text, name=self.name, why=escape(_reason(error)))
        self._end_opening()

    def _end_opening(self) -> None:
        opening, self._opening = self._opening, []
        for claim in opening:
            if not claim.called:  # it has waited long enough
                claim.callback(None)

    async def _close(self, seconds: float) -> None:
        with suppress(Exception):  # nothing more can be done
            await self._bounded(Deferred.fromCoroutine(self.store.close()), seconds)

    async def _opens(self) -> bool:
        """Return whether the store is open; wait for that a moment if the gateway has just started."""
        left = self._waits_until - self.clock.seconds()
        if self._running is not None and not self._is_unavailable and left > 0:
            opening: Deferred[None] = Deferred()
            self._opening.append(opening)
            with suppress(_StoreError):
                await self._bounded(opening, left)
        return self.is_open

    async def _attempt(self, work: Coroutine[Any, Any, T], seconds: float) -> T | None:
        broken = self._broken
        try:
            return await self._bounded(Deferred.fromCoroutine(work), seconds)
        except CancelledError:
            raise
        except Exception as error:
            if not broken.called:  # another call has failed before, on the same connection
                self.is_open = False
                broken.errback(error)
            return None

    def _bounded(self, work: Deferred[T], seconds: float) -> Deferred[T]:
        """Return a Deferred that fires as the work does, or fails when its time is over.

        :param work: cancelled if that takes too long, or if the Deferred is cancelled; whether it ends is not waited
            for.
        """

        def give_up(error: Exception) -> None:
            result.errback(error)
            work.cancel()

        def expire() -> None:
            # The reply may have come, and not been read: perhaps this process was the slow one.
            timers.append(self.clock.callLater(0, give_up, _StoreError(f"no answer within {seconds:g} s")))

        def finish(outcome: T | Failure) -> None:
            if isinstance(outcome, Failure) and outcome.check(CancelledError):
                outcome = Failure(_StoreError("it has cancelled a call"))
            if not result.called:
                result.callback(outcome)

        def clean_up(outcome: T) -> T:
            self._pending.discard(result)
            for timer in timers:
                if timer.active():
                    timer.cancel()
            return outcome

        result: Deferred[T] = Deferred(lambda _: give_up(CancelledError()))
        timers = [self.clock.callLater(seconds, expire)]
        self._pending.add(result)
        result.addBoth(clean_up)
        work.addBoth(finish)
        return result


def _reason(error: Exception) -> str:
    """Return an error's message, without the number that Python puts before the system's."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
