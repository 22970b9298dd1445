"""What the tests of somebody else's backends share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.packages import environment
from tests.support.processes import ROOT


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment in which the phone book is installed beside fingergw."""
    return environment(tmp_path_factory.mktemp("installed"), ROOT / "tests" / "plugin" / "phonebook")
