"""PURE. Proxies in front: whom a request comes from, as far as they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


class Networks:
    """Networks of IP addresses, by their texts; an address is in them or not."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address; one of IPv4 that is mapped into IPv6 as what it is."""
    try:
        found = ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def client(peer: str, field: str, proxies: Networks) -> str:
    """Return the address that a request comes from: that of the peer or, if it is a proxy, the last one in its
    X-Forwarded-For `field` that is none; "" where that is no address.
    """
    if peer not in proxies:
        return peer
    for text in reversed([one for one in map(str.strip, field.split(",")) if one]):
        if text not in proxies:
            found = _address(text)
            return str(found) if found else ""
    return peer
