"""An Ansible module that gathers a release of the gateway: its wheel, and those of all that it needs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fingergw_bundle
short_description: Gather a release of fingergw on the controller
description:
  - Builds the wheel of fingergw, downloads those that it needs on a host and pip's, and packs them into one file.
  - What was gathered once comes from the cache, so that all hosts run the same libraries until fingergw changes.
  - In check mode too, as nothing but the cache is written.
options:
  package:
    description: What pip understands; a source tree, a wheel, or a requirement such as C(fingergw==0.1.0).
    type: str
    required: true
  extras:
    description: The extras of fingergw to install.
    type: list
    elements: str
    default: []
  constraints:
    description: A file of constraints for pip. Empty for none.
    type: str
    default: ""
  cache:
    description: A folder for what was gathered.
    type: path
    required: true
  platform:
    description: The host's Python C(version), C(machine) and C(libc), as M(fingergw_info) tells them.
    type: dict
    required: true
"""
RETURN = """
release:
  description: The version, and a digest of all the wheels.
  type: str
  returned: always
path:
  description: A tar file of wheels.
  type: str
  returned: always
"""


class BundleError(Exception):
    """A release cannot be gathered; the message is for the operator."""


def gather(
    package: str, extras: Sequence[str], constraints: str, cache: Path, platform: dict[str, Any]
) -> tuple[Path, bool]:
    """Return the file of a release, and whether it had to be made.

    :raises BundleError: pip failed, or there is nothing for such a host.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        wheels, wheel = Path(folder, "wheels"), Path(package)
        if not (wheel.suffix == ".whl" and wheel.is_file()):
            run_pip("wheel", "--no-deps", "--wheel-dir", str(wheels), package)
            (wheel,) = wheels.iterdir()
        limits = Path(constraints).read_bytes() if constraints else b""
        key = hashlib.sha256()
        for part in (_contents(wheel), limits, repr((sorted(extras), sorted(platform.items()))).encode()):
            key.update(hashlib.sha256(part).digest())
        place = cache / key.hexdigest()[:16]
        for known in sorted(place.glob("*.tar")):
            return known, False
        run_pip(
            "download",
            "--only-binary=:all:",
            f"--dest={wheels}",
            f"--python-version={platform['version']}",
            "--implementation=cp",
            *(f"--platform={name}" for name in _platforms(platform)),
            *([f"--constraint={constraints}"] if constraints else []),
            f"{wheel}[{','.join(extras)}]" if extras else str(wheel),
        )
        run_pip("download", "--no-deps", "--only-binary=:all:", f"--dest={folder}/pip", "pip")
        (pip,) = Path(folder, "pip").iterdir()
        version = wheel.name.split("-")[1]
        packed = Path(folder, f"{version}-{_digest(wheels)}.tar")
        with tarfile.open(packed, "w") as tar:
            for path in sorted(wheels.iterdir()):
                tar.add(path, path.name)
            tar.add(pip, "pip/pip.whl")  # hosts need not have one
        place.mkdir(exist_ok=True)
        return packed.rename(place / packed.name), True


def run_pip(*arguments: str) -> None:
    """Run pip on the controller.

    :raises BundleError: it failed; the message has what it printed.
    """
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if not line.startswith("WARNING: ")]
        raise BundleError("\n".join([f"pip {arguments[0]} failed on the controller:", *said]))


def _platforms(platform: dict[str, Any]) -> Iterator[str]:
    """Return the kinds of wheels that a host with glibc takes (PEP 600), the latest first.

    :raises BundleError: it has another one.
    """
    machine = platform["machine"]
    if not str(platform["libc"]).startswith("2."):
        raise BundleError("there are no wheels for a host without glibc: take one that runs Debian")
    for minor in range(int(str(platform["libc"]).split(".")[1]), 16, -1):
        yield f"manylinux_2_{minor}_{machine}"
    yield f"manylinux2014_{machine}"


def _contents(wheel: Path) -> bytes:
    """Return what differs for wheels that install something else, and not for one that was built with other tools."""
    with zipfile.ZipFile(wheel) as archive:
        files = [(file.filename, file.CRC) for file in archive.infolist()]
    return repr(
        sorted(file for file in files if not file[0].endswith((".dist-info/WHEEL", ".dist-info/RECORD")))
    ).encode()


def _digest(wheels: Path) -> str:
    """Return a few digits that are others for other wheels."""
    digest = hashlib.sha256()
    for path in sorted(wheels.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(_contents(path)).digest())
    return digest.hexdigest()[:8]


def main() -> None:
    """Gather a release."""
    module = AnsibleModule(
        {
            "package": {"type": "str", "required": True},
            "extras": {"type": "list", "elements": "str", "default": []},
            "constraints": {"type": "str", "default": ""},
            "cache": {"type": "path", "required": True},
            "platform": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    arguments = {**module.params, "cache": Path(module.params["cache"])}
    try:
        path, changed = gather(**arguments)
    except (BundleError, OSError) as error:
        module.fail_json(str(error))
    module.exit_json(changed=changed, path=str(path), release=path.stem)


if __name__ == "__main__":
    main()
