"""Filters that make a configuration from inventory variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import tomli_w
from ansible.errors import AnsibleFilterError

# What ListenStream= takes: a port, or an address and a port.
_PLACE = re.compile(r"(?:\S+:)?(?P<port>\d{1,5})")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# A port of the gateway's own, or one that systemd opens. A PROXY header may come first.
_PASSED = re.compile(r"(?:haproxy:)?systemd:(?:.*:)?name=(?P<name>[^:]+)")
_ADMIN = re.compile(r"tcp6?:(?:port=)?(?P<port>\d+)(?::interface=(?P<interface>.+))?")


def to_toml(table: Mapping[str, Any]) -> str:
    """Return a table as TOML.

    :raises AnsibleFilterError: something in it has no place in TOML; the message has its key.
    """
    return tomli_w.dumps(_plain(table, ()))


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return configurations laid over each other; later ones win.

    Tables are merged key by key, and lists of tables that have names by these names: a listener that is new is
    appended, a route that is new goes before those of earlier layers, as the first that matches wins. Other lists
    are replaced.

    :raises AnsibleFilterError: a layer is no table.
    """
    layers = list(layers)
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise AnsibleFilterError(
                f"a configuration must be a table, this one is a {type(layer).__name__}: {layer!r}"
            )
    return reduce(_merged_tables, layers, {})


def texts(files: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of files by name; those that are given as tables are written as TOML.

    :raises AnsibleFilterError: something in a table has no place in TOML.
    """
    return {name: to_toml(file) if isinstance(file, Mapping) else str(file) for name, file in files.items()}


def mistakes(
    configuration: Mapping[str, Any],
    sockets: Mapping[str, Any],
    files: Mapping[str, Any],
    secrets: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> list[str]:
    """Return what is wrong in the variables around a configuration, which ``fingergw check`` does not see.

    :param sockets: what each one listens at, by the name of its listener.
    :param settings: of the service's unit.
    """
    return [
        *_socket_mistakes(configuration, sockets),
        *(
            f"{name!r} in {variable} cannot name a file: take letters, digits, . _ and -"
            for variable, given in (
                ("fingergw_sockets", sockets),
                ("fingergw_files", files),
                ("fingergw_secrets", secrets),
            )
            for name in given
            if not _FILE_NAME.fullmatch(str(name)) or str(name) in ("secrets", "fingergw.toml")
        ),
        *(
            f"{name} in {variable} is a {type(value).__name__}: {wanted}"
            for variable, given, kinds, wanted in (
                ("fingergw_files", files, (str, Mapping), "give it a text, or a table"),
                ("fingergw_secrets", secrets, str, "give it a text; put a number in quotes"),
                ("fingergw_service_settings", settings, (str, int, float), "give it a text or a number"),
            )
            for name, value in given.items()
            if not isinstance(value, kinds)
        ),
    ]


def _socket_mistakes(configuration: Mapping[str, Any], sockets: Mapping[str, Any]) -> Iterator[str]:
    endpoints = [str(listener.get("endpoint", "")) for listener in _tables(configuration.get("listeners"))]
    passed = {match["name"] for endpoint in endpoints if (match := _PASSED.match(endpoint))}
    for name in sorted(passed - set(sockets)):
        yield f"fingergw_sockets has no port for {name}, which a listener takes"
    for name in sorted(set(sockets) - passed):
        yield f"no listener takes {name} of fingergw_sockets: give one the endpoint systemd:domain=INET6:name={name}"
    taken: dict[str, str] = {}
    for name, place in sockets.items():
        match = _PLACE.fullmatch(str(place))
        if match is None or not 0 < int(match["port"]) < 65536:
            yield f"{name} in fingergw_sockets is {place!r}: give it a port, or an address and a port such as [::1]:79"
        elif str(place) in taken:
            yield f"{name} and {taken[str(place)]} in fingergw_sockets both have {place}: give each a port of its own"
        taken[str(place)] = name


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    """Return the tables in a list; what else there is, ``fingergw check`` complains of."""
    yield from (item for item in (value if isinstance(value, list) else ()) if isinstance(item, Mapping))


def answer_timeout(configuration: Mapping[str, Any]) -> float:
    """Return the seconds that an answer may take at the most."""
    given = [table.get("limits") for table in (configuration, *_tables(configuration.get("listeners")))]
    limits = (limit if isinstance(limit, Mapping) else {} for limit in given)
    seconds = [limit.get("answer_timeout", 15) for limit in limits]
    return max((float(each) for each in seconds if isinstance(each, (int, float))), default=15.0)


def with_settings(unit: str, settings: Mapping[str, Any]) -> str:
    """Return a service's unit with more settings at the end of its last section but ``[Install]``."""
    before, install, after = unit.partition("\n[Install]\n")
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    return "".join([before, *(["\n# From the inventory.\n", *lines] if lines else []), install, after])


def socket_units(sockets: Mapping[str, Any], shipped: str) -> dict[str, str]:
    """Return the units of sockets by the names of their files.

    :param sockets: what each one listens at, by the name of its listener.
    :param shipped: the unit of the listener ``public``.
    """
    return {
        f"fingergw-{name}.socket": re.sub(
            r"(?m)^ListenStream=.*$", lambda _, place=place: f"ListenStream={place}", shipped.replace("public", name)
        )
        for name, place in sockets.items()
    }


def readyz_url(configuration: Mapping[str, Any]) -> str:
    """Return the address at which a gateway tells its own host whether it is ready; empty where it does not."""
    admin: Mapping[str, Any] = next(_tables([configuration.get("admin")]), {})
    match = _ADMIN.fullmatch(str(admin.get("endpoint", "")))
    if match is None:
        return ""
    host = (match["interface"] or "127.0.0.1").replace("\\", "")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced
    return f"http://{f'[{host}]' if ':' in host else host}:{match['port']}/readyz"


def _merged_tables(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with another laid over it."""
    result = dict(low)
    for name, value in high.items():
        result[name] = _merged_values(low.get(name), value, name)
    return result


def _merged_values(low: Any, high: Any, key: str) -> Any:
    if isinstance(low, Mapping) and isinstance(high, Mapping):
        return _merged_tables(low, high)
    if _are_named(low) and _are_named(high):
        known = {item["name"]: item for item in low}
        changed = {item["name"]: _merged_tables(known[item["name"]], item) for item in high if item["name"] in known}
        fresh = [item for item in high if item["name"] not in known]
        kept = [changed.get(item["name"], item) for item in low]
        return [*fresh, *kept] if key == "routes" else [*kept, *fresh]
    return high


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value)


def _plain(value: Any, path: tuple[str, ...]) -> Any:
    """Return a value of Ansible's as one of Python's own."""
    key = ".".join(path) or "it"
    if isinstance(value, Mapping):
        return {str(name): _plain(item, (*path, str(name))) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, str(place))) for place, item in enumerate(value)]
    for kind in (bool, int, float, str):  # bool first: it is an int
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        raise AnsibleFilterError(f"{key} is empty: give it a value, or leave it out")
    raise AnsibleFilterError(
        f"{key} is a {type(value).__name__}: TOML takes texts, numbers, true, false, lists and tables"
    )


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by their names."""
        return {
            "to_toml": to_toml,
            "fingergw_merged": merged,
            "fingergw_texts": texts,
            "fingergw_mistakes": mistakes,
            "fingergw_answer_timeout": answer_timeout,
            "fingergw_with_settings": with_settings,
            "fingergw_readyz_url": readyz_url,
            "fingergw_socket_units": socket_units,
        }
