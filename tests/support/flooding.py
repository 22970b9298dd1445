"""What one client does to push out an answer of a cache that it shares with others."""

from __future__ import annotations

from fingergw.cache.shares import Owner

ONCALL = "oncall"
"""The key of the answer that is to stay."""
_FLOODER = "192.0.2.66"
_NETWORK = "2001:db8:0:66::/64"
_SOMEBODY, _OTHERS = "192.0.2.1", "192.0.2.2"


def floods(names: int) -> dict[str, list[tuple[str, Owner]]]:
    """Return who has asked for what, in this order, by what is special about it. Each ends with a flood.

    :param names: how many the flooder invents.
    """

    def flood(client: str = _FLOODER) -> list[tuple[str, Owner]]:
        return [(f"invented {number}", Owner("people", client)) for number in range(names)]

    def oncall(client: str, backend: str = "people") -> tuple[str, Owner]:
        return ONCALL, Owner(backend, client)

    few = [(f"colleague {number}", Owner("people", _SOMEBODY)) for number in range(5)]
    return {
        "another backend": [oncall(_SOMEBODY, "rota"), *flood()],
        "another backend, the flooder's own question": [oncall(_FLOODER, "rota"), *flood()],
        "the same backend": [oncall(_SOMEBODY), *flood()],
        "a network": [oncall(_SOMEBODY), *flood(_NETWORK)],
        "the flooder asks first": [oncall(_FLOODER), oncall(_SOMEBODY), *flood()],
        "the flooder asks amid the flood": [*flood()[:-9], oncall(_FLOODER), oncall(_SOMEBODY), *flood()[-9:]],
        "the flooder asks again": [oncall(_SOMEBODY), oncall(_FLOODER), *flood()],
        "the flooder asks again, and has less so far": [*few, oncall(_SOMEBODY), oncall(_FLOODER), *flood()],
        "the flooder asks between others": [oncall(_SOMEBODY), oncall(_FLOODER), oncall(_OTHERS), *few, *flood()],
    }
