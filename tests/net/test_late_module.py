"""Modules that are imported while queries are answered."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from fingergw.net import late_module
from fingergw.net.late_module import LateModule
from tests.support.waiting import reactor

FOUND = ModuleType("found")


class LateModuleTests(TestCase):
    """Imports of one module."""

    def setUp(self) -> None:
        self.threads: list[threading.Thread] = []
        self.results: list[Any] = [FOUND]
        self.goes_on = threading.Event()
        patched = patch.object(late_module, "import_module", self._import)
        patched.start()
        self.addCleanup(patched.stop)

    def _import(self, name: str) -> Any:
        assert name == "name"
        self.threads.append(threading.current_thread())
        assert self.goes_on.wait(60)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def test_once_for_all(self) -> None:
        """All who ask get the module of one import, which is in a thread, also those who ask after it."""
        await deferLater(reactor, 0)  # threads are started while it runs
        module = LateModule("name")
        asked = [module.get(reactor) for _ in range(3)]
        self.goes_on.set()
        assert await gatherResults(asked) == [FOUND] * 3
        assert await module.get(reactor) is FOUND
        assert len(self.threads) == 1
        assert self.threads != [threading.main_thread()]

    async def test_failure(self) -> None:
        """All who wait are told that it has failed; for who asks after that, it is tried again."""
        await deferLater(reactor, 0)  # threads are started while it runs
        module = LateModule("name")
        self.results.insert(0, ImportError("none"))
        asked = [module.get(reactor) for _ in range(2)]
        self.goes_on.set()
        for each in asked:
            await self.assertFailure(each, ImportError)
        assert await module.get(reactor) is FOUND

    async def test_cancelled(self) -> None:
        """Who waits no more does not keep others from the module."""
        await deferLater(reactor, 0)  # threads are started while it runs
        module = LateModule("name")
        gone, stays = module.get(reactor), module.get(reactor)
        gone.cancel()
        await self.assertFailure(gone, CancelledError)
        late = module.get(reactor)
        self.goes_on.set()
        assert await gatherResults([stays, late]) == [FOUND] * 2
        assert len(self.threads) == 1
