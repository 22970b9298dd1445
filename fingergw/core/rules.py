"""A listener's rules: who may ask, where a query goes, and within what limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import frozen

from fingergw.core.addresses import Networks
from fingergw.core.admission import Rate
from fingergw.core.chain import Chain
from fingergw.core.forwarding import Forwarding
from fingergw.core.routing import Router
from fingergw.core.setting_types import Bytes, Count, Seconds
from fingergw.core.settings import setting, settings

Refusal: TypeAlias = Literal["no_such_user", "internal_error", "list_denied", "forward_denied", "busy", "bad_query"]
"""What a client is told instead of an answer: a key of ``[answers]``."""


@settings
class Limits:
    """What clients may cost."""

    max_query_bytes: Bytes = setting("How long the query line may be.", default=512)
    query_timeout: Seconds = setting("Seconds to receive the query line.", default=10)
    answer_timeout: Seconds = setting(
        "Seconds from the query line to the last byte of the answer. A chain of backends that is not done by then is "
        "given up, so let each of them have less.",
        default=15,
    )
    max_answer_bytes: Bytes = setting("An answer is cut to this.", default=65536)
    max_connections: Count = setting(
        "Connections at once, for each listener; further ones get the answer busy.", default=1000
    )
    max_connections_per_client: Count = setting(
        "Connections at once of one client, which is an IPv4 address or an IPv6 /64.", default=20
    )
    max_waiting: Count = setting(
        "Queries that wait for a backend at once; if there is one more, the client with the most of them gets the "
        "answer busy for one.",
        default=500,
    )
    rate: Rate | None = setting(
        "How often one client may send queries; further ones get the answer busy. Default: no limit", default=None
    )


@frozen(eq=False, repr=False)
class Rules:
    """A listener's rules.

    :param listener: its name.
    :param router: its routes.
    :param refusals: the bytes that are sent for each.
    :param allow: the clients that may connect; None for all.
    :param deny: the clients that may not, even if allowed; None for none.
    :param forwarding: the hosts that queries are forwarded to.
    :param decoy_delay: seconds until a decoy answers; None if the listener is no decoy.
    :param trusted_proxies: the proxies that may connect and name the client; None if clients connect themselves.
    """

    listener: str
    router: Router[Chain]
    limits: Limits
    refusals: Mapping[Refusal, bytes]
    charset: str
    case_sensitive: bool
    allow: Networks | None
    deny: Networks | None
    forwarding: Forwarding[Chain]
    decoy_delay: float | None
    trusted_proxies: Networks | None

    def lets_in(self, client: str) -> bool:
        """Tell whether a client may connect.

        :param client: its address as text.
        """
        if self.deny is not None and client in self.deny:
            return False
        return self.allow is None or client in self.allow
