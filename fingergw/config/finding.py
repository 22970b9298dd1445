"""The configuration file to read, where perhaps none is named."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

PACKAGED: Final = Path(str(resources.files("fingergw") / "fingergw.toml"))
"""The configuration that comes with fingergw."""
_HERE: Final = Path("fingergw.toml")


class Place(NamedTuple):
    """Where a configuration file is.

    :param base: the folder that relative paths in it start from; None: the file's own.
    """

    path: Path
    base: Path | None = None

    def absolute(self) -> Place:
        """Return the same place for when the working folder is another."""
        return Place(self.path.absolute(), None if self.base is None else self.base.absolute())


def find(path: str | None, base: str | None = None) -> Place:
    """Find the configuration file.

    :param path: default: ``fingergw.toml`` in the working folder if there is one, even if it cannot be read; else the
        one that comes with fingergw, as if it were in the working folder.
    :param base: the folder that relative paths in it start from; default: the file's own.
    """
    named_base = None if base is None else Path(base)
    if path is not None:
        return Place(Path(path), named_base)
    try:
        os.lstat(_HERE)
    except FileNotFoundError:
        return Place(PACKAGED, named_base or Path())
    except OSError:  # it may be there: reading it says what is wrong
        pass
    return Place(_HERE, named_base)
