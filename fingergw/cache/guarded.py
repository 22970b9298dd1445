"""A store that never fails, and keeps nobody waiting."""

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

from fingergw.cache.store import Claim, Found, Mark, RawStore
from fingergw.core.text import escape

T = TypeVar("T")
_log = Logger()
# Somebody waits for what a store has: one that has not said it by then is left out until it is quick again.
_ANSWER_SECONDS = 0.25
# Nobody waits for these.
_WORK_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 1.0
# A store that could not be written to is back when it has been, or has not failed for so long.
_PROOF_SECONDS = 5.0
_GRANTED = Claim("granted")


class _TooSlowError(Exception):
    """The store has not answered in time."""


class _BrokenOffError(Exception):
    """The store has cancelled what it was asked for."""


@define(eq=False)
class GuardedStore:
    """Stand between the cache and a store that may be slow, gone or full of garbage.

    While it is, upstream is always the asker's to ask, and nothing is shared. That is logged once, and so is its end.

    :param store: the store.
    :param name: what to call it in the log.
    :param fingerprint: what it was made from; a reload keeps it while this is the same.
    :param is_open: whether it is in use.
    :param failures: how often it has failed.
    """

    store: RawStore
    name: str
    clock: IReactorTime
    fingerprint: object = field(default=None, repr=False)
    is_open: bool = field(init=False, default=False)
    failures: int = field(init=False, default=0)
    _running: Deferred[None] | None = field(init=False, default=None)
    _is_stopped: bool = field(init=False, default=False)
    _is_left_out: bool = field(init=False, default=False)  # and that is logged
    _may_be_full: bool = field(init=False, default=False)
    _proving: IDelayedCall | None = field(init=False, default=None)  # that it is back
    _broken: Deferred[None] = field(init=False, factory=Deferred)  # while it is open: fails when the store does
    _pending: set[Deferred[Any]] = field(init=False, factory=set)
    _opening: list[Deferred[None]] = field(init=False, factory=list)  # who waits for it at the start
    _waits_until: float = field(init=False, default=0.0)

    def start(self) -> None:
        """Open the store, and whenever it has failed, try again."""
        self._is_stopped = self._is_left_out = self._may_be_full = False
        self._waits_until = self.clock.seconds() + _ANSWER_SECONDS
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Let what is under way finish, if that is quick, and close the store."""
        self.is_open, self._is_stopped = False, True
        if self._running is not None:
            self._running.cancel()
            self._running = None
        self._go_on()
        with suppress(_TooSlowError):
            await self._bounded(DeferredList(list(self._pending)), _STOP_SECONDS)
        await self._close(_STOP_SECONDS)

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Do as the store does; if it cannot in time, the claim is granted."""
        if not self.is_open and not await self._is_opened():
            return _GRANTED
        return await self._attempt(self.store.claim(key, known, lock_seconds, waited), _ANSWER_SECONDS) or _GRANTED

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, mark: Mark = "", mark_seconds: float = 0.0
    ) -> None:
        """Do as the store does, if it can."""
        if self.is_open:
            broken = self._broken
            putting = self.store.put(key, value, keep_seconds, missing, mark, mark_seconds)
            await self._attempt(putting, _WORK_SECONDS)
            self._may_be_full = broken.called
            if not self._may_be_full:
                self._is_back()

    async def drop(self, key: str, mark: Mark = "", mark_seconds: float = 0.0) -> None:
        """Do as the store does, if it can."""
        if self.is_open:
            await self._attempt(self.store.drop(key, mark, mark_seconds), _WORK_SECONDS)

    async def release(self, key: str, mark: Mark, mark_seconds: float) -> None:
        """Do as the store does, if it can."""
        if self.is_open:
            await self._attempt(self.store.release(key, mark, mark_seconds), _WORK_SECONDS)

    async def _run(self) -> None:
        while not self._is_stopped:
            try:
                await self._bounded(Deferred.fromCoroutine(self.store.open()), _WORK_SECONDS)
                self._opened()
                await self._broken
            except CancelledError:
                return
            except Exception as error:
                if not self._is_stopped:  # a connection attempt that is cancelled has an error of its own for it
                    self._leave_out(error)
            finally:
                if self._proving is not None and self._proving.active():
                    self._proving.cancel()
            await self._close(_WORK_SECONDS)
            if not self._is_stopped:
                with suppress(CancelledError):
                    await deferLater(self.clock, _RETRY_SECONDS)

    def _opened(self) -> None:
        self.is_open, self._broken = True, Deferred()
        if self._may_be_full:  # but for a little, so that it could be opened
            self._proving = self.clock.callLater(_PROOF_SECONDS, self._is_back)
        elif self._is_left_out:
            self._is_back()
        else:
            _log.info("cache store {name} is in use", name=self.name)
        self._go_on()

    def _is_back(self) -> None:
        if self._is_left_out:
            self._is_left_out = False
            _log.info("cache store {name} is back", name=self.name)

    def _leave_out(self, error: Exception) -> None:
        self.is_open = False
        self.failures += 1
        if not self._is_left_out:
            self._is_left_out = True
            why = escape(str(error) or type(error).__name__)
            text = "cache store {name} is left out until it is back: {why}; answers are kept in memory alone"
            _log.error(text, name=self.name, why=why)
        self._go_on()

    def _go_on(self) -> None:
        opening, self._opening = self._opening, []
        for waiter in opening:
            if not waiter.called:  # its time was over
                waiter.callback(None)

    async def _close(self, seconds: float) -> None:
        with suppress(Exception):  # nothing more can be done
            await self._bounded(Deferred.fromCoroutine(self.store.close()), seconds)

    async def _is_opened(self) -> bool:
        """Tell whether the store is open, after a moment where the gateway has just been started."""
        left = self._waits_until - self.clock.seconds()
        if self._running is None or self._is_left_out or left <= 0:
            return self.is_open
        waiter: Deferred[None] = Deferred()
        self._opening.append(waiter)
        with suppress(_TooSlowError, _BrokenOffError):
            await self._bounded(waiter, left)
        return self.is_open

    async def _attempt(self, work: Coroutine[Any, Any, T], seconds: float) -> T | None:
        broken = self._broken
        try:
            return await self._bounded(Deferred.fromCoroutine(work), seconds)
        except CancelledError:
            raise
        except Exception as error:
            if not broken.called:  # by another that failed before, with the same connection
                self.is_open = False
                broken.errback(error)
            return None

    def _bounded(self, running: Deferred[T], seconds: float) -> Deferred[T]:
        """Return what a work comes to, within a time; it is cancelled then, and whether it ends is not waited for."""
        given_up, timer = False, self.clock.callLater(seconds, lambda: expire(1))

        def give_up(_: object) -> None:
            nonlocal given_up
            given_up = True
            running.cancel()

        def expire(turns: int) -> None:
            nonlocal timer
            if turns:
                # What is waited for may be there, unread: it may have been this process that was slow.
                timer = self.clock.callLater(0, expire, turns - 1)
            else:
                give_up(result)
                result.errback(_TooSlowError(f"no answer within {seconds:g} s"))

        def done(outcome: T | Failure) -> None:
            if given_up:
                return
            if isinstance(outcome, Failure) and outcome.check(CancelledError):
                outcome = Failure(_BrokenOffError("broken off"))  # nobody here has cancelled it
            result.callback(outcome)

        def settled(outcome: T) -> T:
            self._pending.discard(result)
            if timer.active():
                timer.cancel()
            return outcome

        result: Deferred[T] = Deferred(give_up)
        self._pending.add(result)
        result.addBoth(settled)
        running.addBoth(done)
        return result
