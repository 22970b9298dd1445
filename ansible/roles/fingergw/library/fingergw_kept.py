"""An Ansible module that keeps what a gateway has in force on a host, and puts it back."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fingergw_kept
short_description: Keep what fingergw has in force, or put it back
description:
  - Configuration, data, secrets, units and the choice of a release, in a folder that only root can look into.
  - Of the configuration's folder, only what the role has written.
options:
  state:
    description: C(kept) keeps it as it is now, C(restored) makes it what was kept.
    type: str
    choices: [kept, restored]
    required: true
  live:
    description: What is there, with the C(names) of files beside C(fingergw.toml). M(fingergw_info) tells it.
    type: dict
    default: {}
"""

ROOT = Path("/")
KEPT = Path("opt/fingergw/kept")
CURRENT = Path("opt/fingergw/current")
CONFIGURATION = Path("etc/fingergw")
UNITS = Path("etc/systemd/system")


def keep(root: Path, live: Mapping[str, Any]) -> None:
    """Keep what is in force.

    :param root: what the host's files are below.
    :param live: what is noted with it; its ``names`` are those of the files beside the configuration.
    :raises OSError: there is no room.
    """
    folder = root / KEPT
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / "new"  # moved when it is whole, so that a loss of power leaves the old or the new one
    with tarfile.open(fresh, "w") as tar:
        for name in [*_present(root, live.get("names", ())), CURRENT]:
            tar.add(root / name, str(name), recursive=False)
    fresh.replace(folder / "state.tar")
    fresh.write_text(json.dumps(live), "utf-8")
    fresh.replace(folder / "live.json")


def restore(root: Path, live: Mapping[str, Any]) -> None:
    """Put back what was kept.

    :param root: what the host's files are below.
    :param live: what there is instead; its ``names`` are those of the files beside the configuration.
    :raises OSError: nothing was kept, or it cannot be written.
    :raises tarfile.TarError: what was kept cannot be read; nothing has changed.
    """
    with tarfile.open(root / KEPT / "state.tar") as tar:
        tar.extraction_filter = lambda member, path: member  # whose files these are is part of them
        members = tar.getmembers()
        link = tar.getmember(str(CURRENT))
        for name in _present(root, live.get("names", ())):
            root.joinpath(name).unlink()
        tar.extractall(root, [member for member in members if member is not link], numeric_owner=True)
    fresh = root / KEPT / "current"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(link.linkname)
    fresh.replace(root / CURRENT)


def _present(root: Path, names: Iterable[str]) -> list[Path]:
    """Return those of the gateway's files that there are.

    :param names: of the files beside the configuration.
    """
    files = [CONFIGURATION / name for name in ("fingergw.toml", *names)]
    units = [path.relative_to(root) for path in root.joinpath(UNITS).glob("fingergw-*.socket")]
    return [
        path
        for path in [*files, *units, UNITS / "fingergw.service", Path("etc/logrotate.d/fingergw")]
        if root.joinpath(path).exists()
    ]


def main() -> None:
    """Keep it, or put it back."""
    module = AnsibleModule(
        {
            "state": {"type": "str", "choices": ["kept", "restored"], "required": True},
            "live": {"type": "dict", "default": {}},
        },
        supports_check_mode=False,
    )
    try:
        if module.params["state"] == "kept":
            keep(ROOT, module.params["live"])
        else:
            restore(ROOT, module.params["live"])
    except (OSError, KeyError, tarfile.TarError) as error:
        module.fail_json(f"what is in force could not be {module.params['state']}: {error}")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
