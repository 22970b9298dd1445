"""A store that may be slow, gone or wrong, and the guard that lets nobody notice."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, capturedLogs, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.cache.guarded import GuardedStore
from fingergw.cache.shares import Owner
from fingergw.cache.store import Claim, Found
from tests.support.fakes import say
from tests.support.waiting import sync

FOUND = Found(b"value", 1.0)
OWNER = Owner("rota", "192.0.2.1")
GRANTED: Final[Claim] = "granted"
HELD: Final[Claim] = "held"
EPSILON = 1e-6
ANSWER_SECONDS, WORK_SECONDS, RETRY_SECONDS, STOP_SECONDS = 0.25, 5.0, 1.0, 1.0
METHODS = ["claim", "put", "drop", "release"]


@define(eq=False)
class Raw:
    """A store that does what it is told to.

    :param does: for each method what it returns, raises, or waits for: a Deferred, or a function that returns one.
    :param calls: the methods that were called.
    :param cancelled: those that were cancelled.
    :param ending: what a method still waits for once it is cancelled.
    """

    does: dict[str, Any] = field(factory=dict)
    calls: list[str] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    ending: Deferred[Any] | None = None

    async def open(self) -> None:
        """Do as told."""
        await self._do("open")

    async def close(self) -> None:
        """Do as told."""
        await self._do("close")

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        """Do as told."""
        assert (key, known, lock_seconds, waited) == ("key", "known", 6.0, True)
        return await self._do("claim") or HELD

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: str = ""
    ) -> None:
        """Do as told."""
        assert (key, value, keep_seconds, missing, owner, mark) == ("key", b"value", 40.0, True, OWNER, "failed")
        await self._do("put")

    async def drop(self, key: str, mark: str = "") -> None:
        """Do as told."""
        assert (key, mark) == ("key", "")
        await self._do("drop")

    async def release(self, key: str, mark: str) -> None:
        """Do as told."""
        assert (key, mark) == ("key", "failed")
        await self._do("release")

    async def _do(self, name: str) -> Any:
        self.calls.append(name)
        said = self.does.get(name)
        if callable(said):
            said = said()
        return await say(said, lambda: self.cancelled.append(name), self.ending)


_calls: list[Deferred[Any]] = []  # a test's


@define(eq=False)
class Bench:
    """A guarded store on a clock."""

    raw: Raw
    clock: Clock
    guarded: GuardedStore

    def call(self, name: str) -> Deferred[Any]:
        """Begin a call of one of its methods."""
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "claim": lambda: self.guarded.claim("key", "known", 6.0, True),
            "put": lambda: self.guarded.put("key", b"value", 40.0, True, OWNER, "failed"),
            "drop": lambda: self.guarded.drop("key"),
            "release": lambda: self.guarded.release("key", "failed"),
            "stop": self.guarded.stop,
        }
        call = Deferred.fromCoroutine(calls[name]())
        _calls.append(call)
        return call

    def started(self) -> Bench:
        """Return it in use, with what is told from then on."""
        self.guarded.start()
        assert self.guarded.is_open
        self.raw.calls.clear()
        return self

    def broken(self) -> Bench:
        """Return it after a failure that is over."""
        self.raw.does["drop"] = OSError("gone")
        assert done(self.call("drop")) is None
        assert not self.guarded.is_open
        del self.raw.does["drop"]
        return self


def make(**does: Any) -> Bench:
    """Return a guarded store that was not started yet."""
    raw, clock = Raw(does), Clock()
    clock.advance(1000.0)
    return Bench(raw, clock, GuardedStore(raw, "shelf", clock))


def done(call: Deferred[Any]) -> Any:
    """Return what a call has returned; raise what it has raised."""
    assert call.called, "it waits for something"
    result = getattr(call, "result", None)
    if isinstance(result, Failure):
        call.addErrback(lambda _: None)
        result.raiseException()
    return result


def hang() -> Deferred[Any]:
    """Return what never comes."""
    return Deferred()


def leave(call: Deferred[Any]) -> None:
    """Cancel a call, as the cache does when nobody waits any more."""
    call.addErrback(lambda failure: failure.trap(CancelledError))
    call.cancel()


IN_USE = "info: cache store shelf is in use"


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[str]]:
    """Return the log's lines but that of a good start; what nobody has handled may not be among them."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        line = f"{event['log_level'].name}: {formatEvent(event)}"
        if line != IN_USE:
            lines.append(line)

    globalLogPublisher.addObserver(observer)
    _calls.clear()
    yield lines
    failed = [call.result for call in _calls if isinstance(getattr(call, "result", None), Failure)]
    for call in _calls:
        call.addErrback(lambda _: None)
    gc.collect()  # what nobody has handled is logged when it is thrown away
    globalLogPublisher.removeObserver(observer)
    assert failed == []
    assert [line for line in lines if line.startswith("critical")] == []


