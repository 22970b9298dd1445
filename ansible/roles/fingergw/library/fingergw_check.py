"""An Ansible module that checks a configuration on a host before anything there changes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fingergw_check
short_description: Check a configuration of fingergw
description:
  - Lays the configuration and its files out in a temporary folder, and has C(fingergw check) look at them.
  - Leaves nothing behind, in check mode or not.
  - Passes on its warnings, which do not make it fail.
options:
  program:
    description: The command that is C(fingergw), and its arguments.
    type: list
    elements: str
    required: true
  wheels:
    description: A folder of wheels that the program is unpacked from, as it is not installed yet. Empty if it is.
    type: str
    default: ""
  configuration:
    description: The text of C(fingergw.toml).
    type: str
    required: true
  files:
    description: The texts of the files beside it, by name.
    type: dict
    default: {}
  secrets:
    description: The texts of the files in the folder C(secrets) beside it, by name.
    type: dict
    default: {}
"""


WARNING = "fingergw: warning: "
# Folders that fingergw.service makes as it starts: systemd.exec(5), RUNTIME_DIRECTORY
FOLDERS = {
    "RUNTIME_DIRECTORY": "/run/fingergw",
    "STATE_DIRECTORY": "/var/lib/fingergw",
    "LOGS_DIRECTORY": "/var/log/fingergw",
}


def check(
    program: Sequence[str],
    wheels: str,
    configuration: str,
    files: Mapping[str, str],
    secrets: Mapping[str, str],
    warn: Callable[[str], object] = lambda _: None,
) -> str:
    """Return the mistakes; empty if there are none.

    :param warn: is called with each warning, if there are no mistakes.
    :raises OSError: the program cannot be run, or there is no room.
    """
    with tempfile.TemporaryDirectory(prefix="fingergw-check-") as folder:
        base = Path(folder, "etc")
        base.joinpath("secrets").mkdir(parents=True)
        for name, text in {**files, **{f"secrets/{name}": text for name, text in secrets.items()}}.items():
            path = base / name
            path.touch(0o400)
            path.chmod(0o600)
            path.write_text(text, "utf-8")
            path.chmod(0o400)
        environ = {**os.environ, **FOLDERS}
        if wheels:
            environ["PYTHONPATH"] = environ["PYTHONDONTWRITEBYTECODE"] = str(Path(folder, "packages"))
            for wheel in Path(wheels).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(environ["PYTHONPATH"])
        path = base / "fingergw.toml"
        path.write_text(configuration, "utf-8")
        run = subprocess.run(
            [*program, "check", "--config", path.name, "--base-dir", str(base)],
            cwd=base,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        said = "\n".join(text for text in (run.stdout.strip(), run.stderr.strip()) if text)
        said = said.replace(str(base), "/etc/fingergw")
        if run.returncode:
            return said or f"fingergw check exited with {run.returncode}"
        for line in said.splitlines():
            if line.startswith(WARNING):
                warn(line.removeprefix(WARNING))
        return ""


def main() -> None:
    """Check a configuration."""
    module = AnsibleModule(
        {
            "program": {"type": "list", "elements": "str", "required": True},
            "wheels": {"type": "str", "default": ""},
            "configuration": {"type": "str", "required": True},
            "files": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        mistakes = check(**module.params, warn=module.warn)
    except (OSError, zipfile.BadZipFile) as error:
        module.fail_json(f"the configuration could not be checked: {error}")
    if mistakes:
        module.fail_json(f"The configuration has mistakes, and nothing was changed:\n{mistakes}")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
