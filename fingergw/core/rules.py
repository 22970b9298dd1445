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

Refusal: TypeAlias = Literal["no_such_user", "internal_error", "list_denied", "forward_denied", "busy", "bad_query"]
"""What a client is told in the place of an answer, by its name in ``[answers]``."""


@frozen
class Limits:
    """What one connection, and all of a listener's together, may use; times in seconds."""

    max_query_bytes: int
    query_timeout: float
    answer_timeout: float
    max_answer_bytes: int
    max_connections: int
    max_connections_per_client: int
    max_waiting: int
    rate: Rate | None


@frozen(eq=False)
class Rules:
    """A listener's rules.

    :param listener: its name.
    :param router: its routes.
    :param refusals: what clients are told, as it is sent.
    :param allow: who may ask; None for everyone.
    :param deny: who may not, and wins; None for nobody.
    :param forwarding: the other hosts that it forwards to.
    :param decoy_delay: None for a listener that is none; else the seconds after which a decoy answers.
    :param trusted_proxies: who is believed where only proxies connect; None for a listener without.
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
        """Tell whether a client, told by its address, may ask here."""
        if self.deny is not None and client in self.deny:
            return False
        return self.allow is None or client in self.allow
