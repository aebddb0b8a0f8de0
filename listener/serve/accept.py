"""PURE. What a client accepts, and what of it there is (PS3.18 section 8.7; RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, product
from typing import NamedTuple

from listener.dicom.syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from listener.serve.faults import BadRequest, NotAcceptable

DICOM, JSON, OCTETS, MULTIPART = (
    "application/dicom",
    "application/dicom+json",
    "application/octet-stream",
    "multipart/related",
)

#: Transfer syntaxes in which frames are sent, and their media types (PS3.18 tables 8.7.3-4 and 8.7.3-5).
_MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}

#: Other spellings of media types, which clients send.
_SPELLINGS = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "image/dicom+jpeg": "image/jpeg",
    "image/dicom+jpeg-ls": "image/jls",
    "image/dicom+jp2": "image/jp2",
    "image/dicom+jpx": "image/jpx",
    "image/dicom+rle": "image/dicom-rle",
    "image/x-jpeg": "image/jpeg",
}

_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s"]*)\s*')
_TYPE = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+|\*)\s*")

#: Longest field, and most ranges in it.
_LONGEST, _MOST = 8192, 64


class Range(NamedTuple):
    """One media range: for multipart the type of its parts, `multipart` then being True. `syntax` is a transfer syntax
    UID, "*" for any, "" where none is named.
    """

    media: str
    multipart: bool = False
    syntax: str = ""
    quality: float = 1.0


class Form(NamedTuple):
    """A form of a resource that can be sent: media type and transfer syntax ("" where there is none)."""

    media: str
    syntax: str = ""


class Chosen(NamedTuple):
    """The form that is sent, in a multipart message or alone."""

    form: Form
    multipart: bool


def media_type(syntax: str) -> str:
    """Return the media type of frames in a transfer syntax; application/octet-stream where none is defined."""
    return _MEDIA_TYPES.get(syntax, OCTETS)


@lru_cache(maxsize=256)
def ranges(field: str) -> tuple[Range, ...]:
    """Return the media ranges of an Accept field, the best first. Nothing, or nothing but blanks, accepts everything.

    Raises BadRequest for what is no list of media ranges.
    """
    if len(field) > _LONGEST:
        raise BadRequest("Accept is too long")
    found: list[Range] = []
    pos = 0
    while pos < len(field):
        matched = _TYPE.match(field, pos)
        if not matched or len(found) == _MOST:
            raise BadRequest("Accept is no list of media types")
        media, pos = matched[1].lower(), matched.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(field, pos):
            parameters[parameter[1].lower()] = _unquoted(parameter[2])
            pos = parameter.end()
        if pos < len(field) and field[pos] != ",":
            raise BadRequest("Accept is no list of media types")
        pos += 1
        found.append(_range(media, parameters))
    return tuple(sorted(found, key=lambda one: -one.quality)) or (Range("*/*"),)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _range(media: str, parameters: dict[str, str]) -> Range:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 1.0
    multipart = media == MULTIPART
    if multipart:
        media = parameters.get("type", "*/*").lower()
    media = "*/*" if media == "*" else media
    return Range(_SPELLINGS.get(media, media), multipart, parameters.get("transfer-syntax", ""), quality)


def choose(accepted: Sequence[Range], forms: Sequence[Form], *, single: bool) -> Chosen:
    """Return the form to send: of what is accepted the best. `forms` are what there is, the best first; `single`:
    whether the resource may be sent alone, without a multipart message.

    Raises NotAcceptable, which names what there is.
    """
    for _, equal in groupby((one for one in accepted if one.quality > 0), key=lambda one: one.quality):
        group = tuple(equal)
        for form, one in product(forms, group):  # Of what is accepted alike the best that there is.
            # Any transfer syntax is the stored one, of which the forms come first.
            if not _fits(one, form) or (one.syntax == "*" and form.syntax != forms[0].syntax):
                continue
            if form.media == JSON:
                return Chosen(form, multipart=False)
            if one.multipart or one.media == "*/*":
                return Chosen(form, multipart=True)
            if single:
                return Chosen(form, multipart=False)
    raise NotAcceptable(f"what there is: {told(forms, single=single)}")


def _fits(one: Range, form: Form) -> bool:
    if one.syntax not in ("", "*", form.syntax):
        return False
    kind = one.media.partition("/")[0]
    return one.media in ("*/*", form.media) or one.media == f"{kind}/*" == f"{form.media.partition('/')[0]}/*"


def told(forms: Iterable[Form], *, single: bool) -> str:
    """Return forms as an Accept field names them."""
    texts = []
    for media, syntax in forms:
        parameter = f"; transfer-syntax={syntax}" if syntax else ""
        if media == JSON:
            texts.append(media)
            continue
        texts.append(f'multipart/related; type="{media}"{parameter}')
        if single:
            texts.append(f"{media}{parameter}")
    return ", ".join(texts)


def instance_forms(syntax: str, *, alone: bool) -> list[Form]:
    """Return the forms of an instance that is stored in a transfer syntax, that first: one that is asked for `alone`
    is also written in Explicit VR Little Endian, where its pixels are the same in that.
    """
    forms = [Form(DICOM, syntax)]
    return (
        [*forms, Form(DICOM, EXPLICIT_LITTLE)]
        if alone and syntax in (IMPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)
        else forms
    )


def frame_forms(syntax: str, *, native: bool, decodes: bool = False) -> list[Form]:
    """Return the forms of frames that are stored in a transfer syntax, that first; native ones are sent as Explicit VR
    Little Endian, whatever the file is, and so are others where this service `decodes` them.
    """
    if native:
        return [Form(OCTETS, EXPLICIT_LITTLE)]
    media = media_type(syntax)
    forms = [Form(media, syntax)]
    if decodes:  # What octets are unless a transfer syntax is named.
        forms.append(Form(OCTETS, EXPLICIT_LITTLE))
    return [*forms, Form(OCTETS, syntax)] if media != OCTETS else forms


def picture_forms() -> list[Form]:
    """Return the forms of pictures."""
    return [Form("image/jpeg"), Form("image/png")]
