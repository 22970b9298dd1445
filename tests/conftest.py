"""Rules for the whole suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import hypothesis
import pytest

from tests.support.transports import without_fast_path

# A busy machine is no failure; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("fingergw", deadline=None)
hypothesis.settings.load_profile("fingergw")

# Where the suite is started with "&" or nohup, these are ignored, and would be in all programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# What is made once for many tests: one worker has all of these tests.
_TOGETHER = (
    "tests/fleet/test_hosts.py",
    "tests/fleet/test_front.py",
    "tests/fleet/",
    "tests/ansible/test_ansible_rendered.py",
)
# It starts with what another worker makes first for the rest of the fleet's.
_LATER = "tests/fleet/test_front.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, and have none wait for what another worker still has to make."""
    later = [item for item in items if item.nodeid.startswith(_LATER)]
    first = [item for item in items if item.nodeid.startswith(_TOGETHER) and item not in later]
    others = [item for item in items if not item.nodeid.startswith(_TOGETHER)]
    third = len(others) // 3
    items[:] = first + others[:third] + later + others[third:]


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test over the transport that its parameter names; tests.support.transports gives it one."""
    with nullcontext() if request.param == "fast" else without_fast_path():
        yield request.param


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one worker more than there are cores: many tests wait, for a time-out or for another process."""
    return len(os.sched_getaffinity(0)) + 1


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