def unavailable(why: str) -> str:
    """Return the line that says so."""
    return f"error: cache store shelf is unavailable: {why}; until it is back, answers are cached in memory only"


BACK = "info: cache store shelf is back"


# while all is well


@pytest.mark.parametrize(
    ("method", "expected"), [("claim", FOUND), ("put", None), ("drop", None), ("release", None)], ids=METHODS
)
def test_it_does_as_the_store_does(logged: list[str], method: str, expected: object) -> None:
    """What is asked is passed on, and so is the reply; that is no news, and leaves nothing behind."""
    bench = make(claim=FOUND).started()
    assert done(bench.call(method)) is expected
    assert bench.raw.calls == [method]
    assert (logged, bench.guarded.failures, bench.clock.getDelayedCalls()) == ([], 0, [])


@pytest.mark.parametrize("method", METHODS)
def test_a_reply_that_takes_its_time(logged: list[str], method: str) -> None:
    """A reply just within the bound is one."""
    reply: Deferred[Any] = Deferred()
    bench = make(**{method: reply}).started()
    call = bench.call(method)
    bench.clock.advance((ANSWER_SECONDS if method == "claim" else WORK_SECONDS) - EPSILON)
    assert not call.called
    reply.callback(FOUND)
    assert done(call) is (FOUND if method == "claim" else None)
    assert bench.guarded.is_open
    assert (logged, bench.clock.getDelayedCalls()) == ([], [])


def test_before_it_is_started() -> None:
    """A store that is not in use yet keeps nobody waiting, and is asked nothing."""
    bench = make()
    assert done(bench.call("claim")) == GRANTED
    for method in ("put", "drop", "release"):
        assert done(bench.call(method)) is None
    assert bench.raw.calls == []


# a store that is slow or gone


def test_a_slow_claim(logged: list[str]) -> None:
    """A claim is granted after a quarter of a second; the store is not used then, which is logged and counted."""
    bench = make(claim=hang).started()
    call = bench.call("claim")
    bench.clock.advance(ANSWER_SECONDS - EPSILON)
    assert not call.called
    bench.clock.advance(EPSILON)
    assert done(call) == GRANTED
    assert not bench.guarded.is_open
    assert (bench.guarded.failures, logged) == (1, [unavailable("no answer within 0.25 s")])
    assert bench.raw.calls == ["claim", "close"]
    bench.raw.calls.clear()
    assert sync(bench.guarded.claim("key", "known", 6.0, True)) == GRANTED
    assert bench.raw.calls == []


def test_a_process_that_was_slow_itself() -> None:
    """A reply that has come, and is read in the same turn in which the time is over, counts."""
    reply: Deferred[Any] = Deferred()
    bench = make(claim=reply).started()
    call = bench.call("claim")
    bench.clock.callLater(ANSWER_SECONDS + 0.01, reply.callback, FOUND)
    bench.clock.callLater(ANSWER_SECONDS - 0.01, lambda: None)
    # the clock jumps, as it does for a process that was busy: what was due is run in the order in which it was due
    bench.clock.rightNow += 10.0
    bench.clock.advance(0)
    assert done(call) == FOUND
    assert bench.guarded.is_open


def test_a_claim_that_does_not_end_when_it_is_cancelled() -> None:
    """A store that cannot even be cancelled in time keeps nobody waiting either."""
    bench = make(claim=hang).started()
    bench.raw.ending = Deferred()
    call = bench.call("claim")
    bench.clock.advance(ANSWER_SECONDS)
    assert done(call) == GRANTED


