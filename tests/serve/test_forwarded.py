"""Whom a request comes from, behind proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.serve.forwarded import Networks, client

PROXIES = Networks(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "field", "wanted"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "198.51.100.7, 10.9.9.9 ,", "198.51.100.7"),
        ("::ffff:10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ("fd00::1", "[2001:db8::1]", "2001:db8::1"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "10.4.4.4", "10.1.2.3"),
        ("10.1.2.3", "127.0.0.1, unknown", ""),
        ("", "127.0.0.1", ""),
    ],
)
def test_only_a_proxy_is_believed(peer: str, field: str, wanted: str) -> None:
    assert client(peer, field, PROXIES) == wanted


@given(st.text(max_size=60))
def test_whatever_a_stranger_says_it_is_the_stranger(field: str) -> None:
    assert client("192.0.2.1", field, PROXIES) == "192.0.2.1"


@given(st.text(max_size=60), st.ip_addresses(v=4).filter(lambda one: str(one) not in PROXIES))
def test_what_stands_before_the_last_address_does_not_count(before: str, address: object) -> None:
    assert client("10.0.0.1", f"{before}, {address}", PROXIES) == str(address)
