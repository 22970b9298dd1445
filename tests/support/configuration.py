"""Parts of configurations that several tests have."""

from __future__ import annotations


def listener(port: int | str = 0, *, name: str = "", more: str = "") -> str:
    """Return the table of a listener on the loopback.

    :param port: 0 for any that is free.
    :param name: if it has one of its own.
    :param more: other lines of the table.
    """
    named = f'name = "{name}"\n' if name else ""
    return f'[[listeners]]\n{named}endpoint = "tcp:{port}:interface=127.0.0.1"\n{more}\n'.replace("\n\n", "\n")


def one_backend(settings: str, *, name: str = "b", port: int | str = 0) -> str:
    """Return a configuration in which one backend answers every name.

    :param settings: the lines of the backend's table.
    :param name: the backend's.
    :param port: the listener's.
    """
    route = f'[[routes]]\npattern = "*"\nbackends = ["{name}"]\n'
    return f"{listener(port)}{route}[backends.{name}]\n{settings}\n"


LISTENER = listener()
# routes and backends that answer the name "hello"
HELLO = """
[[routes]]
user = "hello"
backends = ["map"]
[backends.map]
type = "static"
entries = { hello = "Hello" }
"""
# what clients are told where the file says nothing else
REFUSALS = {
    "no_such_user": "No such user",
    "internal_error": "Internal error in server",
    "list_denied": "Finger online user list denied",
    "forward_denied": "Finger forwarding service denied",
    "busy": "Too many queries, try again later",
    "bad_query": "Invalid query",
}