@pytest.mark.parametrize("method", ["put", "drop", "release"])
def test_slow_work(logged: list[str], method: str) -> None:
    """What nobody waits for may take longer, and not for ever."""
    bench = make(**{method: hang}).started()
    call = bench.call(method)
    bench.clock.advance(WORK_SECONDS)
    assert done(call) is None
    assert bench.raw.cancelled == [method]
    assert (bench.guarded.failures, logged) == (1, [unavailable("no answer within 5 s")])


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_failure(logged: list[str], method: str, at_once: bool) -> None:
    """Whatever a store raises is no one's failure but its own: logged, counted, and the store is not used."""
    error = OSError("gone")
    reply: Deferred[Any] = Deferred()
    bench = make(**{method: error if at_once else reply}).started()
    call = bench.call(method)
    if not at_once:
        reply.errback(error)
    assert done(call) == (GRANTED if method == "claim" else None)
    assert not bench.guarded.is_open
    assert (bench.guarded.failures, logged) == (1, [unavailable("gone")])
    assert bench.raw.calls == [method, "close"]


def test_in_use() -> None:
    """A store that works is said to be in use once, at the start."""
    with capturedLogs() as events:
        bench = make(claim=FOUND).started()
        done(bench.call("claim"))
    assert [f"{event['log_level'].name}: {formatEvent(event)}" for event in events] == [IN_USE]


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_that_looks_like_a_cancellation(method: str) -> None:
    """A store that raises what a cancelled call raises, though nobody has cancelled it, has failed."""
    bench = make(**{method: CancelledError()}).started()
    assert done(bench.call(method)) == (GRANTED if method == "claim" else None)
    assert bench.guarded.failures == 1


def test_an_open_that_looks_cancelled() -> None:
    """Likewise where it is opened: it is tried again."""
    bench = make(open=CancelledError())
    bench.guarded.start()
    bench.raw.does.clear()
    bench.clock.advance(RETRY_SECONDS)
    assert bench.guarded.is_open


def test_an_error_without_words(logged: list[str]) -> None:
    """An error that says nothing is called by its kind."""
    bench = make(drop=KeyboardError()).started()
    done(bench.call("drop"))
    assert logged == [unavailable("KeyboardError")]


class KeyboardError(Exception):
    """Says nothing."""


def test_an_error_of_the_system(logged: list[str]) -> None:
    """An error of the system's is logged with the file, and without its number."""
    bench = make(drop=PermissionError(errno.EACCES, "Permission denied", "/srv/cache.db")).started()
    done(bench.call("drop"))
    assert logged == [unavailable("/srv/cache.db: Permission denied")]


def test_an_error_of_many_words(logged: list[str]) -> None:
    """What a store says stays on one line."""
    bench = make(drop=OSError('a\nb "c"')).started()
    done(bench.call("drop"))
    assert logged == [unavailable('a\\nb \\"c\\"')]


def test_several_fail_together(logged: list[str]) -> None:
    """A connection that breaks under several calls has failed once."""
    replies: list[Deferred[Any]] = [Deferred() for _ in range(8)]
    waiting = iter(replies)
    bench = make(**dict.fromkeys(METHODS, lambda: next(waiting))).started()
    calls = [bench.call(method) for method in METHODS * 2]
    for reply in replies:
        reply.errback(OSError("gone"))
    assert [done(call) for call in calls] == [GRANTED, None, None, None] * 2
    assert (bench.guarded.failures, logged) == (1, [unavailable("gone")])
    assert bench.raw.calls[8:] == ["close"]


def test_several_are_slow_together(logged: list[str]) -> None:
    """So it is with one that hangs."""
    bench = make(claim=hang).started()
    calls = [bench.call("claim") for _ in range(20)]
    bench.clock.advance(ANSWER_SECONDS)
    assert [done(call) for call in calls] == [GRANTED] * 20
    assert (bench.guarded.failures, len(logged)) == (1, 1)


# a store that comes back


