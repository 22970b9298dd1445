"""The worker processes: one that only forks, and the workers, which can be killed."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final, NoReturn

from fingergw.net.workers import limited

CPU_SECONDS: Final = 1.0
"""The processor time after which a worker is killed."""
_ROOM_PER_BYTE = 200  # of memory; more than a tree of elements takes for a byte of its page
_LARGE_BYTES = 16 << 20  # a worker that has grown by more is not used again
_RECURSION = 5000  # nested calls; elements of a page are nested no deeper than 2048
LENGTH: Final = struct.Struct("!I")
"""The length before a request, and before a reply."""
LAST: Final = b"."
"""The last byte of a reply that is its worker's last."""
MORE: Final = b"+"
"""The last byte of any other reply."""


def fork_server(control: socket.socket, mapped_bytes: int) -> NoReturn:
    """Fork workers until the other end of the control socket is closed; this process does nothing else.

    :param control: receives a byte, the place of a new worker, with the worker's socket. The place's previous worker is
        killed.
    :param mapped_bytes: the memory that the gateway had mapped at its start, for use if /proc does not tell.
    """
    workers: dict[int, int] = {}
    _detach(control.fileno())
    sys.setrecursionlimit(_RECURSION)
    gc.freeze()  # so that neither this process nor the workers copy what they only read; a collection would copy all
    while True:
        place, sockets, *_ = socket.recv_fds(control, 1, 1)
        if not place:
            break
        _kill(workers.pop(place[0], 0))
        with suppress(OSError):  # it cannot be forked; the gateway sees its socket closed
            workers[place[0]] = _hire(control, sockets[0], mapped_bytes)
        os.close(sockets[0])
    for pid in workers.values():
        _kill(pid)
    os._exit(0)


@cache
def _loaded() -> Callable[[bytes], bytes]:
    """Return what converts, with the libraries that it needs: this process is small until the first worker is."""
    from fingergw.net.workers.converting import converted

    gc.collect()
    gc.freeze()  # so that workers do not copy pages that they only read
    return converted


def _hire(control: socket.socket, fileno: int, mapped_bytes: int) -> int:
    _loaded()  # here, and once for all workers
    pid = os.fork()
    if pid == 0:
        control.close()
        with suppress(BaseException):
            _serve(socket.socket(fileno=fileno), mapped_bytes)
        os._exit(0)
    return pid


def _kill(pid: int) -> None:
    if pid:
        os.kill(pid, signal.SIGKILL)  # its pid is valid until it is waited for
        os.waitpid(pid, 0)


def _detach(kept: int) -> None:
    """Give up what is inherited from the gateway: its session, signals and descriptors, except one."""
    os.setsid()  # signals from the terminal are for the gateway
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # it ends with the gateway, which may still need it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing, end = os.pipe()  # not /dev/null, which a chroot may not have
    os.close(end)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _serve(connection: socket.socket, mapped_bytes: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    mark = MORE
    while mark == MORE and (request := _receive(connection)) is not None:
        room = max(limited.ROOM_BYTES, _ROOM_PER_BYTE * len(request))
        limited.limit(CPU_SECONDS, (limited.address_space_bytes() or mapped_bytes + before) + room)
        reply = _loaded()(request)
        del request
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before > _LARGE_BYTES:
            mark = LAST
        limited.remove_limits()  # the next request may be larger
        connection.sendall(LENGTH.pack(len(reply) + 1) + reply + mark)


def _receive(connection: socket.socket) -> bytes | None:
    """Receive the next request; None at the end."""
    head = connection.recv(LENGTH.size, socket.MSG_WAITALL)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    request = connection.recv(size, socket.MSG_WAITALL)
    return request if len(request) == size else None
