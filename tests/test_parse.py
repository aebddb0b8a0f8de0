"""Texts of options become values, and what is wrong is said in words that tell what to do."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener import parse

Read = Callable[[str], Any]

WHOLE, SECONDS, SIZE = parse.whole(1, 256), parse.seconds(0.05), parse.size(1024)
CHOICE = parse.choice("batch", "each", "none")

GOOD: list[tuple[Read, str, Any]] = [
    (parse.directory, "/a/b", "/a/b"),
    (parse.directory, "/a/../b/", "/b"),
    (parse.directory, "here", os.path.abspath("here")),
    (WHOLE, "1", 1),
    (WHOLE, "256", 256),
    (SECONDS, "0.05", 0.05),
    (SECONDS, "2", 2.0),
    (SIZE, "1024", 1024),
    (SIZE, "64MiB", 64 * 2**20),
    (SIZE, "1GB", 10**9),
    (SIZE, "1 gib", 2**30),
    (SIZE, "1.5k", 1500),
    (SIZE, " 2Ti ", 2 * 2**40),
    (CHOICE, "each", "each"),
    *((parse.boolean, word, True) for word in ("1", "true", "YES", " on ")),
    *((parse.boolean, word, False) for word in ("0", "False", "no", "off")),
    (parse.mode, "640", 0o640),
    (parse.mode, "0644", 0o644),
    (parse.mode, "0o2775", 0o2775),
    (parse.address, "off", "off"),
    (parse.address, "127.0.0.1:0", "127.0.0.1:0"),
    (parse.address, ":9464", "0.0.0.0:9464"),
    (parse.address, "[::1]:9464", "[::1]:9464"),
    (parse.address, "example:65535", "example:65535"),
    (parse.template, "%PatientID/%StudyDate", "%PatientID/%StudyDate"),
    (parse.template, "%_pad|5,0_SeriesNumber", "%_pad|5,0_SeriesNumber"),
    *((parse.url, text, text) for text in ("", "http://host", "http://a.b./", "https://[::1]:8443/a?b=c")),
    (parse.words, "notify 'a b'", "notify 'a b'"),
    (parse.file, "/a/../b", "/b"),
    (parse.page, "off", "off"),
    (parse.page, "true", "on"),
    (parse.page, "PHI", "phi"),
]

BAD: list[tuple[Read, str, str]] = [
    (parse.directory, "", "is empty"),
    (parse.directory, "  ", "is empty"),
    (parse.directory, "a\0b", "NUL"),
    (WHOLE, "two", "is not a whole number; give one from 1 to 256"),
    (WHOLE, "1.0", "is not a whole number"),
    (WHOLE, "", "is not a whole number"),
    (WHOLE, "0", "is out of range"),
    (WHOLE, "257", "is out of range"),
    (WHOLE, "9" * 5000, "is not a whole number"),
    (SECONDS, "soon", "is not a number of seconds"),
    (SECONDS, "0", "is out of range"),
    (SECONDS, "-1", "is out of range"),
    (SECONDS, "nan", "is out of range"),
    (SECONDS, "inf", "is out of range"),
    (SIZE, "1", "is too small; give 1024 bytes or more"),
    (SIZE, "-1", "is not a size"),
    (SIZE, "1 xib", "is not a size"),
    (SIZE, "lots", "is not a size"),
    (SIZE, "9" * 400, "is too large"),
    (CHOICE, "Each", "is not known; give one of batch, each, none"),
    (CHOICE, "", "is not known"),
    (parse.boolean, "maybe", "is neither on nor off"),
    (parse.boolean, "", "is neither on nor off"),
    (parse.mode, "rw-r--r--", "is not an octal mode"),
    (parse.mode, "888", "is not an octal mode"),
    (parse.mode, "77777", "is not an octal mode"),
    (parse.mode, "7", "is not an octal mode"),
    (parse.address, "9464", "is not ADDR:PORT"),
    (parse.address, "host:", "is not ADDR:PORT"),
    (parse.address, "host:65536", "is not ADDR:PORT"),
    (parse.address, "host:http", "is not ADDR:PORT"),
    (parse.address, "host:\u0663", "is not ADDR:PORT"),
    (parse.address, "::1:9464", "without brackets"),
    (parse.template, "", "is not a relative path"),
    (parse.template, "/%PatientID", "is not a relative path"),
    (parse.template, "%PatientID/", "is not a relative path"),
    (parse.template, "%PatientID//x", "is not a relative path"),
    (parse.template, "%NoSuchKeyword", "is not a template"),
    (parse.template, "%_pad|x,0_PatientID", "is not a template"),
    *(
        (parse.url, text, "is not a URL")
        for text in (
            "host",
            "ftp://x/",
            "http:///x",
            "http://[::1",
            "http://h:x/",
            "http://h:99999/",
            "http://h:0/",
            "http://h/a b",
            "http://h/\x07",
            "http://\u00e4/",
            "http://a..b/",
            f"http://{'a' * 64}.b/",
        )
    ),
    (parse.url, "http://user:secret@host/", "holds a name or a password"),
    (parse.words, "a 'b", "cannot be split into words"),
    (parse.words, "a\0b", "names no program"),
    (parse.words, "  ", "names no program"),
    (parse.file, " ", "names no file"),
    (parse.page, "perhaps", "is neither on, off nor phi"),
]


@pytest.mark.parametrize(("read", "text", "value"), GOOD)
def test_what_a_text_means(read: Read, text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text", "said"), BAD)
def test_what_is_wrong_is_said_in_one_line_with_what_to_do(read: Read, text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(text)
    words = str(caught.value)
    assert said in words
    assert "\n" not in words
    assert ";" in words or "is not a template" in words


@pytest.mark.parametrize(
    "read",
    [
        WHOLE,
        SECONDS,
        SIZE,
        CHOICE,
        parse.boolean,
        parse.mode,
        parse.ae_title,
        parse.address,
        parse.template,
        parse.directory,
        parse.url,
        parse.words,
        parse.file,
        parse.page,
    ],
)
@given(text=st.text(st.characters(codec=None), max_size=30) | st.from_regex(r"[0-9.eE+\-]{1,20}", fullmatch=True))
def test_any_text_is_a_value_or_a_value_error(read: Read, text: str) -> None:
    """No text whatever ends in another exception: a traceback is no answer to a typing error."""
    with suppress(ValueError):
        read(text)


@given(st.integers(1024, 2**60))
def test_a_size_in_bytes_means_itself(number: int) -> None:
    assert math.isclose(SIZE(str(number)), number, rel_tol=1e-15)


@given(st.integers(1, 256))
def test_a_whole_number_means_itself(number: int) -> None:
    assert WHOLE(str(number)) == number


@given(st.integers(0, 0o7777))
def test_octal_digits_are_permission_bits(bits: int) -> None:
    assert parse.mode(f"{bits:03o}") == parse.mode(f"0o{bits:04o}") == bits


@pytest.mark.parametrize("text", ["CT 1", " CT1 ", "A", "X" * 16, "a:b/c"])
def test_an_ae_title(text: str) -> None:
    assert parse.ae_title(text) == text.strip()


@pytest.mark.parametrize("text", ["", "   ", "X" * 17, "A\\B", "A\nB", "\u00c4"])
def test_no_ae_title(text: str) -> None:
    with pytest.raises(ValueError, match="AE title"):
        parse.ae_title(text)