def test_it_comes_back(logged: list[str]) -> None:
    """A store that has failed is opened again a second later, by itself; that is logged once."""
    bench = make().started().broken()
    bench.raw.calls.clear()
    bench.clock.advance(RETRY_SECONDS - EPSILON)
    assert bench.raw.calls == []
    bench.clock.advance(EPSILON)
    assert bench.raw.calls == ["open"]
    assert done(bench.call("claim")) == HELD
    assert logged == [unavailable("gone"), BACK]
    assert bench.clock.getDelayedCalls() == []


def test_it_stays_away(logged: list[str]) -> None:
    """However often it is tried in vain, that is logged once, and counted each time; so is its coming back."""
    bench = make(open=OSError("refused"))
    bench.guarded.start()
    bench.clock.pump([RETRY_SECONDS] * 5)
    assert (bench.guarded.failures, logged) == (6, [unavailable("refused")])
    bench.raw.does.clear()
    bench.clock.advance(RETRY_SECONDS)
    assert logged == [unavailable("refused"), BACK]
    bench.broken()
    bench.clock.advance(RETRY_SECONDS)
    assert logged == [unavailable("refused"), BACK, unavailable("gone"), BACK]


def test_an_open_that_hangs(logged: list[str]) -> None:
    """An open that takes too long is given up, and tried again."""
    bench = make(open=hang)
    bench.guarded.start()
    bench.clock.advance(WORK_SECONDS)
    assert bench.raw.cancelled == ["open"]
    assert logged == [unavailable("no answer within 5 s")]
    bench.raw.does.clear()
    bench.clock.advance(RETRY_SECONDS)
    assert bench.guarded.is_open
    assert logged[1:] == [BACK]


@pytest.mark.parametrize("close", [OSError("x"), hang], ids=["fails", "hangs"])
def test_a_close_that_does_not_work(logged: list[str], close: Any) -> None:
    """A store that cannot even be closed is opened again nevertheless."""
    bench = make(close=close).started().broken()
    bench.clock.advance(WORK_SECONDS)
    bench.clock.advance(RETRY_SECONDS)
    assert bench.guarded.is_open
    assert logged == [unavailable("gone"), BACK]


@pytest.mark.parametrize("ends", [FOUND, OSError("late")], ids=["reply", "failure"])
@pytest.mark.parametrize("method", ["put", "drop", "release"])
def test_a_late_reply_of_an_earlier_connection(logged: list[str], method: str, ends: Any) -> None:
    """What ends only after the store was opened again does not break it."""
    reply: Deferred[Any] = Deferred()
    bench = make(**{method: reply}).started()
    call = bench.call(method)
    bench.raw.does["claim"] = OSError("gone")
    bench.call("claim")
    bench.raw.does.clear()
    bench.clock.advance(RETRY_SECONDS)
    assert bench.guarded.is_open
    reply.callback(ends)
    assert done(call) is None
    assert bench.guarded.is_open
    assert (bench.guarded.failures, logged) == (1, [unavailable("gone"), BACK])


def test_a_late_timeout_of_an_earlier_connection(logged: list[str]) -> None:
    """Likewise what never ends."""
    bench = make(put=hang).started()
    call = bench.call("put")
    bench.broken()
    bench.clock.advance(RETRY_SECONDS)
    bench.clock.advance(WORK_SECONDS)
    assert done(call) is None
    assert bench.guarded.is_open
    assert logged == [unavailable("gone"), BACK]


# a caller that leaves


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_call(logged: list[str], method: str) -> None:
    """A call that its caller has left ends, and says nothing against the store."""
    bench = make(**{method: hang}).started()
    call = bench.call(method)
    leave(call)
    assert call.called
    assert bench.raw.cancelled == [method]
    assert bench.guarded.is_open
    assert (logged, bench.guarded.failures, bench.clock.getDelayedCalls()) == ([], 0, [])


# while it is opened for the first time


def test_claims_wait_for_the_start() -> None:
    """Who asks when the gateway has just been started waits for the store a moment, and then has what it has."""
    opening: Deferred[Any] = Deferred()
    bench = make(open=opening, claim=FOUND)
    bench.guarded.start()
    calls = [bench.call("claim") for _ in range(3)]
    assert not any(call.called for call in calls)
    bench.clock.advance(ANSWER_SECONDS - EPSILON)
    opening.callback(None)
    assert [done(call) for call in calls] == [FOUND] * 3
    assert bench.clock.getDelayedCalls() == []


