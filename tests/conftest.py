"""Rules for the whole suite."""

from __future__ import annotations

import os

import hypothesis
import pytest

# A busy machine is no failure; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("fingergw", deadline=None)
hypothesis.settings.load_profile("fingergw")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of CI's in which something was skipped: CI has all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("CI") and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
