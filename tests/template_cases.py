"""Templates as data: what pypx makes of them and what we do. tests/compat asks the real pypx about each of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydicom.datadict import tag_for_keyword

#: Given as an override: the tag is absent.
ABSENT = None

#: The tags of the instance that each case starts from.
TAGS = {
    "PatientID": "12 34/5",
    "PatientName": "Doe^Jane=ö",
    "PatientBirthDate": "20000101",
    "StudyDate": "20200301",
    "StudyDescription": "Brain w/o",
    "AccessionNumber": "A1",
    "StudyID": "77",
    "StudyInstanceUID": "1.2",
    "SeriesDescription": "SAG  MPRAGE!",
    "SeriesNumber": "5",
    "SeriesInstanceUID": "1.3.12.2.1107.5.2.19.45152.2013030808061520200285270.0.0.0",
    "InstanceNumber": "12",
    "SOPInstanceUID": "1.2.3",
    "Modality": "MR",
    "AcquisitionDate": "20200303",
    "AcquisitionDateTime": "20200303112233",
}


class Case(NamedTuple):
    """A template, what its tags are (over TAGS), and what comes out before sanitising.

    `ours` is None where we refuse the template. `theirs` is what pypx prints, `!NameOfError` where it dies;
    it is given only where it differs, with the reason in `why`.
    """

    template: str
    ours: str | None
    tags: dict[str, Any] = {}  # noqa: RUF012 - never written to
    theirs: str | None = None
    why: str = ""

    def values(self) -> dict[str, str]:
        """The tags that are present."""
        merged: dict[str, str | None] = {**TAGS, **self.tags}
        return {name: text for name, text in merged.items() if text is not ABSENT}


UID_HASH = "a27cf06a782e3aad"
ODD = {"PatientID": "日本 ü"}

#: The layouts' own templates.
LAYOUTS = (
    Case("%PatientID-%PatientName-%PatientBirthDate", "12 34/5-Doe^Jane=ö-20000101"),
    Case("%StudyDescription-%AccessionNumber-%StudyDate", "Brain w/o-A1-20200301"),
    Case("%_pad|5,0_SeriesNumber-%SeriesDescription", "00005-SAG  MPRAGE!"),
    Case("%SeriesDescription-%_seahash|7_SeriesInstanceUID", "SAG  MPRAGE!-a27cf06"),
    Case("%_pad|5,0_SeriesNumber-%SeriesDescription-%_seahash|7_SeriesInstanceUID", "00005-SAG  MPRAGE!-a27cf06"),
    Case("%_pad|4,0_InstanceNumber-%SOPInstanceUID.dcm", "0012-1.2.3.dcm"),
)

SAME = (
    *LAYOUTS,
    Case("", ""),
    Case("literal / text", "literal / text"),
    Case("x%PatientID", "x12 34/5"),
    Case("%PatientIDx", "12 34/5x"),
    Case("%PatientID_x", "12 34/5_x"),
    Case("%PatientID.%PatientID", "12 34/5.12 34/5"),
    Case("a\nb%PatientID", "a\nb12 34/5"),
    Case("%PatientID/%StudyID/..", "12 34/5/77/.."),
    Case("%_pad|5,0_SeriesNumber", "00005"),
    Case("%_pad|5_SeriesNumber", "00005"),
    Case("%_pad|5,0,9_SeriesNumber", "00005"),
    Case("%_pad|5,0|9_SeriesNumber", "00005"),
    Case("%_pad_SeriesNumber", "5"),
    Case("%_pad|_SeriesNumber", "5"),
    Case("%_pad|-3,0_SeriesNumber", "5"),
    Case("%_pad|0_SeriesNumber", "5"),
    Case("%_pad|5, _SeriesNumber", "    5"),
    Case("%_pad|6,*_SeriesNumber", "*****5"),
    Case("%_pad|5,0_SeriesNumber", "000-3", {"SeriesNumber": "-3"}),
    Case("%_pad|3,0_SeriesNumber", "123456", {"SeriesNumber": "123456"}),
    Case("%_pad|5,0_SeriesNumber", "00000", {"SeriesNumber": ""}),
    Case("%_md5_PatientID", "0451599d055d02b1931e2da8de20236e"),
    Case("%_md5|4_PatientID", "0451"),
    Case("%_md5|0_PatientID", ""),
    Case("%_md5|-4_PatientID", "0451599d055d02b1931e2da8de20"),
    Case("%_md5|40_PatientID", "0451599d055d02b1931e2da8de20236e"),
    Case("%_md5|4_PatientName", "946c"),
    Case("%_md5|4_PatientID", "d41d", {"PatientID": ""}),
    Case("%_md5|4_PatientID-%_md5|4_StudyID", "0451-28dd"),
    Case("%_md5|4_PatientID-%_md5|5_StudyID", "0451-28dd2"),
    Case("%_md5|4_PatientIDfoo_bar", "0451foo_bar"),
    Case("%PatientName-%_md5|4_PatientID-%_pad|4,0_InstanceNumber.dcm", "Doe^Jane=ö-0451-0012.dcm"),
    Case("%_seahash_SeriesInstanceUID", UID_HASH),
    Case("%_seahash|7_SeriesInstanceUID", UID_HASH[:7]),
    Case("%_seahash|0_SeriesInstanceUID", ""),
    Case("%_seahash|7_PatientName", "cc831b3"),
    Case("%_seahash_PatientID", "c920ca43256fdcb9", {"PatientID": ""}),
    Case("%_seahash_PatientID", "91782ef50abc616", {"PatientID": "1.2.0"}),
    Case("%_strmsk|****01**_StudyDate", "20200101"),
    Case("%_strmsk|****01_StudyDate", "202001"),
    Case("%_strmsk|****01****_StudyDate", "20200101"),
    Case("%_strmsk|_StudyDate", ""),
    Case("%_strmsk|x_PatientName", "x"),
    Case("%_strmsk|*,*_PatientName", "D,e"),
    Case("%_strmsk|*|x*_StudyDate", "2"),
    Case("%_strmsk|*x*_PatientID", "日x ", ODD),
    Case("%_nospc_SeriesDescription", "SAGMPRAGE"),
    Case("%_nospc|-_SeriesDescription", "SAG-MPRAGE"),
    Case("%_nospc|ab_SeriesDescription", "SAGabMPRAGE"),
    Case("%_nospc|-_PatientName", "Doe-Jane-ö"),
    Case("%_nospc|-_PatientID", "12-34-5"),
    Case("%_nospc|-,._PatientID", "12-,.34-,.5"),
    Case("%_nospc|-|x_PatientID", "12-34-5"),
    Case("%_nospc|-_PatientID", "日本-ü", ODD),
    Case("%_nospc|-_PatientID", "a_b-c", {"PatientID": " a_b \t c\n"}),
    Case("%PatientAge", "020Y"),
    Case("%AgeInDays", "007365d"),
    Case("%AgeInDays-%PatientID", "007365d-12 34/5"),
    Case("%_pad|9,x_AgeInDays", "xx007365d"),
    Case("%StudyDescription-%StudyDate-%PatientAge-%AgeInDays", "Brain w/o-20200301-020Y-007365d"),
    Case("%PatientAge-%AgeInDays", "003Y-007365d", {"PatientAge": "003Y"}),
    Case("%AgeInDays %PatientAge", "000004d 004D", {"PatientBirthDate": "2000-01-01", "StudyDate": "2000-01-05"}),
    Case("%AgeInDays %PatientAge", "000001d 001D", {"PatientBirthDate": "20200302"}),
    Case("%AgeInDays %PatientAge", "000025d 004W", {"PatientBirthDate": "20200205"}),
    Case("%AgeInDays %PatientAge", "000121d 004M", {"PatientBirthDate": "20191101"}),
    Case("%AgeInDays %PatientAge", "000365d 001Y", {"PatientBirthDate": "20190302"}),
    Case("%PatientAge", "002Y", {"PatientBirthDate": "20180831"}),
    Case("%PatientAge", "012M", {"PatientBirthDate": "20190306"}),
    # Missing tags: px leaves the field standing, so %Keyword is the text that its layouts' policy gives.
    Case("%PatientID-%PatientName", "%PatientID-Doe^Jane=ö", {"PatientID": ABSENT}),
    Case("%PatientID-%PatientName", "12 34/5-%PatientName", {"PatientName": ABSENT}),
    Case("%PatientID-%PatientName", "%PatientID-%PatientName", {"PatientID": ABSENT, "PatientName": ABSENT}),
    Case("%_pad|5,0_SeriesNumber-%SeriesDescription", "%SeriesNumber-SAG  MPRAGE!", {"SeriesNumber": ABSENT}),
    Case("%_pad|4,0_InstanceNumber-%SOPInstanceUID.dcm", "%InstanceNumber-1.2.3.dcm", {"InstanceNumber": ABSENT}),
)

_SHIFT = "one missing tag moves pypx's functions to other keywords"
_TWICE = "pypx has one function for all places of a keyword"
_PART = "pypx finds a keyword inside a longer one"

DIFFERENT = (
    Case(
        "%SeriesDescription-%_seahash|7_SeriesInstanceUID",
        "%SeriesDescription-a27cf06",
        {"SeriesDescription": ABSENT},
        "%SeriesDescription-%_seahash|7_SeriesInstanceUID",
        _SHIFT,
    ),
    Case(
        "%_pad|9,0_SeriesNumber-%Modality",
        "%SeriesNumber-MR",
        {"SeriesNumber": ABSENT},
        "%SeriesNumber-0000000MR",
        _SHIFT,
    ),
    Case("%_md5|4_PatientID-%PatientID", "0451-12 34/5", {}, "0451-0451", _TWICE),
    Case("%PatientID-%_md5|4_PatientID", "12 34/5-0451", {}, "12 34/5-%_md5|4_PatientID", _TWICE),
    Case("%AcquisitionDateTime", "20200303112233", {}, "20200303Time", _PART),
    Case(
        "%PatientID-%PatientName",
        "%PatientName-Doe^Jane=ö",
        {"PatientID": "%PatientName"},
        "Doe^Jane=ö-Doe^Jane=ö",
        "pypx reads values as templates",
    ),
    Case("%_name_PatientName", "GRAY^ALMA^ANON", {}, "!NameError", "pypx lacks the package that it asks for a name"),
    Case("%_name|patientID_PatientName", "MOSS^CARL^ANON", {}, "!NameError", "the same"),
    Case("%PatientID-name", "12 34/5-name", {}, "!IndexError", "pypx takes the text for a function"),
    Case("%PatientID-pad", "12 34/5-pad", {}, "!IndexError", "pypx takes the text for a function"),
    Case("%PatientID_pad_x", "12 34/5_pad_x", {}, "12 34/5x", "pypx takes the text for a function"),
    Case("%PatientAge", "020Y", {"PatientAge": ""}, "", "empty is missing"),
    Case("%AgeInDays", "%AgeInDays", {"PatientBirthDate": ""}, "000000d", "an unknown date makes no newborn"),
    Case("%AgeInDays", "%AgeInDays", {"PatientBirthDate": ABSENT}, "!KeyError", "an unknown date is no reason to die"),
    Case("%PatientAge", "%PatientAge", {"StudyDate": "bad"}, "!ValueError", "an unknown date is no reason to die"),
)

_TEXT = "pypx leaves it in the path"
_DIES = "pypx dies when the first file comes"

REFUSED = (
    Case("100%", None, {}, "100%", _TEXT),
    Case("%", None, {}, "%", _TEXT),
    Case("%%PatientID", None, {}, "%12 34/5", _TEXT),
    Case("% PatientID", None, {}, "% PatientID", _TEXT),
    Case("%Unheard-%PatientID", None, {}, "%Unheard-12 34/5", _TEXT),
    Case("%patientid", None, {}, "%patientid", _TEXT),
    Case("%00100020", None, {}, "%00100020", _TEXT),
    Case("%(0010,0020)", None, {}, "%(0010,0020)", _TEXT),
    Case("%_foo|3_PatientID", None, {}, "%_foo|3_PatientID", _TEXT),
    Case("%_MD5|4_PatientID", None, {}, "%_MD5|4_PatientID", _TEXT),
    Case("%_PatientID", None, {}, "%_PatientID", _TEXT),
    Case("%_md5|4_pad|6,0_PatientID", None, {}, "%pad|6,0_PatientID", _TEXT),
    Case("%_md5|4_ PatientID", None, {}, "% PatientID", _TEXT),
    Case("%_strmsk|***__PatientID", None, {}, "%_PatientID", _TEXT),
    Case("%_nospc|__SeriesDescription", None, {}, "%_SeriesDescription", _TEXT),
    Case("%_nospc|%_PatientID", None, {}, "%_nospc|%_PatientID", _TEXT),
    Case("%_pad|5,_SeriesNumber", None, {}, "!TypeError", _DIES),
    Case("%_pad|5,ab_SeriesNumber", None, {}, "!TypeError", _DIES),
    Case("%_pad|x,0_SeriesNumber", None, {}, "!ValueError", _DIES),
    Case("%_md5|_PatientID", None, {}, "!ValueError", _DIES),
    Case("%_md5|x_PatientID", None, {}, "!ValueError", _DIES),
    Case("%_md5|4,5_PatientID", None, {}, "!ValueError", _DIES),
    Case("%_seahash|_PatientName", None, {}, "!ValueError", _DIES),
    Case("%_strmsk_StudyDate", None, {}, "!IndexError", _DIES),
    Case("%_name|9x_PatientName", None, {}, "!NameError", _DIES),
)


def known(word: str) -> bool:
    return tag_for_keyword(word) is not None
