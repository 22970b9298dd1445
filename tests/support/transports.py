"""Tests that run over both transports of TCP connections: the gateway's fast path, and Twisted's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from twisted.trial.unittest import TestCase

from tests.support.on_twisted import leaving_to_twisted

Tests = TypeVar("Tests")


def on_both_transports(tests: Tests) -> Tests:
    """Run a test, or all tests of a class, over the fast path and then over Twisted's transport.

    To a TestCase's module a class is added for the latter; all else gets a parameter. Gateways in processes that tests
    start with tests.support.processes or tests.support.target have the same transport.
    """
    if isinstance(tests, type) and issubclass(tests, TestCase):
        _add_on_twisted(tests)
        return tests
    with_parameter: Any = pytest.mark.parametrize("transport", ["fast", "twisted"], indirect=True)
    return pytest.mark.usefixtures("transport")(with_parameter(tests))  # type: ignore[no-any-return]


class _OnTwisted(TestCase):
    """Goes before a class of tests."""

    def setUp(self) -> None:
        patcher = leaving_to_twisted()
        patcher.patch()
        self.addCleanup(patcher.restore)
        super().setUp()


def _add_on_twisted(tests: type[TestCase]) -> None:
    name = f"{tests.__name__}OnTwisted"
    named = {"__doc__": tests.__doc__, "__module__": tests.__module__}
    setattr(sys.modules[tests.__module__], name, type(name, (_OnTwisted, tests), named))


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Leave connections to Twisted, in this process and in those that are started meanwhile."""
    patcher = leaving_to_twisted()
    patcher.patch()
    try:
        yield
    finally:
        patcher.restore()
