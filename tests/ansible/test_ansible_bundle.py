"""How a release of the gateway is gathered on the controller, with real pip and wheels of a few lines."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_role import load, write_wheel

BUNDLE: Any = load("library/fingergw_bundle.py")
HERE = {"version": "3.11", "machine": "x86_64", "libc": "2.36"}


class Controller:
    """A controller with an index of a few wheels, one of which stands for the gateway's.

    :param folder: where all is.
    """

    def __init__(self, folder: Path) -> None:
        self.cache, self.index, self.built = (folder / name for name in ("cache", "index", "built"))
        self.index.mkdir()
        self.built.mkdir()
        for name, version in (("pip", "99.0"), ("library", "1.0"), ("library", "2.0")):
            write_wheel(self.index, name, version)
        self.wheel = write_wheel(self.built, "gateway", needs="library")

    def gather(self, *extras: str, package: str = "", constraints: str = "", **platform: str) -> tuple[Path, bool]:
        """Have a release gathered."""
        path, changed = BUNDLE.gather(package or str(self.wheel), extras, constraints, self.cache, {**HERE, **platform})
        return path, changed


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """Return a controller whose pip asks no network."""
    controller = Controller(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(controller.index))
    return controller


@pytest.fixture
def copying(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """Return a controller whose pip copies the wheel that it is given, where what pip finds does not matter."""

    def pip(command: str, *arguments: str) -> None:
        words = " ".join(arguments).replace("=", " ").split()
        folder = words[words.index("--wheel-dir" if command == "wheel" else "--dest") + 1]
        source = controller.index / "pip-99.0-py3-none-any.whl" if arguments[-1] == "pip" else controller.wheel
        Path(folder).mkdir(exist_ok=True)
        shutil.copy(source, folder)

    monkeypatch.setattr(BUNDLE, "run_pip", pip)
    return controller


def packed(release: Path) -> list[str]:
    """Return the names of the files in a release."""
    with tarfile.open(release) as tar:
        return sorted(tar.getnames())


class TestBundle:
    def test_gathered_once(self, controller: Controller, tmp_path: Path) -> None:
        """It has the wheel, what that needs within constraints, and pip; then it is cached, and takes no index."""
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("library<2\n")
        release, changed = controller.gather("more", constraints=str(constraints))
        assert changed
        assert packed(release) == ["gateway-1.0-py3-none-any.whl", "library-1.0-py3-none-any.whl", "pip/pip.whl"]
        assert release.stem.startswith("1.0-")

        for wheel in controller.index.iterdir():
            wheel.unlink()
        assert controller.gather("more", constraints=str(constraints)) == (release, False)
        assert list(controller.cache.iterdir()) == [release.parent]

    def test_what_built_it_does_not_matter(self, copying: Controller) -> None:
        """The same content has the same release, whatever tool wrote the wheel; other content has another."""
        release, _ = copying.gather()
        copying.wheel = write_wheel(copying.built, "gateway", needs="library", tool="another 1.2")
        assert copying.gather() == (release, False)
        copying.wheel = write_wheel(copying.built, "gateway", needs="library", text="# mended")
        other, changed = copying.gather()
        assert (changed, other.name != release.name) == (True, True)

    def test_what_does_matter(self, copying: Controller, tmp_path: Path) -> None:
        """Each combination of extras, constraints and platform has a bundle of its own."""
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("library<2\n")
        gathered = [
            copying.gather(),
            copying.gather("more"),
            copying.gather("more", constraints=str(constraints)),
            copying.gather("more", version="3.13"),
            copying.gather("more", machine="aarch64"),
        ]
        assert [changed for _, changed in gathered] == [True] * 5
        assert len({release.parent for release, _ in gathered}) == 5
        assert len({release.stem for release, _ in gathered}) == 1  # they came to the same wheels

    def test_the_order_of_extras_does_not_matter(self, copying: Controller) -> None:
        """It is one release for both orders."""
        release, _ = copying.gather("more", "other")
        assert copying.gather("other", "more") == (release, False)

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            ({"package": "gateway==7"}, "pip wheel failed on the controller:\n"),
            ({"platform": HERE, "index": False}, "pip download failed on the controller:\n"),
        ],
    )
    def test_failures_are_pips(self, controller: Controller, asked: dict[str, Any], says: str) -> None:
        """Pip's own message is reported, and the files downloaded so far are removed."""
        if not asked.get("index", True):
            controller.index.joinpath("library-2.0-py3-none-any.whl").unlink()
            controller.index.joinpath("library-1.0-py3-none-any.whl").unlink()
        with pytest.raises(BUNDLE.BundleError, match="No matching distribution found for") as failed:
            controller.gather("more", package=asked.get("package", ""))
        assert str(failed.value).startswith(says)
        assert list(controller.cache.iterdir()) == []

    def test_wheels_for_a_platform(self, controller: Controller, tmp_path: Path) -> None:
        """A host gets the newest wheel for its machine and its C library or an older one."""
        for version, platform in {
            "3.0": "manylinux2014_aarch64",
            "4.0": "manylinux_2_19_aarch64",
            "5.0": "manylinux_2_20_aarch64",
            "6.0": "manylinux_2_19_x86_64",
        }.items():
            write_wheel(controller.index, "library", version, platform=platform)
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("library<4\n")
        host = {"machine": "aarch64", "libc": "2.19"}

        newest, _ = controller.gather("more", **host)
        older, _ = controller.gather("more", constraints=str(constraints), **host)

        assert "library-4.0-py3-none-manylinux_2_19_aarch64.whl" in packed(newest)
        assert "library-3.0-py3-none-manylinux2014_aarch64.whl" in packed(older)
