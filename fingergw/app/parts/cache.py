"""The cache as the configuration has it: its store, and the keys of a backend's answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fingergw.app.parts.checked_backend import CheckedBackend, digest
from fingergw.app.parts.machine import Machine
from fingergw.cache.guarded import GuardedStore
from fingergw.cache.store import RawStore
from fingergw.config import model
from fingergw.config.backend_types import WAITING
from fingergw.config.dumping import dump_backend
from fingergw.config.problems import Problem
from fingergw.config.store_address import RedisAddress, parse_store
from fingergw.config.tables import Cache
from fingergw.core.setting_types import FILES, SecretFile
from fingergw.core.settings import is_secrets, keys_of, without_none
from fingergw.net.files import read_secret
from fingergw.net.resolving import Resolver
from fingergw.net.root import usable_now
from fingergw.net.trust import over_tls, read_authorities, system_trust

# Answers are cut to max_answer_bytes: a value that takes more than this is garbage, or not worth sharing.
_MAX_VALUE_BYTES = 16 * 2**20
_CONNECT_SECONDS = 5.0


def key_prefix(checked: CheckedBackend, used: Mapping[str, object]) -> str:
    """Return the start of the keys of a backend's answers: its name, and a digest of all that these depend on.

    How long they are kept counts, too, as a store may hold answers of other gateways, and of previous configurations.

    :param used: the settings beside its own table that the backend uses.
    """
    cls: Any = type(checked.table.settings)
    table_keys, table = keys_of(cls), dump_backend(checked.table)
    kinds = {key.name: without_none(key.type) for key in table_keys}
    files = {key for key, kind in kinds.items() if kind in FILES or is_secrets(kind)}  # their contents count, not names
    settings = [(key, value) for key, value in table.items() if key not in {*files, *WAITING}]
    secret = {key for key, kind in kinds.items() if kind is SecretFile or is_secrets(kind)}
    secrets = sorted(each for each in checked.digests.items() if each[0].partition(".")[0] in secret)
    return f"fingergw:1:{checked.name}:{digest(repr((settings, secrets, dict(used))))[:16]}:"


def store_of(
    configuration: model.Config, machine: Machine, resolver: Resolver, previous: GuardedStore | None
) -> GuardedStore | None:
    """Return the store of the cache; None if answers are kept in memory alone.

    :param previous: the store under the previous configuration, which is kept if its fingerprint is the same.
    """
    settings, anonymises = configuration.cache, configuration.log.anonymise
    address = parse_store(settings.store)
    digests: tuple[str, ...] = ()
    store: RawStore | None = None
    if isinstance(address, RedisAddress):
        store, digests = _redis(settings, address, machine, resolver)
    else:
        if machine.mistaken.has("cache", "store"):
            _load_files(settings, machine)
            return None
        for key in ("password_file", "ca_file"):
            if getattr(settings, key) is not None:
                machine.problems.append(Problem(("cache", key), f"only a Redis store has a {key}; remove it"))
        outside = machine.base / (address or "")
        path = address and machine.written(outside, "cache", "store", follows_links=True)
        if path is not None:
            from fingergw.cache.sqlite import SqliteStore

            if previous is None:  # else it may be open, and closing it here would drop SQLite's locks
                _warn_of_file(outside, machine)
            bounds = settings.max_entries, settings.max_bytes
            store = SqliteStore(path, *bounds, time.time, resolver.reactor, anonymises)
    if store is None:
        return None
    fingerprint = (settings, digests, anonymises)
    if previous is not None and previous.fingerprint == fingerprint:
        return previous
    return GuardedStore(store, settings.store, resolver.reactor, fingerprint)


def _warn_of_file(path: Path, machine: Machine) -> None:
    """Warn of a file that the store will not use; the gateway serves without it."""
    from fingergw.cache.sqlite_file import why_refused

    if why := why_refused(usable_now(path)):
        why = f"{path} will not be used, and answers are kept in memory alone: it {why}"
        machine.warnings.append(Problem(("cache", "store"), why))


def _redis(
    settings: Cache, address: RedisAddress, machine: Machine, resolver: Resolver
) -> tuple[RawStore | None, tuple[str, ...]]:
    """Return a Redis store, if it can be used here, and digests of the files that it takes."""
    password, trust, pem = _load_files(settings, machine)
    has_password = settings.password_file is not None or machine.mistaken.has("cache", "password_file")
    if address.user is not None and not has_password:
        machine.problems.append(Problem(("cache", "store"), "a user needs a password: name its password_file"))
    if settings.ca_file is not None and not address.tls:
        machine.problems.append(
            Problem(("cache", "ca_file"), "only a rediss: store has a ca_file; remove it, or write rediss:")
        )
    try:
        from fingergw.cache.redis import RedisStore
    except ModuleNotFoundError as error:
        why = f'needs {error.name}, which is not installed: pip install "fingergw[redis]"'
        machine.problems.append(Problem(("cache", "store"), why))
        return None, ()
    endpoint = resolver.endpoint(address.host, address.port, timeout=_CONNECT_SECONDS)
    if address.tls:
        endpoint = over_tls(endpoint, address.host, trust)
    store = RedisStore(endpoint, address.database, address.user, password or None, _MAX_VALUE_BYTES, time.monotonic)
    return store, (digest(password), digest(pem))


def _load_files(settings: Cache, machine: Machine) -> tuple[str, Any, str]:
    """Return the password, the trust root and the authorities that it is made of; what is wrong is a problem."""
    password, trust, pem = "", system_trust(), ""
    if settings.password_file is not None:
        read = partial(read_secret, what="password")
        password = machine.load(settings.password_file, read, "cache", "password_file") or ""
    if settings.ca_file is not None:
        trust, pem = machine.load(settings.ca_file, read_authorities, "cache", "ca_file") or (trust, "")
    return password, trust, pem
