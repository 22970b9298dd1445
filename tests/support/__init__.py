"""What several tests need: gateways in this process or in one of their own, clients, and servers to ask."""

from __future__ import annotations

from tests.support.configuration import HELLO
from tests.support.gateway import Client, GatewayCase, caches, port_of
from tests.support.http_server import RawServer, Upstream, response
from tests.support.processes import COMMAND, ROOT, forked, process, run
from tests.support.sockets import finger, free_port, listens, receive_all, serves
from tests.support.waiting import DEADLINE_SECONDS, in_thread, reactor, sync, until, wait_until

__all__ = [
    "COMMAND",
    "DEADLINE_SECONDS",
    "HELLO",
    "ROOT",
    "Client",
    "GatewayCase",
    "RawServer",
    "Upstream",
    "caches",
    "finger",
    "forked",
    "free_port",
    "in_thread",
    "listens",
    "port_of",
    "process",
    "reactor",
    "receive_all",
    "response",
    "run",
    "serves",
    "sync",
    "until",
    "wait_until",
]
