"""A module that is imported while queries are answered, as a start need not wait for it."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from fingergw.net.threads import in_thread


@define(eq=False, repr=False)
class LateModule:
    """Import a module once for all who need it, in a thread."""

    name: str
    _module: Any = field(init=False, default=None)
    _is_under_way: bool = field(init=False, default=False)
    _waiting: dict[Deferred[Any], None] = field(init=False, factory=dict)

    def get(self, reactor: Any) -> Deferred[Any]:
        """Return the module, imported if it is not.

        :return: fails with whatever the import raises; who asks after that has it tried again.
        """
        if self._module is not None:
            return succeed(self._module)
        found: Deferred[Any] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[found] = None
        if not self._is_under_way:
            self._is_under_way = True
            in_thread(reactor, partial(import_module, self.name)).addBoth(self._imported)
        return found

    def _imported(self, result: Any) -> None:
        if not isinstance(result, Failure):
            self._module = result
        self._is_under_way = False
        waiting, self._waiting = self._waiting, {}  # first, as one of them may ask again at once
        for each in waiting:
            if not each.called:  # or another has cancelled it just now
                each.callback(result)
