"""What a configuration names on this machine: files, users, groups; and what is wrong with them."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import OpenSSL.crypto
from attrs import define, field
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates

from fingergw.config.problems import Problem

_PEM_END = "-----END CERTIFICATE-----"


@define
class Machine:
    """The machine that a configuration is for.

    :param base: the folder that relative paths are relative to.
    :param problems: what was found wrong so far.
    """

    base: Path
    problems: list[Problem] = field(factory=list)

    def check(self, *path: str | int, text: str | None, lookup: Callable[[str], object]) -> None:
        """Look whether this machine knows a user or group."""
        try:
            if text is not None:
                lookup(text)
        except KeyError:
            self.problems.append(Problem(path, f'no {path[-1]} "{text}" on this machine'))

    def read(self, path: Path, *where: str | int, is_secret: bool = False) -> str | None:
        """Return what is in a file; None if it cannot be read, which is noted.

        :param is_secret: others may neither read nor write it, which is noted too. Its group may: a file that is root's
            and that the gateway's group can read is how it usually is.
        """
        try:
            with path.open(encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode  # of what was opened, wherever the path leads by now
                if is_secret and mode & (stat.S_IROTH | stat.S_IWOTH):
                    can = "read" if mode & stat.S_IROTH else "write"
                    why = f"others can {can} it; run: chmod o= {shlex.quote(str(path))}"
                    self.problems.append(Problem(where, why))
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            self.problems.append(Problem(where, f"{path}: {why}"))
            return None

    def secret(self, path: Path, what: str, *where: str | int) -> str:
        """Return the one secret in a file that is nobody else's; empty if there is none. What is wrong is noted.

        :param what: what it is, for the message.
        """
        text = self.read(path, *where, is_secret=True)
        secret = "" if text is None else text.strip()
        if text is not None and not (secret and secret.isascii() and secret.isprintable()):
            self.problems.append(Problem(where, f"expected a file that holds one {what}"))
        return secret

    def trust(self, ca_file: Path | None, *where: str | int) -> Any:
        """Return whom to trust for TLS: the authorities in a file, or those of the system."""
        bundle = None if ca_file is None else self.read(ca_file, *where)
        if bundle is None:
            return platformTrust()
        certificates = _certificates(bundle)
        if not certificates:
            self.problems.append(Problem(where, "expected one or more certificates in PEM form"))
        return trustRootFromCertificates(certificates)


def _certificates(bundle: str) -> list[Certificate]:
    """Return the certificates in a PEM file's text; none if one of them is not what it should be."""
    try:
        return [Certificate.loadPEM((pem + _PEM_END).encode()) for pem in bundle.split(_PEM_END)[:-1]]
    except OpenSSL.crypto.Error:
        return []
