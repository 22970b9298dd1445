"""Everything fingergw raises on purpose; each docstring tells the operator what to mend."""

from __future__ import annotations

from collections.abc import Sequence


class FingergwError(Exception):
    """Something is wrong that the message explains."""


class ConfigError(FingergwError):
    """Mend each line that is listed, then run ``fingergw check`` again.

    :param problems: one line a mistake, each ``file:line: key path: what was expected``; or a mistake by itself.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        problems = (problems,) if isinstance(problems, str) else problems
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ListenError(FingergwError):
    """Free the address (or stop the other server that has it), or change the listener's endpoint."""


class PrivilegeError(FingergwError):
    """Name an ordinary user in ``[process]``, or start as a user that may do what is asked for."""


class BadQuery(FingergwError):
    """The client sent no finger query (RFC 1288 §2.3); the message goes to the log, never to the client."""


class BadProxyHeader(FingergwError):
    """Let only proxies that send a PROXY header reach the listener; the message goes to the log."""