def test_claims_wait_for_the_start_no_longer(logged: list[str]) -> None:
    """That moment is a quarter of a second from the start, for all claims together; then nobody waits."""
    opening: Deferred[Any] = Deferred()
    bench = make(open=opening, claim=FOUND)
    bench.guarded.start()
    early = bench.call("claim")
    bench.clock.advance(0.2)
    late = bench.call("claim")
    bench.clock.advance(0.05 - EPSILON)
    assert (early.called, late.called) == (False, False)
    bench.clock.advance(2 * EPSILON)
    assert done(early) == done(late) == GRANTED
    assert sync(bench.guarded.claim("key", "known", 6.0, True)) == GRANTED
    opening.callback(None)
    assert done(bench.call("claim")) == FOUND
    assert logged == []


def test_claims_wait_for_the_start_and_it_fails(logged: list[str]) -> None:
    """A store that turns out not to work keeps nobody waiting for the rest of that moment, nor later ones."""
    opening: Deferred[Any] = Deferred()
    bench = make(open=opening)
    bench.guarded.start()
    call = bench.call("claim")
    opening.errback(OSError("refused"))
    assert done(call) == GRANTED
    assert sync(bench.guarded.claim("key", "known", 6.0, True)) == GRANTED
    assert logged == [unavailable("refused")]


@pytest.mark.parametrize("method", ["put", "drop", "release"])
def test_other_calls_do_not_wait_for_the_start(method: str) -> None:
    """What is to be put while the store is opened is not."""
    bench = make(open=hang)
    bench.guarded.start()
    assert done(bench.call(method)) is None
    assert bench.raw.calls == ["open"]


def test_a_caller_leaves_while_it_is_opened() -> None:
    """Who leaves while the store is opened is nobody to tell."""
    opening: Deferred[Any] = Deferred()
    bench = make(open=opening)
    bench.guarded.start()
    leave(bench.call("claim"))
    opening.callback(None)
    assert bench.guarded.is_open
    assert bench.raw.calls == ["open"]
    assert bench.clock.getDelayedCalls() == []


def test_it_is_not_waited_for_while_it_is_opened_again() -> None:
    """A store that has failed is not waited for, however soon after the start that was."""
    bench = make().started().broken()
    bench.raw.does["open"] = hang
    assert sync(bench.guarded.claim("key", "known", 6.0, True)) == GRANTED
    bench.clock.advance(RETRY_SECONDS)
    assert sync(bench.guarded.claim("key", "known", 6.0, True)) == GRANTED


# the end


def never_started(_: Bench) -> None:
    """Do nothing."""


def opening(bench: Bench) -> None:
    """Start, and open for ever."""
    bench.raw.does["open"] = hang
    bench.guarded.start()


def opening_with_claims(bench: Bench) -> None:
    """Likewise, and somebody waits for it."""
    opening(bench)
    bench.call("claim")


def in_use(bench: Bench) -> None:
    """Start."""
    bench.started()


def busy(bench: Bench) -> None:
    """Start, and have calls under way that never end."""
    bench.raw.does |= dict.fromkeys(METHODS, hang)
    bench.started()
    for method in METHODS:
        bench.call(method).addErrback(lambda failure: failure.trap(CancelledError))


def left_out_closing(bench: Bench) -> None:
    """Fail, and close for ever."""
    bench.raw.does["close"] = hang
    bench.started().broken()


def left_out_waiting(bench: Bench) -> None:
    """Fail, and wait to try again."""
    bench.started().broken()


def left_out_opening(bench: Bench) -> None:
    """Fail, and open for ever."""
    bench.started().broken()
    bench.raw.does["open"] = hang
    bench.clock.advance(RETRY_SECONDS)


def back(bench: Bench) -> None:
    """Fail, and be back."""
    bench.started().broken()
    bench.clock.advance(RETRY_SECONDS)


STATES = [
    never_started,
    opening,
    opening_with_claims,
    in_use,
    busy,
    left_out_closing,
    left_out_waiting,
    left_out_opening,
    back,
]
BOUND_SECONDS = 2 * STOP_SECONDS  # for what is under way, and for the close


