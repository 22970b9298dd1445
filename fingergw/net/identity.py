"""The user and group that the process runs as once it has bound its sockets."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal

from attrs import frozen

from fingergw.core.errors import PrivilegeError

MAX_ID: Final = 2**32 - 2
"""The largest number of a user or group; the last one stands for none."""


def number_of(kind: Literal["user", "group"], name: str) -> int:
    """Return the number of a user or group.

    :param name: its name on this machine, or a number, which need not be one that has a name.
    :raises LookupError: there is none; the message says so.
    """
    if re.fullmatch("[-+]?[0-9]+", name):
        if not re.fullmatch("[0-9]{1,10}", name) or int(name) > MAX_ID:
            raise LookupError(f'expected the name of a {kind}, or a number from 0 to {MAX_ID}, not "{name}"')
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # the latter for what no name can have
        raise LookupError(f'no {kind} "{name}" on this machine; create it, or name another') from None


@frozen
class Identity:
    """A user and its groups, which need not be in passwd.

    :param uid: None to keep the process's user.
    :param gid: None to keep the process's group; given if ``uid`` is.
    :param groups: all group ids, if ``gid`` is given.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int | None, gid: int | None) -> Identity:
        """Look up a user's supplementary groups; in a chroot it is too late for that."""
        groups: tuple[int, ...] = () if gid is None else (gid,)
        if uid is not None and gid is not None:
            with suppress(KeyError):
                groups = tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        return cls(uid, gid, groups)

    def assume(self) -> None:
        """Become this user and group for good.

        :raises PrivilegeError: the process may not.
        """
        self._become(os.setgid, os.setuid)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Be this user and group within a ``with`` block.

        :raises PrivilegeError: the process may not.
        """
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        try:
            self._become(os.setegid, os.seteuid)
            yield
        finally:  # only what has changed: the rest would be refused again
            if os.geteuid() != uid:
                os.seteuid(uid)
            if os.getegid() != gid:
                os.setegid(gid)
            if os.getgroups() != groups:
                os.setgroups(groups)

    def _become(self, set_gid: Callable[[int], None], set_uid: Callable[[int], None]) -> None:
        try:
            if self.gid is not None:
                os.setgroups(self.groups)
                set_gid(self.gid)
            if self.uid is not None:
                set_uid(self.uid)
        except OSError as error:
            who = " and ".join(f"{kind} {n}" for kind, n in (("user", self.uid), ("group", self.gid)) if n is not None)
            raise PrivilegeError(
                f"cannot become {who}: {error.strerror}; start as root, or set no other user or group"
            ) from None
