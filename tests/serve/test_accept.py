"""What clients send as Accept, and what they get."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.syntaxes import EXPLICIT_LITTLE
from listener.serve.accept import DICOM, JSON, OCTETS, Form, choose, frame_forms, ranges, told
from listener.serve.faults import BadRequest, NotAcceptable

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
JLS = "1.2.840.10008.1.2.4.80"
NATIVE = frame_forms(EXPLICIT_LITTLE, native=True)

#: Accept fields of OHIF, dicomweb-client, Weasis, 3D Slicer, curl and browsers; the stored syntax ("" for native); and
#: the media type of what comes, with a * where it comes in a multipart message.
ASKED = [
    ("", "", "application/octet-stream*"),
    ("*/*", "", "application/octet-stream*"),
    ("*/*;q=0.5", JPEG, "image/jpeg*"),
    ("application/octet-stream", "", "application/octet-stream"),
    ("multipart/related; type=application/octet-stream; transfer-syntax=*", "", "application/octet-stream*"),
    ("multipart/related; type=application/octet-stream; transfer-syntax=*", JPEG, "application/octet-stream*"),
    ('multipart/related; type="application/octet-stream"', "", "application/octet-stream*"),
    ('multipart/related;type="image/jpeg";transfer-syntax=*', JPEG, "image/jpeg*"),
    (f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}', JPEG, "image/jpeg*"),
    ('multipart/related; type="image/*"', JPEG, "image/jpeg*"),
    ("image/jpeg, */*;q=0.1", JPEG, "image/jpeg"),
    ("image/jp2;q=0.9, image/jpeg;q=0.8", JPEG, "image/jpeg"),
    ("image/x-dicom-rle", RLE, "image/dicom-rle"),
    ("image/x-jls", JLS, "image/jls"),
    ("image/dicom+jpeg", JPEG, "image/jpeg"),
    ('MULTIPART/Related ; TYPE = "Image/JPEG" ', JPEG, "image/jpeg*"),
    (
        'multipart/related; type="application/octet-stream", multipart/related; type="image/jpeg"',
        JPEG,
        "image/jpeg*",
    ),
    (f"application/octet-stream; transfer-syntax={EXPLICIT_LITTLE}", "", "application/octet-stream"),
    ("multipart/related", "", "application/octet-stream*"),
]

REFUSED = [
    ("image/jpeg", ""),
    ("image/png", JPEG),
    ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.90", JPEG),
    (f'multipart/related; type="application/octet-stream"; transfer-syntax={EXPLICIT_LITTLE}', JPEG),
    ("image/jpeg;q=0", JPEG),
    ("text/html,application/xhtml+xml", ""),
]


@pytest.mark.parametrize(("field", "syntax", "wanted"), ASKED)
def test_what_is_asked_for_comes(field: str, syntax: str, wanted: str) -> None:
    forms = frame_forms(syntax, native=False) if syntax else NATIVE
    chosen = choose(ranges(field), forms, single=True)
    assert f"{chosen.form.media}{'*' * chosen.multipart}" == wanted


@pytest.mark.parametrize(("field", "syntax"), REFUSED)
def test_what_there_is_not_is_refused_with_what_there_is(field: str, syntax: str) -> None:
    forms = frame_forms(syntax, native=False) if syntax else NATIVE
    with pytest.raises(NotAcceptable) as refused:
        choose(ranges(field), forms, single=True)
    assert refused.value.detail == f"what there is: {told(forms, single=True)}"
    assert (syntax or EXPLICIT_LITTLE) in refused.value.detail


def test_several_things_come_in_one_message_only() -> None:
    with pytest.raises(NotAcceptable):
        choose(ranges(DICOM), [Form(DICOM, EXPLICIT_LITTLE)], single=False)
    assert choose(ranges(""), [Form(DICOM, EXPLICIT_LITTLE)], single=False).multipart
    assert not choose(ranges(DICOM), [Form(DICOM, EXPLICIT_LITTLE)], single=True).multipart


@pytest.mark.parametrize("field", ["", "*/*", JSON, f"{JSON}, application/json;q=0.5", "application/*"])
def test_json_comes_alone(field: str) -> None:
    assert choose(ranges(field), [Form(JSON)], single=True) == (Form(JSON), False)


@pytest.mark.parametrize("field", ["x", "a/b c/d", "a/b;;", "/", "a/b, ,", '"', "a/" * 5000, ",".join(["a/b"] * 65)])
def test_what_is_no_list_of_media_types_is_refused(field: str) -> None:
    with pytest.raises(BadRequest):
        ranges(field)


@given(st.text(alphabet='abc/*;,="q.01 -', max_size=60))
def test_any_field_gives_a_form_or_a_refusal(field: str) -> None:
    with contextlib.suppress(BadRequest, NotAcceptable):
        assert choose(ranges(field), [Form(OCTETS, EXPLICIT_LITTLE)], single=True).form.media == OCTETS
