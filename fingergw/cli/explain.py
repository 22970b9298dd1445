"""``fingergw explain``."""

from __future__ import annotations

import json
import os
import signal
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from fingergw.app import build, signals
from fingergw.app.clock import use_monotonic_clock
from fingergw.app.environment import Environment
from fingergw.app.parts.parts import Parts
from fingergw.cli.configuration import read
from fingergw.cli.explanation import Explanation, Said, Step, text_of
from fingergw.cli.options import Parser, add_base_dir, add_config
from fingergw.cli.output import complain, show
from fingergw.cli.reasons import explain, first_line, local_address
from fingergw.config import model, tables
from fingergw.config.problems import to_error, unknown
from fingergw.config.store_address import RedisAddress, parse_store
from fingergw.core.addresses import parse_address
from fingergw.core.decide import Asked, Decision, decide
from fingergw.core.outcome import Answered, Backend, Cached, Failed, Outcome, outcome_of
from fingergw.core.query import Query
from fingergw.core.rules import Rules
from fingergw.core.settings import changed
from fingergw.core.text import to_wire, truncate
from fingergw.listen.endpoints import server
from fingergw.net.waiting import within

_EX_USAGE = 2
_BROKEN_OFF = 128 + signal.SIGINT  # or SIGTERM; Twisted would exit with 0, as if a backend had answered


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``fingergw explain``."""
    parser.usage = "fingergw explain [options] QUERY"
    parser.description = (
        "Show which route and backends answer a query, and why. Binds no ports; without --ask, contacts no servers.\n"
        "Exits with 0 if a route matches or the query is forwarded (with --ask: if a backend answers), 1 if not,\n"
        "2 for wrong usage, 78 if the file has mistakes."
    )
    parser.add_argument("query", metavar="QUERY", help="the line that a client would send; '' for the empty query")
    add_config(parser)
    add_base_dir(parser)
    parser.hint = "; put quotes around a query of several words"
    parser.add_argument("--listener", metavar="NAME", help="the listener that gets the query [default: the first]")
    client = 'the client: an IP address, or "unix" [default: 127.0.0.1, ::1 or unix, as the listener is]'
    parser.add_argument("--from", dest="client", metavar="IP", type=_client, help=client)
    parser.add_argument("--ask", action="store_true", help="ask the backends, too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _client(text: str) -> str:
    if text == "unix":
        return text
    address = parse_address(text)
    if address is None:
        raise ArgumentTypeError(f'expected an IP address, or "unix", not "{text}"')
    return str(address)


def run(arguments: Namespace) -> int:
    """Explain."""
    from twisted.internet import reactor

    configuration, problems = read(arguments.config, arguments.base_dir)
    build.raise_if_problems(configuration, problems, reactor, configuration.process)
    names = [listener.name for listener in configuration.listeners]
    name = names[0] if arguments.listener is None else arguments.listener
    if name not in names:
        complain(unknown(name, names, "listener"))
        return _EX_USAGE
    if arguments.ask:
        use_monotonic_clock(reactor)
        configuration = _without_files(configuration)
    environment = Environment(reactor)
    run_as = tables.Process() if arguments.ask else configuration.process  # this process's root stays as it is
    parts, problems = build.build(configuration, None, environment, run_as, opens=arguments.ask)
    if problems:
        raise to_error(problems, configuration.source)
    rules = next(listener.rules for _, listener in parts.listeners if listener.rules.listener == name)
    endpoint = next(each.endpoint for each in configuration.listeners if each.name == name)
    usual = usual_client(endpoint)
    client = arguments.client or usual
    if (client == "unix") != (usual == "unix"):
        kind = "a unix socket, whose clients have no address" if usual == "unix" else "no unix socket"
        complain(f'listener "{name}" is {kind}; leave out --from {client}')
        return _EX_USAGE
    sent = os.fsencode(arguments.query)
    decision = decided(rules, sent, client, endpoint)
    explained = explain(configuration, rules, sent, client, decision)
    if not arguments.ask:
        return _print(explained, as_json=arguments.json)

    codes: list[int] = []

    async def asked(reactor: Any) -> None:
        await deferLater(reactor, 0)  # until it runs it cannot be stopped
        signals.add(partial(reactor.callFromThread, reactor.stop), signal.SIGINT)
        signals.release(signal.SIGINT)
        asking = Deferred.fromCoroutine(with_answers(explained, decision, rules, parts, environment))
        reactor.addSystemEventTrigger("before", "shutdown", asking.cancel)  # which ends programs, too
        with suppress(CancelledError):
            codes.append(_print(await asking, as_json=arguments.json))

    signals.hold(signal.SIGINT)  # it must end what is started from here on
    try:
        react(asked)
    except SystemExit as ended:
        return codes[0] if codes else int(ended.code or _BROKEN_OFF)
    return 0


def usual_client(endpoint: str) -> str:
    """Return a client that a listener may well have, of the family of its socket."""
    described = server(endpoint)
    if described.socket.startswith(("unix:", "systemd:domain=UNIX")):
        return "unix"
    is_ipv6 = described.interface is not None and described.interface.version == 6
    return "::1" if is_ipv6 or described.socket.startswith("systemd:domain=INET6") else "127.0.0.1"


def _print(explained: Explanation, *, as_json: bool) -> int:
    text = json.dumps(explained.as_json(), indent=2) + "\n" if as_json else explained.as_text()
    is_found = bool(explained.route) and explained.outcome in (None, "answered")
    return show(text, for_people=True) or (0 if is_found else 1)


def decided(rules: Rules, sent: bytes, client: str, endpoint: str) -> Decision | None:
    """Decide as the gateway does; None if the client may not connect.

    :param rules: the listener's.
    :param sent: what the client sends, without the line's end.
    :param endpoint: the listener's endpoint string.
    """
    may_connect = rules.lets_in(client) or (client == "unix" and rules.trusted_proxies is None)
    return decide(rules, first_line(rules, sent), client, local_address(endpoint), time.time()) if may_connect else None


def _without_files(configuration: model.Config) -> model.Config:
    """Return a configuration without a store in a file, which would then be this user's, not the gateway's."""
    store = parse_store(configuration.cache.store)
    if store is None or isinstance(store, RedisAddress):
        return configuration
    return changed(configuration, cache=changed(configuration.cache, store="memory"))


async def ask(explained: Explanation, asked: Asked, rules: Rules, clock: IReactorTime) -> Explanation:
    """Ask a chain as the gateway does, and tell what each of its backends says.

    :param rules: the listener's.
    """
    steps: list[Step] = []
    seconds, cancelled = clock.seconds, asked.chain.cancelled
    recorded = tuple((name, _Recorded(name, each, cancelled, seconds, steps)) for name, each in asked.chain.backends)
    asking = evolve(asked.chain, backends=recorded).answer(asked.query)
    result = await within(rules.limits.answer_timeout, clock, Deferred.fromCoroutine(asking))
    outcome = result if isinstance(result, Failed) else result.outcome
    notes = explained.notes
    if isinstance(result, Failed):
        notes += (f"answer_timeout was over: {result.reason}",)
    if isinstance(outcome, Answered):
        wire, limit = to_wire(outcome.text, rules.charset), rules.limits.max_answer_bytes
        explained, answer = evolve(explained, outcome="answered"), truncate(wire, limit)
        if len(wire) > len(answer):
            notes += (f"the answer is cut to max_answer_bytes, {limit}",)
    else:
        refusal = asked.refusal(outcome)
        explained, answer = evolve(explained, outcome=refusal), rules.refusals[refusal]
    return evolve(explained, steps=tuple(steps), answer=text_of(answer), notes=notes)


async def with_answers(
    explained: Explanation, decision: Decision | None, rules: Rules, parts: Parts, environment: Environment
) -> Explanation:
    """Ask the chain that a query goes to, if it goes to one, and close all that this has opened.

    :param rules: the listener's.
    :param parts: what the rules are part of.
    """
    store = parts.store if isinstance(decision, Asked) else None
    if store is not None:
        store.start()
    try:
        if not isinstance(decision, Asked):
            return explained
        explained = await ask(explained, decision, rules, environment.reactor)
        await deferLater(environment.reactor, 0)  # the cache answers first, and keeps the answer then
        return evolve(explained, notes=(*explained.notes, *_notes(explained, parts)))
    finally:
        await DeferredList([maybeDeferred(close) for close in parts.closers(keeping=None)])
        await environment.workers.stop()
        if store is not None:
            await store.stop()


def _notes(explained: Explanation, parts: Parts) -> list[str]:
    notes, steps = [], explained.steps or ()
    if any(step.cache for step in steps):
        if parts.store is None:
            notes.append("cache: the gateway's own cache is not used; this one started empty")
        elif not parts.store.is_open:
            notes.append("cache: the store is unavailable; the cache in memory here started empty")
    breakers = [(f'"{name}"', backend.breaker) for name, backend in parts.backends.items()]
    breakers += [(f'the host "{host}"', breaker) for (host, _), breaker in parts.hosts.items()]
    for whom, breaker in breakers:
        if breaker is not None and breaker.counted:
            limits = breaker.settings
            notes.append(
                f"breaker: after {limits.failures} such failures in a row the gateway does not ask {whom} for "
                f"{limits.pause:g} s; its log says when that begins and ends"
            )
    user = parts.configuration.process.user
    programs = {name for name, backend in parts.backends.items() if backend.checked.programs}
    if user is not None and explained.forwarding is None and any(step.backend in programs for step in steps):
        notes.append(f'programs run as you here, and in the gateway as "{user}"')
    return notes


@frozen(eq=False, repr=False)
class _Recorded:
    """A backend, and what it says.

    :param steps: what it says is added there.
    """

    name: str
    backend: Backend
    cancelled: tuple[type[BaseException], ...]
    seconds: Callable[[], float]
    steps: list[Step]

    async def answer(self, query: Query) -> Outcome:
        """Answer as the backend does."""
        began_at = self.seconds()
        try:
            outcome = await outcome_of(self.backend.answer(query), self.cancelled)
        except self.cancelled:
            self._add("given_up", began_at)
            raise
        if isinstance(outcome, Failed):
            error = "" if outcome.error is None else f": {outcome.error}"
            self._add("failed", began_at, outcome.cache, outcome.reason + error)
        else:
            self._add("answered" if isinstance(outcome, Answered) else "missing", began_at, outcome.cache)
        return outcome

    def _add(self, said: Said, began_at: float, cache: Cached = "", why: str = "") -> None:
        milliseconds = round((self.seconds() - began_at) * 1000, 3)
        self.steps.append(Step(self.name, said, why, milliseconds, cache))
