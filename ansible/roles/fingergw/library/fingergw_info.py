"""An Ansible module that tells what of the gateway is on a host."""

from __future__ import annotations

import grp
import json
import pwd
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fingergw_info
short_description: Tell what of fingergw is on a host
description: Reads, and changes nothing.
options:
  python:
    description: The Python that fingergw runs with, there.
    type: path
    required: true
"""
RETURN = """
python:
  description: Its version, the machine's kind and the version of its C library, as the names of wheels have them.
  type: dict
  returned: always
release:
  description: The release that is in force, or an empty string.
  type: str
  returned: always
releases:
  description: All that are installed whole, the latest first.
  type: list
  returned: always
live:
  description: What the role put in force last, as it noted it.
  type: dict
  returned: always
has_new_secrets:
  description: Whether secrets were written after that was noted, by a run that was broken off.
  type: bool
  returned: always
sockets:
  description: The names of the listeners that have a unit.
  type: list
  returned: always
enabled:
  description: The units that systemd starts with the machine.
  type: list
  returned: always
has_user:
  description: Whether there are a user and a group fingergw.
  type: bool
  returned: always
"""

INSTALLED = Path("/opt/fingergw")
NOTE = INSTALLED / "kept/live.json"
SECRETS = Path("/etc/fingergw/secrets")
UNITS = Path("/etc/systemd/system")
_PLATFORM = """
import json, platform, sys
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "machine": platform.machine(),
    "libc": platform.libc_ver()[1],
}))
"""


def read_platform(python: str) -> dict[str, str]:
    """Return what wheels a Python takes.

    :raises OSError: it cannot be run.
    """
    run = subprocess.run([python, "-I", "-c", _PLATFORM], capture_output=True, text=True, check=False)
    try:
        platform: dict[str, str] = json.loads(run.stdout)
    except ValueError:
        raise OSError(run.stderr.strip() or "it does not do what a Python does") from None
    return platform


def read_live() -> dict[str, Any]:
    """Return what is in force, or nothing if that is not known."""
    try:
        live = json.loads(NOTE.read_text())
    except (OSError, ValueError):
        return {}
    return live if isinstance(live, dict) else {}


def has_new_secrets() -> bool:
    """Tell whether secrets were written after what is in force was noted; the note has nothing of what is in them."""
    try:
        noted = NOTE.stat().st_mtime
    except OSError:
        return False
    return any(path.stat().st_mtime > noted for path in SECRETS.glob("*"))


def has_user() -> bool:
    """Tell whether the user and the group are there that the role makes."""
    try:
        return pwd.getpwnam("fingergw").pw_gid == grp.getgrnam("fingergw").gr_gid
    except KeyError:
        return False


def main() -> None:
    """Tell what there is."""
    module = AnsibleModule({"python": {"type": "path", "required": True}}, supports_check_mode=True)
    try:
        platform = read_platform(module.params["python"])
    except OSError as error:
        module.fail_json(
            f"{module.params['python']} cannot be run: {error}. "
            "Install Python 3.11 or later there, or name one by fingergw_python"
        )
    if tuple(map(int, platform["version"].split("."))) < (3, 11):
        module.fail_json(
            f"{module.params['python']} is Python {platform['version']}, and fingergw takes 3.11 or later: "
            "name another one by fingergw_python"
        )
    current = INSTALLED / "current"
    complete = sorted(INSTALLED.glob("releases/*/complete"), key=lambda path: path.stat().st_mtime, reverse=True)
    module.exit_json(
        changed=False,
        python=platform,
        release=current.resolve().name if current.joinpath("complete").exists() else "",
        releases=[path.parent.name for path in complete],
        live=read_live(),
        has_new_secrets=has_new_secrets(),
        sockets=sorted(path.name[len("fingergw-") : -len(".socket")] for path in UNITS.glob("fingergw-*.socket")),
        enabled=sorted({path.name for path in UNITS.glob("*.wants/fingergw*")}),
        has_user=has_user(),
    )


if __name__ == "__main__":
    main()
