"""Why the gateway decides as it does about a query. Nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import evolve

from fingergw.cli.explanation import Client, Explanation, Forwarded, Link, ListenerAsked, QueryAsked, Tried, text_of
from fingergw.config import model, tables
from fingergw.config.lines import line_numbers
from fingergw.core.addresses import Network, parse_address
from fingergw.core.chain import Chain
from fingergw.core.decide import Asked, Decision, read
from fingergw.core.forwarding import Denied, Forwarding, normal_host
from fingergw.core.query import Query, take_line
from fingergw.core.routing import Mismatch, Route
from fingergw.core.rules import Rules
from fingergw.core.text import printable
from fingergw.listen.endpoints import server

_MAX_SHOWN = 5  # items of a list


def explain(
    configuration: model.Config, rules: Rules, sent: bytes, client: str, decision: Decision | None
) -> Explanation:
    """Explain a decision about a query.

    :param configuration: what the rules were made from.
    :param rules: the listener's.
    :param sent: what the client sends, without the line's end.
    :param client: its address as text, ``"unix"`` on a unix socket.
    :param decision: None if the client may not connect.
    """
    lines = line_numbers(configuration.source.text) if configuration.source else {}
    place, listener = next(each for each in enumerate(configuration.listeners) if each[1].name == rules.listener)
    is_decoy = rules.decoy_delay is not None
    explained = Explanation(
        query=QueryAsked(sent.decode(errors="backslashreplace")),
        listener=ListenerAsked(
            name=listener.name,
            line=lines.get(("listeners", place)),
            endpoint=listener.endpoint,
            decoy=is_decoy,
            trusted_proxies=None if rules.trusted_proxies is None else tuple(map(str, listener.trusted_proxies)),
        ),
        client=Client(client, decision is not None, _admission(rules, listener, client)),
    )
    if decision is None:
        return evolve(explained, outcome="denied")
    if isinstance(decision, Asked):
        explained = evolve(explained, route=decision.route)
    else:
        answer = text_of(rules.refusals[decision.refusal])
        explained = evolve(explained, outcome=decision.refusal, answer=answer)
    query = decision.query
    if query is None:
        why = "" if is_decoy or isinstance(decision, Asked) else decision.why
        return evolve(explained, query=evolve(explained.query, invalid=why))
    hosts = read(rules, first_line(rules, sent), client).hosts
    asked = evolve(explained.query, user=query.user, hosts=hosts, verbose=query.verbose)
    explained = evolve(explained, query=asked)
    if local := hosts[len(query.hosts) :]:
        why = "in [forwarding] local_names: it was decided what to do about the rest of the query"
        explained = evolve(explained, notes=(f"{_some(local)} {'are' if local[1:] else 'is'} {why}",))
    if query.hosts:
        return _forwarded(explained, configuration, rules, query, lines.get)
    chain = decision.chain if isinstance(decision, Asked) else None
    return _routed(explained, configuration, rules, query, chain, lines.get)


def first_line(rules: Rules, sent: bytes) -> bytes:
    """Return the line that a listener takes of what a client sends before it ends the line."""
    return take_line(sent + b"\r\n", rules.limits.max_query_bytes) or b""


def local_address(endpoint: str) -> str:
    """Return the address that an endpoint is bound to; empty for any that the machine has, and for none."""
    address = server(endpoint).interface
    return "" if address is None or address.is_unspecified else str(address)


def _admission(rules: Rules, listener: tables.Listener, client: str) -> str:
    if client == "unix" and rules.trusted_proxies is None:
        return "it is on this machine, and in no network"
    if rules.deny is not None and client in rules.deny:
        return f"in {_network_of(client, listener.deny)} of deny"
    if listener.allow is None:
        return "everyone may ask"
    network = _network_of(client, listener.allow)
    return "in no network of allow" if network is None else f"in {network} of allow"


def _routed(
    explained: Explanation,
    configuration: model.Config,
    rules: Rules,
    query: Query,
    chain: Chain | None,
    line_of: Callable[[tuple[str | int, ...]], int | None],
) -> Explanation:
    """Tell why each route matches or does not, up to the first that does.

    :param chain: the chain that is asked, by which the route is known: two routes may have the same name.
    """
    matched: list[tables.Route] = []

    def tried() -> Iterator[Tried]:
        own = iter(rules.router.routes)
        for place, settings in enumerate(configuration.routes):
            line = line_of(("routes", place))
            if settings.listeners is not None and rules.listener not in settings.listeners:
                why = f"not asked here, only at {_some(settings.listeners)}"
                yield Tried(settings.name, line, matches=False, why=why)
            elif (route := next(own)).target is chain:
                matched.append(settings)
                why = _match(settings) + _cost(route)
                yield Tried(settings.name, line, matches=True, why=why, groups=dict(query.groups))
                return
            else:
                why = _mismatch(settings, query, route.mismatch(query)) + _cost(route)
                yield Tried(settings.name, line, matches=False, why=why)

    def link(name: str) -> Link:
        backend = configuration.backends[name]
        return Link(name, line_of(("backends", name)), backend.type, cached=backend.cache is not None)

    explained = evolve(explained, routes=tuple(tried()))
    for settings in matched:
        explained = evolve(explained, chain=tuple(map(link, settings.backends)), fallthrough=settings.fallthrough)
    return explained


def _forwarded(
    explained: Explanation,
    configuration: model.Config,
    rules: Rules,
    query: Query,
    line_of: Callable[[tuple[str | int, ...]], int | None],
) -> Explanation:
    """Tell why a query with a host is forwarded or not, and where."""
    settings, host = configuration.forwarding, normal_host(query.hosts[-1])
    own_address = local_address(explained.listener.endpoint)
    if not explained.route:
        # first what no setting could change
        open_to_all = Forwarding(dict.fromkeys(query.hosts, ""), rules.forwarding.own_names, max_hops=len(query.hosts))
        never = open_to_all.denied(query, own_address)
        if never is not None:
            why = _denied(settings, query, never)
        elif not settings.allow:
            why = "[forwarding] allow has no host"
        elif settings.listeners is not None and rules.listener not in settings.listeners:
            why = f"not from here, only from {_some(settings.listeners)}"
        else:
            denied = rules.forwarding.denied(query, own_address)
            why = "" if denied is None else _denied(settings, query, denied)
        return evolve(explained, forwarding=Forwarded(host, allowed=False, why=why))
    key, endpoint = next(each for each in settings.allow.items() if normal_host(each[0]) == host)
    notes: tuple[str, ...] = ()
    if not own_address and any(parse_address(each.strip("[]")) for each in query.hosts):
        notes = ("it is not forwarded if one of the hosts is the address that the client connected to",)
    return evolve(
        explained,
        forwarding=Forwarded(host, allowed=True, why="[forwarding] allow has the host", endpoint=endpoint),
        chain=(Link(host, line_of(("forwarding", "allow", key)), "finger", cached=False),),
        notes=(*explained.notes, *notes),
    )


def _network_of(client: str, networks: Iterable[Network]) -> Network | None:
    address = parse_address(client)
    return next((network for network in networks if address is not None and address in network), None)


def _some(items: Iterable[object]) -> str:
    shown = [f'"{printable(each)}"' if isinstance(each, str) else str(each) for each in items]
    more = len(shown) - _MAX_SHOWN
    return ", ".join(shown[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _match(route: tables.Route) -> str:
    if route.index:
        return "the query is empty"
    if route.user is not None:
        return f'user is "{route.user}"'
    if route.users is not None:
        return "user is one of users"
    return f'user matches the pattern "{route.pattern}"' if route.pattern else f'user matches the regex "{route.regex}"'


def _mismatch(route: tables.Route, query: Query, mismatch: Mismatch | None) -> str:
    if mismatch == "client":
        return f"{_match(route)}, but not for {query.client}, only for clients in {_some(route.clients or ())}"
    if route.index:
        return "only for the empty query"
    if not query.user:
        return "not for the empty query"
    if route.user is not None:
        return f'user is not "{route.user}"'
    if route.users is not None:
        return f"user is none of {_some(route.users)}"
    kind, text = ("pattern", route.pattern) if route.pattern is not None else ("regex", route.regex)
    return f'user does not match the {kind} "{text}"'


def _cost(route: Route[Chain]) -> str:
    """Tell of a route that costs time for every name."""
    if route.match is None or route.match.literals:
        return ""
    return "; it has no literal text, so it is tried for every name"


def _denied(settings: tables.Forwarding, query: Query, denied: Denied) -> str:
    if denied.why == "client":
        return f"not for {query.client}, only for clients in {_some(settings.clients or ())}"
    if denied.why == "hops":
        return f"{len(query.hosts)} hosts are more than max_hops, {settings.max_hops}"
    host = printable(denied.host)
    if denied.why == "target":
        return f'"{host}" is not in [forwarding] allow'
    if denied.why == "own":
        return f'"{host}" is this gateway itself'
    return f'"{host}" is a loopback' if denied.why == "loopback" else f'"{host}" is not a plain host name or address'
