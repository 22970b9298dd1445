"""The warnings about a configuration: what it cannot mean, and what goes wrong later."""

from __future__ import annotations

from collections.abc import Sequence

from fingergw.config import model, tables
from fingergw.config.problems import Problem
from fingergw.config.warnings.configuration import find_warnings
from fingergw.core.settings import KeyPath
from fingergw.listen.binding import Socket
from fingergw.listen.taken import bound_to, taken_twice

_TWO_FAMILIES = "; a tcp6: endpoint takes IPv4 too, unless its interface is an address"


def warnings_of(
    configuration: model.Config, sockets: Sequence[tuple[tables.Listener, Socket]], admin: Socket | None
) -> list[Problem]:
    """Return what a whole configuration cannot mean.

    :param sockets: those of the listeners.
    :param admin: that of ``[admin]``; None without one.
    """
    found = find_warnings(configuration)
    bound = [socket for _, socket in sockets]
    places = {listener.name: place for place, listener in enumerate(configuration.listeners)}
    paths: list[KeyPath] = [("listeners", places[listener.name], "endpoint") for listener, _ in sockets]
    if admin is not None:
        bound.append(admin)
        paths.append(("admin", "endpoint"))
    strings = [socket.place[0] for socket in bound]
    for place, earlier, need in taken_twice(strings):
        versions = {bound_to(strings[each])[1].version for each in (place, earlier)}
        families = _TWO_FAMILIES if len(versions) == 2 else ""
        why = f"listeners[{paths[earlier][1]}] takes {need} already, so the gateway cannot start{families}"
        found.append(Problem(paths[place], f"{why}; choose another, or remove one of the two"))
    return found
