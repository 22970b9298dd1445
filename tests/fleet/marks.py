"""The marks of every test with hosts: ``pytestmark = HOSTS``."""

from __future__ import annotations

import pytest

from tests.fleet.hosts import missing

HOSTS = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.timeout(900),
]
