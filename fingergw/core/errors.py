"""The exceptions of fingergw; each docstring tells the operator what to do."""

from __future__ import annotations

from collections.abc import Sequence


class FingergwError(Exception):
    """Something is wrong; the message says what."""


class ConfigError(FingergwError):
    """Correct each mistake that is listed, then run ``fingergw check`` again.

    :param problems: a line for each mistake, ``file:line: key path: what was expected``; or a single mistake.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        problems = (problems,) if isinstance(problems, str) else problems
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    @property
    def count(self) -> str:
        """How many mistakes there are, in words."""
        number = len(self.problems)
        return "1 mistake" if number == 1 else f"{number} mistakes"

    @property
    def report(self) -> str:
        """How many mistakes there are, and each in a line of its own."""
        return f"{self.count}:\n{self}"


class ExpectedError(ValueError):
    """Write what is expected; the message says what that is.

    :param path: where in the value it belongs.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


class ListenError(FingergwError):
    """Free the address (stop the server that has it), or change the listener's endpoint."""


class PrivilegeError(FingergwError):
    """Name an ordinary user in ``[process]``, or start as a user with the rights that are needed."""


class BadQuery(FingergwError):
    """The line is not a finger query (RFC 1288 §2.3); the message goes to the log, never to the client."""


class BadProxyHeader(FingergwError):
    """Allow only proxies that send a PROXY header to connect to the listener; the message goes to the log."""
