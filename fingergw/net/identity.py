"""Whom the process becomes once it has bound."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import frozen

from fingergw.core.errors import PrivilegeError


@frozen
class Identity:
    """A user and its groups, who need not be in passwd.

    :param uid: the user's number; None to stay who it is.
    :param gid: the group's number; None to stay in it. Where there is a user there is a group.
    :param groups: the numbers of all groups, where one is given.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int | None, gid: int | None) -> Identity:
        """Look up a user's other groups, which a process in a chroot cannot any more."""
        groups: tuple[int, ...] = () if gid is None else (gid,)
        if uid is not None and gid is not None:
            with suppress(KeyError):
                groups = tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        return cls(uid, gid, groups)

    def assume(self) -> None:
        """Become it, for good.

        :raises PrivilegeError: the process may not.
        """
        try:
            if self.gid is not None:
                os.setgroups(self.groups)
                os.setgid(self.gid)
            if self.uid is not None:
                os.setuid(self.uid)
        except OSError as error:
            raise self._refused(error) from None

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Be it for what is done meanwhile, so that no more can be done than it may.

        :raises PrivilegeError: the process may not.
        """
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        try:
            try:
                if self.gid is not None:
                    os.setgroups(self.groups)
                    os.setegid(self.gid)
                if self.uid is not None:
                    os.seteuid(self.uid)
            except OSError as error:
                raise self._refused(error) from None
            yield
        finally:  # only what was done, as the rest would be refused again
            if os.geteuid() != uid:
                os.seteuid(uid)
            if os.getegid() != gid:
                os.setegid(gid)
            if os.getgroups() != groups:
                os.setgroups(groups)

    def _refused(self, error: OSError) -> PrivilegeError:
        return PrivilegeError(f"cannot become user {self.uid} and group {self.gid}: {error.strerror}")