@pytest.mark.parametrize("state", STATES)
def test_stop(state: Callable[[Bench], None]) -> None:
    """Whatever a store is doing, a stop ends in time, and leaves it closed and nothing to come."""
    bench = make()
    state(bench)
    stop = bench.call("stop")
    for _ in range(20):
        if stop.called:
            break
        bench.clock.advance(BOUND_SECONDS / 20)
    done(stop)
    assert bench.clock.getDelayedCalls() == []
    assert bench.raw.calls[-1] == "close"
    before = list(bench.raw.calls)
    bench.clock.advance(60.0)
    assert not bench.guarded.is_open
    assert done(bench.call("claim")) == GRANTED
    assert done(bench.call("put")) is None
    assert bench.raw.calls == before


@pytest.mark.parametrize("state", [state for state in STATES if state is not busy])
def test_stop_is_at_once(state: Callable[[Bench], None]) -> None:
    """With nothing under way that is worth it, and a store that closes, a stop takes no time."""
    bench = make()
    state(bench)
    bench.raw.does.pop("close", None)
    done(bench.call("stop"))


def test_stop_lets_work_finish() -> None:
    """What is being put is put, if that is quick."""
    reply: Deferred[Any] = Deferred()
    bench = make(put=reply).started()
    call = bench.call("put")
    stop = bench.call("stop")
    bench.clock.advance(STOP_SECONDS - EPSILON)
    assert (stop.called, bench.raw.calls) == (False, ["put"])
    reply.callback(None)
    assert done(call) is None
    done(stop)
    assert (bench.raw.calls, bench.raw.cancelled) == (["put", "close"], [])
    assert bench.clock.getDelayedCalls() == []


def test_stop_and_a_failure(logged: list[str]) -> None:
    """A call that fails while the store is stopped fails like any other, and begins nothing."""
    reply: Deferred[Any] = Deferred()
    bench = make(put=reply).started()
    call = bench.call("put")
    stop = bench.call("stop")
    reply.errback(OSError("gone"))
    assert done(call) is None
    done(stop)
    assert bench.clock.getDelayedCalls() == []
    assert logged == []


def test_stop_does_not_wait_for_what_cannot_be_cancelled() -> None:
    """A store that does not even end when it is cancelled holds up no stop."""
    bench = make(put=hang, close=hang).started()
    bench.raw.ending = Deferred()
    bench.call("put").addErrback(lambda failure: failure.trap(CancelledError))
    stop = bench.call("stop")
    bench.clock.pump([0.25] * 20)
    done(stop)


@pytest.mark.parametrize("close", [OSError("x"), hang], ids=["fails", "hangs"])
def test_stop_and_a_close_that_does_not_work(close: Any) -> None:
    """A store that cannot be closed is left."""
    bench = make(close=close).started()
    stop = bench.call("stop")
    bench.clock.advance(STOP_SECONDS)
    done(stop)
    assert bench.clock.getDelayedCalls() == []


def test_stop_twice() -> None:
    """A store that is stopped can be stopped."""
    bench = make().started()
    done(bench.call("stop"))
    done(bench.call("stop"))
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize("state", STATES)
def test_start_after_stop(state: Callable[[Bench], None]) -> None:
    """A store that was stopped, whatever it was doing, can be started again, and is opened once."""
    bench = make()
    state(bench)
    bench.call("stop")
    bench.clock.pump([BOUND_SECONDS / 4] * 4)
    bench.raw.does.clear()
    bench.raw.calls.clear()
    bench.guarded.start()
    assert done(bench.call("claim")) == HELD
    bench.clock.pump([1.0] * 10)
    assert bench.raw.calls == ["open", "claim"]
    assert done(bench.call("claim")) == HELD


def test_claims_wait_for_the_second_start() -> None:
    """A store that is started again is waited for as at first."""
    bench = make().started()
    done(bench.call("stop"))
    opening: Deferred[Any] = Deferred()
    bench.raw.does["open"] = opening
    bench.guarded.start()
    call = bench.call("claim")
    assert not call.called
    opening.callback(None)
    assert done(call) == HELD
