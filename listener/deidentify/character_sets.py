"""PURE. Names as other character sets of a unit write them (PS3.3 section C.12.1.1.2): what was removed in one file
must not stand in another one in other bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: Specific Character Set.
TAG = 0x00080005

#: Python's codec of each defined term; of the sets with escape sequences that of the set itself.
_CODECS = {
    b"ISO_IR 13": "shift_jis",
    b"ISO_IR 166": "tis-620",
    b"ISO_IR 192": "utf-8",
    b"ISO_IR 203": "iso8859-15",
    b"GB18030": "gb18030",
    b"GBK": "gbk",
    b"ISO 2022 IR 87": "iso2022_jp",
    b"ISO 2022 IR 159": "iso2022_jp_2",
    b"ISO 2022 IR 149": "euc_kr",
    b"ISO 2022 IR 58": "gb2312",
}
_PARTS = {100: 1, 101: 2, 109: 3, 110: 4, 144: 5, 127: 6, 126: 7, 138: 8, 148: 9}
_CODECS |= {b"ISO_IR %d" % term: f"iso8859-{part}" for term, part in _PARTS.items()}

#: What announces Korean and Chinese characters, which their codecs do not know.
_ANNOUNCED = (b"\x1b$)C", b"\x1b$)A")


def in_each(names: Iterable[bytes], sets: Iterable[bytes]) -> set[bytes]:
    """Return names, as bytes, in each of the character sets in which they can be written. `sets` are values of Specific
    Character Set. Which one a name was in is not known: it is read in each, and what makes no sense in one is passed.
    """
    codecs = sorted({codec for one in sets for codec in _codecs(one)})
    texts = {text for name in names for codec in codecs for text in _decoded(name, codec)}
    return {made for text in texts for codec in codecs for made in _encoded(text, codec)}


def text(value: bytes, terms: bytes) -> str:
    """Return a text as the first character set reads it that can, of those that a Specific Character Set names; where
    none can each byte is a character.
    """
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    found = list(_codecs(terms))
    if b"\x1b" in value:  # A set without escape sequences would read these as characters.
        found.sort(key=lambda codec: not codec.startswith("iso2022"))
    return next((made for codec in found for made in _decoded(value, codec)), value.decode("latin-1"))


def _codecs(value: bytes) -> Iterator[str]:
    for term in value.split(b"\\"):
        bare = term.strip(b" \0")
        codec = _CODECS.get(bare) or _CODECS.get(bare.replace(b"ISO 2022 IR", b"ISO_IR"))
        if codec:
            yield codec


def _decoded(name: bytes, codec: str) -> Iterator[str]:
    for mark in _ANNOUNCED:
        name = name.replace(mark, b"")
    try:
        yield name.decode(codec)
    except UnicodeDecodeError:
        return


def _encoded(text: str, codec: str) -> Iterator[bytes]:
    """Yield a name whole, or of its components (^ and =) those that can be written: a group may have another set."""
    for part in {text, *text.replace("=", "^").split("^")}:
        try:
            yield part.encode(codec)
        except UnicodeEncodeError:
            continue
