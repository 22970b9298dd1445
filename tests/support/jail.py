"""Gateways that have given up all they can: their root, their user, and the modules that they have not imported yet."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from tests.support.processes import ROOT

NOBODY = 65534
_AUDITED = """
import os, sys
told = int(sys.argv.pop(1))
is_armed = False
def hook(event, arguments):
    if is_armed and event == "import":  # there is one for what is in no sys.modules alone
        os.write(told, (arguments[0] + "\\n").encode())
sys.addaudithook(hook)
def arming(change):
    def changed(*arguments):
        global is_armed
        change(*arguments)
        is_armed = True
    return changed
os.chroot, os.setuid = arming(os.chroot), arming(os.setuid)
from fingergw.cli import main
sys.exit(main())
"""


def make_jail(root: Path, *programs: str) -> Path:
    """Make a folder that can be a root: with /dev/null and some programs, and the libraries that they need."""
    for program in programs:
        for file in [program, *re.findall(r"/\S+", subprocess.check_output(["ldd", program], text=True))]:
            (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file[1:])
    (root / "dev").mkdir(parents=True, exist_ok=True)
    os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (root / "dev/null").chmod(0o666)
    return root


class Imports:
    """A command that runs ``fingergw`` and records what it imports after it has given up its root or its user.

    :param folder: where to note that.
    :param is_hidden: whether root alone can read Python's library, fingergw's and all others.
    :param python: of an environment with more in it; not where these are hidden.
    """

    def __init__(self, folder: Path, *, is_hidden: bool, python: Path | str = sys.executable) -> None:
        self._log = folder / "imports"
        self.fd = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.command = [str(python)]
        if is_hidden:
            hidden = folder / "hidden"
            hidden.mkdir(mode=0o700)
            (hidden / "python").symlink_to(sys.base_prefix)
            (hidden / "site-packages").symlink_to(sysconfig.get_path("purelib"))
            (hidden / "fingergw").symlink_to(ROOT)
            home, path = f"PYTHONHOME={hidden}/python", f"PYTHONPATH={hidden}/fingergw:{hidden}/site-packages"
            self.command = ["env", home, path, f"{sys.base_prefix}/bin/python3"]
        self.command += ["-c", _AUDITED, str(self.fd)]

    def found(self) -> list[str]:
        """Return the modules that were imported too late, without those that do not exist at all."""
        os.close(self.fd)
        return [name for name in dict.fromkeys(self._log.read_text().splitlines()) if _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False
