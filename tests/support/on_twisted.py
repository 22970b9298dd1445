"""The gateway without its fast path: as a command, ``python -m tests.support.on_twisted``."""

from __future__ import annotations

import sys

from twisted.python.monkey import MonkeyPatcher

from fingergw.finger import service

_NAME = "is_available"


def never_available(_: object) -> bool:
    """Say of a listening socket that Twisted is to accept its connections."""
    return False


def leaving_to_twisted() -> MonkeyPatcher:
    """Return what has Twisted accept the connections of all sockets that this process binds while it is in place."""
    return MonkeyPatcher((service, _NAME, never_available))


def is_left_to_twisted() -> bool:
    """Tell whether this process leaves all connections to Twisted."""
    return vars(service)[_NAME] is never_available


if __name__ == "__main__":
    from fingergw.cli import main

    leaving_to_twisted().patch()
    sys.exit(main())
