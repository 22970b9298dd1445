"""Rules for the whole suite."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest

# A busy machine is no failure; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("fingergw", deadline=None)
hypothesis.settings.load_profile("fingergw")


# What is built for many tests once: one worker has them all, and begins with the most.
_TOGETHER = ("tests/fleet/test_hosts.py", "tests/fleet/", "tests/ansible/test_ansible_rendered.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Have one worker run all the tests that share what is expensive to make, and each the others as they come."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((name for name in _TOGETHER if nodeid.startswith(name)), nodeid)

    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of CI's in which something was skipped: CI has all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("CI") and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
