from __future__ import annotations

import pytest

from listener.export import address

GOOD = {
    "s3://bucket": ("s3", "bucket", "", "s3://bucket"),
    "s3://bucket/a/b/": ("s3", "bucket", "a/b", "s3://bucket/a/b"),
    "gs://my-bucket/x=1": ("gs", "my-bucket", "x=1", "gs://my-bucket/x=1"),
    "az://container/p": ("az", "container", "p", "az://container/p"),
    "file:///srv/ex%20port": ("file", "", "/srv/ex port", "/srv/ex port"),
    "/srv/export": ("file", "", "/srv/export", "/srv/export"),
    "relative": ("file", "", "relative", "relative"),
}

BAD = {
    "": "names no target",
    "s3://user:secret@bucket/x": "a password",
    "s3://user@bucket/x": "a password",
    "s3://bucket/../x": "'..'",
    "s3://bucket/a//x": "an empty part",
    "s3://bucket/a?versionId=1": "a query",
    "s3://bucket/a#b": "a query or a fragment",
    "s3://bucket/a b": "other characters",
    "s3://": "names no bucket",
    "s3:///x": "names no bucket",
    "ftp://host/x": "unknown scheme 'ftp'",
    "https://host/x": "unknown scheme 'https'",
    "file://host/x": "another machine",
    "s3://[x": "is not a URL",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_targets(text: str, expected: tuple[str, ...]) -> None:
    found = address.parse(text)
    assert (*found, found.shown) == expected


@pytest.mark.parametrize(("text", "problem"), BAD.items())
def test_what_can_be_no_target_is_told_without_a_secret(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        address.parse(text)
    assert "secret" not in str(caught.value)
