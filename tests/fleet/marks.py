"""What every test with hosts is marked with: ``pytestmark = HOSTS``."""

from __future__ import annotations

import pytest

from tests.fleet.hosts import missing

HOSTS = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.timeout(900),
]
