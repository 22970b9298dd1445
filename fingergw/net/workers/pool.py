"""The gateway's side of the worker processes: the queue of conversions, and their results."""

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
_REPLY_BYTES = 1024  # of a reply, beyond the largest text
_STOPPED = "the gateway is stopping"
_END_SECONDS, _LOOK_SECONDS = 1.0, 0.01


class ConversionError(Exception):
    """The body cannot be converted; the message says why, and is safe to log."""


@define(eq=False, repr=False)
class _Job:
    """One conversion.

    :param turn: the queue that it is in.
    :param worker: the worker that runs it; None while it waits.
    """

    turn: str
    conversion: Conversion
    data: bytes
    done: Deferred[str]
    worker: _Worker | None = None


@define(eq=False, repr=False)
class _Worker(Protocol):
    """The gateway's end of a worker's socket.

    :param place: its index among the workers.
    :param job: what it is running; None while it is idle.
    """

    pool: WorkerPool
    place: int
    job: _Job | None = field(init=False, default=None)
    _received: bytearray = field(init=False, factory=bytearray)

    def begin(self, job: _Job) -> None:
        """Send it a job."""
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
        why = f"its worker died, or the body takes more than {worker.CPU_SECONDS:g} s of processor time to convert"
        self.pool.ended(self, ConversionError(why))

    def end(self) -> None:
        """Close the connection. The process is killed when its place is filled, or by its limit of processor time."""
        self.pool.left(self)
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]  # every stream transport has it


@define(eq=False, repr=False)
class WorkerPool:
    """Two workers, started on demand.

    Each turn, a queue of conversions, has one worker at a time, so that slow ones leave a worker to the others.

    :param reactor: an IReactorSocket and IReactorTime.
    """

    reactor: Any
    _mapped_bytes: int = field(init=False)
    _server: int = field(init=False, default=0)  # its pid
    _control: socket.socket | None = field(init=False, default=None)
    _workers: list[_Worker | None] = field(init=False, factory=lambda: [None] * _PLACES)
    _waiting: dict[str, deque[_Job]] = field(init=False, factory=dict)  # by turn, the next turn first
    _has_stopped: bool = field(init=False, default=False)

    @_mapped_bytes.default
    def _find_mapped_bytes(self) -> int:
        return limited.address_space_bytes() or 1 << 30  # now, as a chroot may have no /proc

    def start(self) -> None:
        """Fork the process that forks the workers, best while this one is small and has no threads.

        :raises OSError: it cannot be forked.
        """
        self._has_stopped = False
        self._started()

    def _started(self) -> socket.socket:
        """Return the socket for requesting workers, with its process started."""
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
        """Convert a body to text.

        :param turn: the queue to wait in.
        :return: fires with the text; fails with :class:`ConversionError`. Cancelling it ends the conversion.
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
                why = f"no worker can be started: {error.strerror}; raise the limits on processes and files"
                refused.append((self._take(turn), ConversionError(why)))
                continue
            if free is None:
                break
            free.begin(self._take(turn))
        for job, why_not in refused:  # last, as a callback may convert something else
            job.done.errback(why_not)

    def _take(self, turn: str) -> _Job:
        jobs = self._waiting.pop(turn)
        job = jobs.popleft()
        if jobs:
            self._waiting[turn] = jobs  # to the end of the queue
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
        except BrokenPipeError:  # it was killed, for example by the kernel's OOM killer
            _log.error("the process that forks workers has ended, perhaps for lack of memory; another is started")
            _has_ended(self._server)
            self._forget()
            socket.send_fds(self._started(), [bytes([place])], [theirs.fileno()])

    def left(self, gone: _Worker) -> None:
        """Free the place of a worker that is gone."""
        if self._workers[gone.place] is gone:
            self._workers[gone.place] = None

    def ended(self, by: _Worker, result: str | ConversionError) -> None:
        """Pass on the result of a worker's job, and send it the next."""
        job, by.job = by.job, None
        self._begin_next()
        if job is None:
            return
        if isinstance(result, str):
            job.done.callback(result)
        else:
            job.done.errback(result)

    async def stop(self) -> None:
        """End all workers; what waits for them fails."""
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
