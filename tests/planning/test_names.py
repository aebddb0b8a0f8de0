"""Names on disk: safe whatever a peer sends, and the predecessors' wherever theirs were safe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from listener.planning.names import (
    MAX_COMPONENT,
    OWN,
    document_name,
    former_document_name,
    is_temporary,
    printable,
    sanitize,
    short_hash,
)

#: pypx's packPath_resolve, word for word.
PYPX = re.compile(r"[^A-Za-z0-9\.\-]+")

anything = st.text(st.characters(codec=None), max_size=300)
hostile = st.sampled_from(["", ".", "..", "/", "../../etc/passwd", "\0", ".\0.", OWN, "a/b", "A_B", "CON", "-rf", "~"])
texts = anything | hostile | st.from_regex(r"[A-Za-z0-9._\-]{0,260}", fullmatch=True)

SANITIZED = {
    "Doe^Jane": "Doe_Jane",
    "SAG MPRAGE 220 FOV": "SAG_MPRAGE_220_FOV",
    "O'Brien^Ján=日本": "O_Brien_J_n_",
    "../../x": ".._.._x",
    " P3": "_P3",
    "": "_",
    ".": "_",
    "..": "__",
    "...": "___",
    "\0": "_",
    ".\0.": "__",
    "a\0b": "ab",
    "a\n\x1b[31mb": "a_31mb",
    OWN: "_listener",
    "x" * 200: "x" * 200,
}


@pytest.mark.parametrize(("text", "name"), SANITIZED.items())
def test_a_component(text: str, name: str) -> None:
    assert sanitize(text) == name


@given(texts, st.integers(20, MAX_COMPONENT))
def test_a_component_is_never_special_never_empty_and_never_too_long(text: str, limit: int) -> None:
    name = sanitize(text, limit)
    assert re.fullmatch(r"[A-Za-z0-9._\-]+", name)
    assert name.strip(".")
    assert name != OWN
    assert len(name) <= limit


@given(texts)
def test_a_component_stays_as_it_is_when_it_is_sanitised_again(text: str) -> None:
    """But for dots alone, whose underscores are one run the second time."""
    assume(set(text.replace("\0", "")) - {"."})
    assert sanitize(sanitize(text)) == sanitize(text)


@given(texts)
def test_ordinary_text_gets_the_name_that_pypx_gives(text: str) -> None:
    theirs = PYPX.sub("_", text)
    assume("\0" not in text and 0 < len(theirs) <= MAX_COMPONENT and theirs.strip(".") and theirs != OWN)
    assert sanitize(text) == theirs


@given(
    st.lists(
        st.text("ab", min_size=MAX_COMPONENT + 1, max_size=MAX_COMPONENT + 60), min_size=2, max_size=2, unique=True
    )
)
def test_long_texts_that_begin_alike_keep_different_names(pair: list[str]) -> None:
    first, second = (sanitize("x" * MAX_COMPONENT + text) for text in pair)
    assert first != second
    assert len(first) == len(second) == MAX_COMPONENT


@given(st.lists(texts, min_size=2, max_size=8, unique=True))
def test_different_texts_never_share_a_document(several: list[str]) -> None:
    assert len({document_name(text) for text in several}) == len(several)


@given(texts)
def test_a_document_s_name_is_safe_and_visible(text: str) -> None:
    name = document_name(text)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set(UNSAFE)
    assert not name.startswith(".")
    assert 0 < len(name) <= MAX_COMPONENT


#: What docs/layouts-and-logs.md says of names of documents, beside characters that are not printable or not ASCII.
UNSAFE = '/:*?"<>|'

DOCUMENTS = {"A.1": "A.1", "A.2": "A.2", "A_B": "A_B", "P-0001": "P-0001", " P 3": " P 3", "x" * 200: "x" * 200}
DOCUMENTS |= {f"A{one}B": f"A{one}B" for one in map(chr, range(0x20, 0x7F)) if one not in UNSAFE}


@pytest.mark.parametrize(("text", "name"), DOCUMENTS.items())
def test_what_is_safe_names_its_document_itself(text: str, name: str) -> None:
    assert document_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", ".x", "\\/", "x" * 201, "ä", *(f"a{one}b" for one in (*UNSAFE, *map(chr, (*range(32), 127))))],
)
def test_what_is_not_safe_gets_a_hash_of_the_raw_text(text: str) -> None:
    assert document_name(text).endswith(f"-{short_hash(text)}")


@pytest.mark.parametrize(
    ("text", "former"),
    [
        ("A:B", "A:B"),
        ('a?"<>|*', 'a?"<>|*'),
        ("A B", ""),
        ("A/B", ""),
        (".:", ""),
        ("a\nb", ""),
        ("", ""),
        (":" * 201, ""),
    ],
)
def test_where_earlier_versions_have_a_document(text: str, former: str) -> None:
    assert former_document_name(text) == former


def test_the_text_about_documents_names_the_same_characters() -> None:
    text = (Path(__file__).parents[2] / "docs" / "layouts-and-logs.md").read_text()
    assert f"none of `{' '.join(UNSAFE)}`" in text


def test_hashes_stay_the_same_for_ever() -> None:
    """Names on disk hold them: with another hash a patient would get a second document."""
    assert short_hash("A/B") == "5ab98301"
    assert short_hash("", 4) == "cae6"
    assert len(short_hash("\udcff", 7)) == 7


@given(texts)
def test_a_printable_path_is_valid_text(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass").replace(b"\0", b"")
    shown = printable(raw.decode("utf-8", "surrogateescape"))
    assert len(shown.encode()) >= len(raw)
    if not any("\ud800" <= one <= "\udfff" for one in text):
        assert shown == text.replace("\0", "")


def test_bytes_that_are_not_utf_8_are_shown_in_hex() -> None:
    assert printable(b"a\xff\xfe.dcm".decode("utf-8", "surrogateescape")) == "a\\xff\\xfe.dcm"


@pytest.mark.parametrize(
    ("name", "temporary"),
    [(".x", True), ("x.part", True), ("x.tmp", True), (".part", True), ("x", False), ("x.dcm", False), ("part", False)],
)
def test_names_that_are_not_final_yet(name: str, temporary: bool) -> None:
    assert is_temporary(name) is temporary
