"""An Ansible module that writes the files of a folder, all in one run."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fingergw_write
short_description: Write files of a folder
description: As ansible.builtin.copy does with content, but with one run for any number of files.
options:
  folder:
    description: Where they are.
    type: path
    required: true
  folder_group:
    description: The folder's group, if it is made here.
    type: str
    default: root
  folder_mode:
    description: The folder's mode, if it is made here; one without a mode must be there, and is left as it is.
    type: str
    default: ""
  contents:
    description: The texts of the files, by name.
    type: dict
    required: true
  owner:
    description: Whose files these are.
    type: str
    default: root
  group:
    description: Their group.
    type: str
    default: root
  mode:
    description: Their mode.
    type: str
    default: "0644"
"""


def bring(path: Path, text: str | None, owner: str, group: str, mode: str, *, check: bool) -> dict[str, Any] | None:
    """Make a file, or a folder, what it should be.

    :param text: what is in the file; None for a folder.
    :param mode: in four octal digits.
    :param check: only look.
    :return: what was there and what is now, for Ansible to show; None if there was nothing to do.
    :raises OSError: it cannot be written, or something else has its place; a file is then what it was.
    """
    there = _attributes(path)
    wanted = {"owner": owner, "group": group, "mode": mode}
    had = path.read_bytes() if there and text is not None else b""
    differs = not there or (text is not None and had != text.encode())
    if not differs and there == wanted:
        return None
    if not check:
        if text is None:
            path.mkdir(mode=0o700, exist_ok=True)
            _own(path, owner, group, mode)
        elif differs:
            _replace(path, text, owner, group, mode)
        else:
            _own(path, owner, group, mode)
    if text is None or not differs:
        diff: dict[str, Any] = {"before": there, "after": wanted}
    else:
        diff = {"before": had.decode(errors="replace"), "after": text}
    return {**diff, "before_header": str(path), "after_header": str(path)}


def _attributes(path: Path) -> dict[str, str]:
    """Return whose something is, and its mode; nothing if it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return {}
    try:
        names = {"owner": pwd.getpwuid(found.st_uid).pw_name, "group": grp.getgrgid(found.st_gid).gr_name}
    except KeyError:  # of somebody who is gone
        names = {"owner": str(found.st_uid), "group": str(found.st_gid)}
    return {**names, "mode": f"{found.st_mode & 0o7777:04o}"}


def _replace(path: Path, text: str, owner: str, group: str, mode: str) -> None:
    """Put a new file in the place of another, which stays whole until then, also when the power fails."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a run that was broken off
    try:
        fresh.touch(0o600, exist_ok=False)
        with fresh.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        _own(fresh, owner, group, mode)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _own(path: Path, owner: str, group: str, mode: str) -> None:
    try:
        shutil.chown(path, owner, group)
    except LookupError as error:
        raise OSError(str(error)) from None
    path.chmod(int(mode, 8))


def main() -> None:
    """Write the files."""
    module = AnsibleModule(
        {
            "folder": {"type": "path", "required": True},
            "folder_group": {"type": "str", "default": "root"},
            "folder_mode": {"type": "str", "default": ""},
            "contents": {"type": "dict", "required": True},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0644"},
        },
        supports_check_mode=True,
    )
    asked, check = module.params, module.check_mode
    folder, own = Path(asked["folder"]), (asked["owner"], asked["group"], asked["mode"])
    diffs = []
    path = folder
    try:
        if asked["folder_mode"]:
            diffs.append(bring(folder, None, "root", asked["folder_group"], asked["folder_mode"], check=check))
        for name, text in asked["contents"].items():
            path = folder / name
            diffs.append(bring(path, text, *own, check=check))
    except OSError as error:
        module.fail_json(f"{path} could not be written: {error.strerror or error}")
    done = [diff for diff in diffs if diff is not None]
    module.exit_json(changed=bool(done), diff=done)


if __name__ == "__main__":
    main()
