"""Mutated files by the thousand through the whole of `once`, and hostile templates: each file has exactly one end.

LISTENER_TEST_FUZZ sets how many files (20,000 when it is not set), LISTENER_TEST_SEED another choice of them; both are
printed, and so is the file at fault.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from listener.dicom.attributes import USUAL, Header, is_keyword
from listener.planning.plan import LAYOUTS, Layout, choose_preset, make_plan
from listener.planning.template import TemplateError, compile_template
from listener.planning.template_functions import USAGE
from listener.reasons import SET_ASIDE_REASONS
from tests.accounting import Canary
from tests.dicom.mutating import INTERESTING, mutated
from tests.faults.hostile import contradictions
from tests.instances import element, part10, uid
from tests.service_process import Event, Places, make_places, once

COUNT = int(os.environ.get("LISTENER_TEST_FUZZ", "20000"))
SEED = int(os.environ.get("LISTENER_TEST_SEED", "1"))

#: Files of one run of `once`.
RUN = 2500

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

#: Options of the runs, in turn.
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("--on-conflict", "keep-both", "--layout", "px"),
    ("--on-conflict", "set-aside", "--layout", "px311"),
    ("--layout", "oxidicom", "--max-header", "4KiB"),
    ("--max-depth", "2", "--root-template", "%_md5|8_PatientID-%_strmsk|****01**_PatientBirthDate"),
    ("--series-template", "%_nospc|-_SeriesDescription-%_seahash|7_SeriesInstanceUID-%Modality", "--workers", "1"),
    ("--image-template", "%_pad|9,x_InstanceNumber-%SOPInstanceUID-%PatientAge-%AgeInDays", "--fsync", "each"),
    ("--root-template", "%PatientID/%PatientName/%PatientSex", "--study-template", "%_name|patientID_PatientName"),
)

# -- making files ------------------------------------------------------------------------------------------------------

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
ENCAPSULATED = ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50")
SYNTAXES = (IMPLICIT, EXPLICIT, EXPLICIT, BIG, DEFLATED, *ENCAPSULATED, "1.2.3", "")

#: Tag, VR and value of a tiny instance; None: follows from what the file is to be.
BASE: tuple[tuple[int, str, bytes | int | None], ...] = (
    (0x00080005, "CS", b"ISO_IR 100"),
    (0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
    (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.4\0"),
    (0x00080018, "UI", None),
    (0x00080020, "DA", b"20240102"),
    (0x00080021, "DA", b"20240102"),
    (0x00080050, "SH", b"A1"),
    (0x00080060, "CS", b"MR"),
    (0x00081030, "LO", b"Study "),
    (0x0008103E, "LO", b"Series"),
    (0x00081140, "SQ", b"\xfe\xff\x00\xe0\x00\x00\x00\x00"),
    (0x00100010, "PN", b"Fuzz^Name "),
    (0x00100020, "LO", b"FUZZ"),
    (0x00100030, "DA", b"19700102"),
    (0x00100040, "CS", b"O "),
    (0x00101010, "AS", b"054Y"),
    (0x0020000D, "UI", None),
    (0x0020000E, "UI", None),
    (0x00200011, "IS", b"3 "),
    (0x00200013, "IS", None),
    (0x00280002, "US", 1),
    (0x00280010, "US", 4),
    (0x00280011, "US", 4),
    (0x00280100, "US", 16),
    (0x00280101, "US", 16),
    (0x00280102, "US", 15),
    (0x00280103, "US", 0),
)

#: Values that someone sends in place of any other.
VALUES = (
    *(
        b"",
        b"\0",
        b"\0" * 64,
        b" ",
        b"..",
        b".",
        b"../../../etc/passwd",
        b"/etc/x",
        b".listener",
        b"-rf",
        b"\\",
        b"\\\\\\",
    ),
    *(
        b"\xff\xfe\xfd",
        b"\xed\xa0\x80",
        b"\x1b$B\x1b(J\x1b$)C",
        b"\x1b[31m\n\r\t\x07",
        b"%s%PatientID{}",
        b'"}],"x":{"',
    ),
    *(b"A" * 64, b"B" * 199, b"C" * 201, b"D" * 65534, b"^^^^=^^^^=", b"1\\2\\3", b"9" * 100, b"-1", b"1e999", b"NaN"),
    *(b"ISO_IR 192", b"GB18030", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"ISO_IR 999", b"00000000", b"99999999"),
    *(
        b"1.2.3",
        b"1." * 33,
        b"1.2.3\0\0",
        b"...",
        b"0",
        b"\xe4\xbd",
        b"\xf0\x9f\x98\x80",
        b"\xc0\xaf",
        b"MR\\CT",
        b"0-0-0",
    ),
)
_DEEP = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff"

#: Whole elements, in explicit little endian, that are put between the others.
EXTRAS = (
    element(0x00090010, "LO", b"MAKER ") + element(0x00091001, "UN", b"\1\2\3\4"),
    element(0x00091002, "UN", b"", length=0xFFFFFFFF) + b"\xfe\xff\xdd\xe0\0\0\0\0",
    element(0x0040A730, "SQ", b"", length=0xFFFFFFFF) + _DEEP * 70,
    element(0x0040A730, "SQ", b"", length=0xFFFFFFFF)
    + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    + b"\xfe\xff\x0d\xe0\0\0\0\0",
    element(0x00420011, "OB", b"%PDF" * 20),
    element(0x00080018, "UI", b"1.2.3.4.5.6\0"),
    element(0x0020000E, "UI", b""),
    element(0x00080005, "CS", b"ISO_IR 192"),
    element(0x60003000, "OW", b"\0" * 32),
    element(0x00041220, "SQ", b""),
    element(0xFFFCFFFC, "OB", b"\0" * 10),
    element(0x7FE00010, "OW", b"\0" * 8),
    element(0x00000002, "UI", b"1.2.3\0"),
    element(0x00020010, "UI", b"1.2.840.10008.1.2\0"),
    element(0x0008103E, "??", b"odd "),
    element(0x00189999, "FD", b"\x7f\xf8" + b"\0" * 6),
)


class Maker:
    """Makes the files of one run; the same `seed` makes the same files."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._seed = seed
        self._earlier: list[bytes] = [b"DICM" * 100]

    def make(self, number: int) -> bytes:
        chance = self._chance
        luck = chance.random()
        if luck < 0.03:
            return chance.choice(self._earlier)
        data = self._instance(number if luck > 0.15 else chance.randrange(number + 1))
        if chance.random() < 0.15:  # anywhere; what stands before the data set soon makes it no DICOM
            data = mutated(chance, [data, data, data, chance.choice(self._earlier)])
        if 0 < len(data) < 8000 and (len(self._earlier) < 200 or chance.random() < 0.1):
            self._earlier.append(data)
        return data

    def _instance(self, number: int) -> bytes:
        chance = self._chance
        syntax = chance.choice(SYNTAXES)
        elements = self._elements(number, little=syntax != BIG)
        pixels = syntax not in ENCAPSULATED and chance.random() < 0.8
        if pixels:
            elements.append((0x7FE00010, "OW", bytes(32)))
        implicit = syntax == IMPLICIT or (not syntax and chance.random() < 0.5)
        body = self._encode(elements, implicit=implicit, little=syntax != BIG)
        if syntax in ENCAPSULATED:
            head = element(0x7FE00010, "OB", b"", length=0xFFFFFFFF) + b"\xfe\xff\x00\xe0\0\0\0\0"
            body += head + b"\xfe\xff\x00\xe0\x08\0\0\0" + bytes(8) + b"\xfe\xff\xdd\xe0\0\0\0\0"
        if chance.random() < 0.5:
            body = mutated(chance, [body])
        if syntax == DEFLATED:
            deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = deflate.compress(body) + deflate.flush()
        if chance.random() < 0.03:
            return body
        return self._with_meta(body, syntax, str(uid(self._seed, number)).encode())

    def _with_meta(self, body: bytes, syntax: str, told: bytes) -> bytes:
        if self._chance.random() < 0.2:
            return part10(body, syntax, group_length=self._chance.choice((0, 0, None, 7, 70000))).replace(
                b"\x02\0\x03\0UI\x06\x001.2.3\0", b""
            )
        meta = element(0x00020001, "OB", b"\0\1") + element(0x00020003, "UI", told + b"\0" * (len(told) % 2))
        meta += element(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2)) + element(
            0x00020016, "AE", b"FUZZ"
        )
        return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(meta))) + meta + body

    def _elements(self, number: int, *, little: bool) -> list[tuple[int, str, bytes]]:
        chance = self._chance
        series = number % 20
        own = {
            0x00080018: str(uid(self._seed, number)).encode(),
            0x0020000D: str(uid(self._seed, "study", series // 2)).encode(),
            0x0020000E: str(uid(self._seed, "series", series)).encode(),
            0x00200013: str(number).encode(),
        }
        found = []
        for tag, vr, value in BASE:
            if isinstance(value, int):
                raw = struct.pack("<H" if little else ">H", value)
            else:
                raw = own[tag] if value is None else value
            found.append((tag, vr, raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)))
        if chance.random() < 0.4:
            for _ in range(chance.choice((1, 1, 2, 5))):
                at = chance.randrange(len(found))
                tag, vr, _ = found[at]
                found[at] = tag, vr, chance.choice(VALUES)
        if chance.random() < 0.2:  # bytes that are no text, of the same length
            at = chance.randrange(len(found))
            tag, vr, raw = found[at]
            found[at] = tag, vr, chance.randbytes(len(raw))
        if chance.random() < 0.05:
            del found[chance.randrange(len(found))]
        if chance.random() < 0.02:
            chance.shuffle(found)
        return found

    def _encode(self, elements: list[tuple[int, str, bytes]], *, implicit: bool, little: bool) -> bytes:
        chance = self._chance
        pieces = []
        lengths = {tag: len(value) for tag, _, value in elements}
        if chance.random() < 0.1:  # two lengths change places
            one, other = (chance.choice(elements)[0] for _ in range(2))
            lengths[one], lengths[other] = lengths[other], lengths[one]
        for tag, vr, value in elements:
            length = lengths[tag] if implicit or lengths[tag] < 65536 else 65535
            pieces.append(element(tag, "" if implicit else vr, value, length=length, little=little))
        if chance.random() < 0.15:
            for _ in range(chance.choice((1, 1, 3))):
                pieces.insert(chance.randrange(len(pieces) + 1), chance.choice((*EXTRAS, *INTERESTING)))
        return b"".join(pieces)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- the whole of once -------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("number", range(max(1, -(-COUNT // RUN))))
def test_mutated_files_through_once(
    tmp_path: Path, number: int, record_property: Callable[[str, object], None]
) -> None:
    """Each file: one event, one end; a reason of the closed set, never `internal`; no worker dies; no file takes a
    second; tree, logs and set-aside hold exactly what was told; the world around is as it was.
    """
    places, kept = make_places(tmp_path), tmp_path / "outside"
    kept.mkdir()
    maker, seed = Maker(f"{SEED}/{number}"), f"LISTENER_TEST_SEED={SEED}, run {number}"
    print(seed)
    sources = {}
    for index in range(min(RUN, COUNT)):
        data, name = maker.make(index), f"{index:06d}"
        (places.incoming / name).write_bytes(data)
        sources[name] = digest(data)
    canary = Canary(places)
    args = OPTIONS[number % len(OPTIONS)]
    done = once(places, "--fsync", "none", *args, seconds=200)
    events = done.events
    counts = Counter(event.get("reason", event["event"]) for event in events)
    record_property("outcomes", dict(counts))
    print(f"{args}: {dict(counts)}")
    wrong = [f"internal: {event}" for event in events if event.get("reason") in ("internal", "worker-lost")]
    wrong += [f"unknown: {word}" for word in counts.keys() - {"published", "duplicate", *SET_ASIDE_REASONS}]
    wrong += contradictions(places, sources, events)
    wrong += canary.changed()
    assert not wrong, "\n".join([f"{seed}: {len(wrong)} violations:", *wrong[:40]])
    assert "lost" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.status == 1
    assert counts["published"] > len(sources) / 8
    slow = [event for event in events if event["seconds"] > 1]
    for name in sorted({event["src"] for event in slow})[:64]:
        # a second of a batch, or of a busy machine, is not yet the file's: it is asked again, alone
        remade = remake(number, int(name))
        assert alone(make_places(tmp_path / "alone"), remade, args)["seconds"] < 1, f"{seed}: {name} is slow"
        shutil.rmtree(tmp_path / "alone")


def remake(run: int, index: int) -> bytes:
    """The bytes of one file of a run."""
    maker = Maker(f"{SEED}/{run}")
    return [maker.make(earlier) for earlier in range(index + 1)][-1]


def alone(places: Places, data: bytes, args: tuple[str, ...]) -> Event:
    (places.incoming / "alone").write_bytes(data)
    (event,) = once(places, "--fsync", "none", *args).events
    return event


# -- templates ---------------------------------------------------------------------------------------------------------

_PIECES = (
    *(f"%{keyword}" for keyword in ("PatientID", "PatientName", "StudyDate", "SeriesDescription", "SOPInstanceUID")),
    *("%PatientAge", "%AgeInDays", "%PatientBirthDate", "%Nonsense", "%", "%%", "%_", "%_pad_", "%_|_", "%_pad|_"),
    *(
        "/",
        "//",
        "..",
        ".",
        "../",
        "-",
        "_",
        " ",
        "\0",
        "\n",
        "é",
        "\U0001f600",
        "{}",
        "%s",
        "%d",
        "%(x)s",
        "\\",
        "a" * 50,
    ),
    *("|", ",", "_PatientID", "1", "99", "-5", "*" * 8, "****01**"),
    *(f"%_{function}|" for function in USAGE),
    *(f"%_{function}_PatientID" for function in USAGE),
    *("%_pad|5,0_SeriesNumber", "%_pad|254,x_PatientID", "%_pad|9999999999,0_PatientID", "%_pad|5,00_PatientID"),
    *("%_md5|8_PatientID", "%_md5|-3_PatientID", "%_seahash|7_SeriesInstanceUID", "%_strmsk|***_PatientID"),
    *("%_nospc|/_PatientID", "%_nospc|../_PatientName", "%_name|patientID_PatientName", "%_name|_PatientName"),
    *("%_seahash|99999999999999999999_PatientID", "%_strmsk|" + "*" * 300 + "_PatientID"),
)


def some_template(chance: random.Random) -> str:
    if chance.random() < 0.1:
        return "".join(chance.choice("%_|,/.- aPatientID*09\0é") for _ in range(chance.randrange(40)))
    return "".join(chance.choice(_PIECES) for _ in range(chance.randrange(1, 6)))


def some_value(chance: random.Random) -> str:
    text = chance.choice(VALUES).decode("utf-8", "replace")
    return text if chance.random() < 0.7 else text + "".join(chr(chance.randrange(1, 0xD7FF)) for _ in range(20))


@pytest.mark.parametrize("name", LAYOUTS)
def test_hostile_templates_and_values(name: str) -> None:
    """A template is refused with a TemplateError before any file is seen, or it renders whatever comes into a path that
    is plain, short, and inside the root.
    """
    chance = random.Random(f"{SEED}/{name}")
    compiled = 0
    for _ in range(max(1000, COUNT // 8)):
        given = dict.fromkeys(("root", "study", "series", "image"), "")
        for part in given:
            given[part] = some_template(chance) if chance.random() < 0.5 else ""
        try:
            for text in filter(None, given.values()):
                compile_template(text)
                compile_template(text, is_keyword)
            layout = Layout(choose_preset(name, **given))
        except TemplateError:
            continue
        compiled += 1
        for _ in range(4):
            values = {keyword: some_value(chance) for keyword in USUAL if chance.random() < 0.8}
            values = {keyword: text for keyword, text in values.items() if text}
            plan = make_plan(Header(values, 0, 0, "", some_value(chance)), layout)
            parts = plan.relative.split("/")
            assert all(part.isascii() and part.isprintable() and 0 < len(part) <= 200 for part in parts), (
                given,
                values,
            )
            assert all(part.strip(".") for part in parts), (given, values, plan)
            assert not plan.name.startswith("."), (given, values, plan)
            assert plan.name.endswith(".dcm"), (given, values, plan)
            assert plan == make_plan(Header(values, 0, 0, "", ""), layout) or "oxidicom" in name
    print(f"{name}: {compiled} templates could be compiled")
    assert compiled > 100
