"""The gateway's side of its workers: whose turn it is to have something converted, and what came of it."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from fingergw.net.workers import limited, worker
from fingergw.net.workers.conversions import DONE, Conversion

_log = Logger()
_PLACES = 2
_REPLY_BYTES = 1024  # of a reply, beyond a text of the size that it may have
_STOPPED = "the gateway stops"
_END_SECONDS, _LOOK_SECONDS = 1.0, 0.01


class ConversionError(Exception):
    """There is no text; the message says why, and may be logged."""


@define(eq=False)
class _Job:
    """One conversion.

    :param turn: whose it is.
    :param worker: who does it; None while it waits.
    """

    turn: str
    conversion: Conversion
    data: bytes
    done: Deferred[str]
    worker: _Worker | None = None


@define(eq=False)
class _Worker(Protocol):
    """The gateway's end of a worker's socket.

    :param place: which of the workers it is.
    :param job: what it does at present; None while it has nothing to do.
    """

    pool: WorkerPool
    place: int
    job: _Job | None = field(init=False, default=None)
    _received: bytearray = field(init=False, factory=bytearray)

    def begin(self, job: _Job) -> None:
        """Have it do something."""
        assert self.transport is not None
        self.job, job.worker = job, self
        request = job.conversion.request(job.data)
        self.transport.writeSequence([worker.LENGTH.pack(len(request)), request])

    def dataReceived(self, data: bytes) -> None:
        job, received = self.job, self._received
        received += data
        start = worker.LENGTH.size
        if job is None or len(received) > start + job.conversion.max_bytes + _REPLY_BYTES:
            self.end()
        elif len(received) >= start and len(received) >= start + worker.LENGTH.unpack_from(received)[0]:
            reply, self._received = received[start:-1], bytearray()
            if received[-1:] == worker.LAST:
                self.end()
            text = reply[1:].decode(errors="replace")
            self.pool.ended(self, text if reply.startswith(DONE) else ConversionError(text))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.pool.left(self)
        why = f"the body cannot be converted, or takes more than {worker.CPU_SECONDS:g} s of processor time"
        self.pool.ended(self, ConversionError(why))

    def end(self) -> None:
        """Have it go; it is killed when its place is taken, and after its second of processor time at the latest."""
        self.pool.left(self)
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


@define(eq=False)
class WorkerPool:
    """Two workers, which are there as soon as they are needed.

    Of one turn one conversion is done at a time: who sends what takes long leaves a worker to all others.

    :param reactor: an IReactorSocket and IReactorTime.
    """

    reactor: Any
    _mapped_bytes: int = field(init=False)
    _server: int = field(init=False, default=0)  # its process's number
    _control: socket.socket | None = field(init=False, default=None)
    _workers: list[_Worker | None] = field(init=False, factory=lambda: [None] * _PLACES)
    _waiting: dict[str, deque[_Job]] = field(init=False, factory=dict)  # by turn, who is next first
    _has_stopped: bool = field(init=False, default=False)

    @_mapped_bytes.default
    def _find_mapped_bytes(self) -> int:
        return limited.address_space_bytes() or 1 << 30  # now: in a chroot nobody can say

    def start(self) -> None:
        """Fork the process that forks the workers, which is best done while this one is small and has no threads.

        :raises OSError: there can be no more processes.
        """
        self._has_stopped = False
        self._started()

    def _started(self) -> socket.socket:
        """Return the socket by which workers are asked for."""
        if self._control is None:
            ours, theirs = socket.socketpair()
            with theirs, ExitStack() as opened:
                opened.enter_context(ours)
                self._server = limited.fork()
                opened.pop_all()
                if self._server == 0:
                    with suppress(BaseException):
                        worker.fork_server(theirs, self._mapped_bytes)
                    os._exit(1)
            ours.setblocking(False)
            self._control = ours
        return self._control

    def convert(self, turn: str, conversion: Conversion, data: bytes) -> Deferred[str]:
        """Make a text of a body.

        :param turn: who wants it, for their turns.
        :return: fires with the text; fails with :class:`ConversionError`. Cancelling it ends the work.
        """
        if self._has_stopped:
            return fail(ConversionError(_STOPPED))
        job = _Job(turn, conversion, data, Deferred(lambda _: self._cancelled(job)))
        self._waiting.setdefault(turn, deque()).append(job)
        self._begin_next()
        return job.done

    def _cancelled(self, job: _Job) -> None:
        if job.worker is not None:
            job.worker.end()
            job.worker.job = None
            self._begin_next()
        else:
            self._waiting[job.turn].remove(job)
            if not self._waiting[job.turn]:
                del self._waiting[job.turn]

    def _begin_next(self) -> None:
        busy = {each.job.turn for each in self._workers if each is not None and each.job is not None}
        refused: list[tuple[_Job, ConversionError]] = []
        for turn in [turn for turn in self._waiting if turn not in busy]:
            try:
                free = self._free_worker()
            except OSError as error:
                why = f"no process to convert it in: {error.strerror}"
                refused.append((self._take(turn), ConversionError(why)))
                continue
            if free is None:
                break
            free.begin(self._take(turn))
        for job, why_not in refused:  # who is told may ask for something else
            job.done.errback(why_not)

    def _take(self, turn: str) -> _Job:
        jobs = self._waiting.pop(turn)
        job = jobs.popleft()
        if jobs:
            self._waiting[turn] = jobs  # behind all others
        return job

    def _free_worker(self) -> _Worker | None:
        for place, each in enumerate(self._workers):
            if each is None:
                return self._hire(place)
            if each.job is None:
                return each
        return None

    def _hire(self, place: int) -> _Worker:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._ask_for(place, theirs)
            ours.setblocking(False)
            hired = _Worker(self, place)
            factory = Factory.forProtocol(lambda: hired)
            factory.noisy = False
            self.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        self._workers[place] = hired
        return hired

    def _ask_for(self, place: int, theirs: socket.socket) -> None:
        try:
            socket.send_fds(self._started(), [bytes([place])], [theirs.fileno()])
        except BrokenPipeError:  # it was killed, as by who looks for memory
            _log.error("the process that forks workers is gone, and is begun anew")
            _has_ended(self._server)
            self._forget()
            socket.send_fds(self._started(), [bytes([place])], [theirs.fileno()])

    def left(self, gone: _Worker) -> None:
        """Note that a worker is not there any more."""
        if self._workers[gone.place] is gone:
            self._workers[gone.place] = None

    def ended(self, by: _Worker, result: str | ConversionError) -> None:
        """Note what came of what a worker did, and give it something else to do."""
        job, by.job = by.job, None
        self._begin_next()
        if job is None:
            return
        if isinstance(result, str):
            job.done.callback(result)
        else:
            job.done.errback(result)

    async def stop(self) -> None:
        """End all workers, for good; who waits for them is told that there is no text."""
        self._has_stopped = True
        waiting, self._waiting = self._waiting, {}
        for job in [job for jobs in waiting.values() for job in jobs]:
            job.done.errback(ConversionError(_STOPPED))
        for each in filter(None, list(self._workers)):
            each.end()
        server = self._server
        self._forget()
        ends = self.reactor.seconds() + _END_SECONDS
        while server and not _has_ended(server):
            if self.reactor.seconds() >= ends:
                with suppress(ProcessLookupError):
                    os.kill(server, signal.SIGKILL)
            await deferLater(self.reactor, _LOOK_SECONDS)

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control, self._server = None, 0


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True
