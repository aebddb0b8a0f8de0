"""Whom the stage notify is to tell: what cannot work is said before it begins."""

from __future__ import annotations

import sys

import pytest

from listener.errors import ConfigError
from listener.notify.options import NotifyOptions
from listener.notify.service import targets_of


@pytest.mark.parametrize(
    ("library", "options", "flag"),
    [
        ("nats", NotifyOptions(nats=("nats://x",)), "--nats"),
        ("celery", NotifyOptions(celery="redis://x"), "--celery"),
    ],
)
def test_without_the_extra_one_line_says_so(
    library: str, options: NotifyOptions, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError) as caught:
        targets_of(options)
    assert f"{flag} needs the extra 'chris'" in str(caught.value)
    assert caught.value.exit_code == 2
