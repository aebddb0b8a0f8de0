"""URLs are shown without what nobody is to read."""

from __future__ import annotations

import pytest

from listener.notify.addresses import shown


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:secret@host:6379/0?x=secret", "redis://host:6379/0"),
        ("nats://secret@host", "nats://host"),
        ("tls://[::1]:4222", "tls://[::1]:4222"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, told: str) -> None:
    assert shown(url) == told
