"""The cache from its tables: memory, store, and the backends that are wrapped."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from fingergw.app.parts.backends import Opened
from fingergw.app.parts.machine import Machine
from fingergw.app.parts.parts import Parts
from fingergw.cache.cached_backend import CachedBackend
from fingergw.cache.entry import Terms
from fingergw.cache.flight import Runtime
from fingergw.cache.guarded import GuardedStore
from fingergw.cache.memory import Memory
from fingergw.cache.store import RawStore
from fingergw.config import model
from fingergw.config.dumping import dump_backend
from fingergw.config.problems import Problem
from fingergw.config.store_address import RedisAddress, parse_store
from fingergw.config.tables import Cache
from fingergw.core.outcome import Failed
from fingergw.core.setting_types import FILES
from fingergw.core.settings import bare, keys_of
from fingergw.net.resolving import Resolver
from fingergw.net.trust import over_tls
from fingergw.telemetry.failures import log_failed

# Answers are cut to max_answer_bytes, so that what takes more than that is garbage, or not worth sharing.
_MAX_VALUE_BYTES = 16 * 2**20
# How long asking a backend without a timeout takes, at the most.
_AT_ONCE_SECONDS = 5.0
_MARGIN_SECONDS = 1.0
_CONNECT_SECONDS = 5.0


class Caching:
    """What is built from ``[cache]`` and each ``[backends.X.cache]``.

    :param before: what is active, whose memory is gone on with, and whose store, if it is the same.
    :param store: None where answers are kept in memory alone.
    :param store_fingerprint: all that the store depends on.
    """

    def __init__(self, configuration: model.Config, machine: Machine, resolver: Resolver, before: Parts | None) -> None:
        settings = configuration.cache
        self.store: GuardedStore | None = None
        self._machine = machine
        self._resolver, self._reactor = resolver, resolver.reactor
        self.memory = Memory(settings.max_entries, settings.max_bytes) if before is None else before.memory
        self._runtime = Runtime(
            seconds=time.monotonic,
            spawn=Deferred.fromCoroutine,
            waiter=Deferred,
            sleep=partial(deferLater, self._reactor),
            cancelled=(CancelledError,),
        )
        read = len(machine.texts)
        store = self._open(settings)
        self.store_fingerprint = (settings, machine.texts[read:])
        if before is not None and before.store_fingerprint == self.store_fingerprint:
            self.store = before.store
        elif store is not None:
            self.store = GuardedStore(store, settings.store, self._reactor)

    def of(self, opened: Opened, counts: Counter[str]) -> CachedBackend | None:
        """Return what keeps a backend's answers; None if its table does not say so.

        :param counts: what is counted of it.
        """
        table = opened.examined.table
        if table.cache is None:
            return None
        return CachedBackend(
            ask=opened.ask,
            inputs=opened.examined.inputs,
            prefix=f"fingergw:1:{opened.site.name}:{_fingerprint(opened)}:",
            version=opened.version,
            terms=Terms(table.cache.ttl, table.cache.stale, table.cache.negative_ttl),
            lock_seconds=(table.timeout or _AT_ONCE_SECONDS) + _MARGIN_SECONDS,
            memory=self.memory,
            store=self.store,
            runtime=self._runtime,
            report=partial(_report, opened.site.name),
            counts=counts,
        )

    def _open(self, settings: Cache) -> RawStore | None:
        address = parse_store(settings.store)
        if isinstance(address, RedisAddress):
            return self._redis(settings, address)
        for key in ("password_file", "ca_file"):
            if getattr(settings, key) is not None:
                self._machine.problems.append(Problem(("cache", key), "only a redis store takes one; remove it"))
        if address is None:
            return None
        from fingergw.cache.sqlite import SqliteStore

        path = self._machine.later(self._machine.base / address, "cache", "store")
        if path is None:
            return None
        return SqliteStore(path, settings.max_entries, settings.max_bytes, time.time, self._reactor)

    def _redis(self, settings: Cache, address: RedisAddress) -> RawStore | None:
        password = None
        if settings.password_file is not None:
            password = self._machine.secret(settings.password_file, "password", "cache", "password_file")
        elif address.user is not None:
            self._machine.problems.append(
                Problem(("cache", "store"), "a user needs a password: name its password_file")
            )
        if settings.ca_file is not None and not address.tls:
            self._machine.problems.append(Problem(("cache", "ca_file"), "only rediss: takes one; remove it"))
        trust = self._machine.trust(settings.ca_file, "cache", "ca_file")
        try:
            from fingergw.cache.redis import RedisStore
        except ModuleNotFoundError as error:
            why = f'needs {error.name}, which is not installed: pip install "fingergw[redis]"'
            self._machine.problems.append(Problem(("cache", "store"), why))
            return None
        endpoint = self._resolver.endpoint(address.host, address.port, timeout=_CONNECT_SECONDS)
        if address.tls:
            try:
                endpoint = over_tls(endpoint, address.host, trust)
            except ValueError:
                self._machine.problems.append(Problem(("cache", "store"), "expected a host's name or address"))
        return RedisStore(endpoint, address.database, address.user, password, _MAX_VALUE_BYTES, time.monotonic)


def _fingerprint(opened: Opened) -> str:
    """Return what tells a backend from another of the same name that may answer otherwise, or keep it for longer.

    A store can be shared with other gateways, and with what this one was before its configuration changed.
    """
    table = dump_backend(opened.examined.table)
    settings: Any = type(opened.examined.table.settings)
    files = {key.name for key in keys_of(settings) if bare(key.type) in FILES}  # what is in them counts
    said = [(key, value) for key, value in table.items() if key not in {*files, "timeout", "max_running"}]
    secrets = [text for _, text in opened.examined.secrets]
    return hashlib.sha256(repr((said, secrets, opened.site.used)).encode()).hexdigest()[:16]


def _report(backend: str, failed: Failed) -> None:
    log_failed("backend {backend} failed, and what it answered before is kept: {why}", failed, backend)
