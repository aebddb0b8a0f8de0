"""Whatever lands in incoming: set aside with the right reason or filed inside the roots, and the queue goes on."""

from __future__ import annotations

import os
import random
import shutil
import stat
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.accounting import REASON_FIELDS, Canary, Sent, account, files_below, miscounted, read_set_aside, sent
from tests.hostile_entries import HOSTILE, make_socket
from tests.instances import ABSENT, write_instance
from tests.service_process import Places, Service, once, repack, service, settled, until_value, value
from tests.workbench import without_powers

pytestmark = pytest.mark.real

#: In every instance here, and nowhere in what the service says.
SECRETS = ("Secret^Name", "SecretName", "SECRETID")

Make = Callable[[Path], object]


def good(path: Path, number: int = 1, **overrides: Any) -> Path:
    """An instance, good but for what `overrides` make of it; pydicom's opinion of that is not asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_instance(path, number=number, **{"PatientName": SECRETS[0], "PatientID": SECRETS[2], **overrides})


def whole(path: Path, **overrides: Any) -> bytes:
    """The bytes of a good instance."""
    good(path, **overrides)
    data = path.read_bytes()
    path.unlink()
    return data


def wrong(**overrides: Any) -> Make:
    """An instance with these attributes."""
    return lambda path: good(path, **overrides)


def made_of(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def cut(keep: int) -> Make:
    """A good instance cut to its first `keep` bytes (negative: without its last)."""
    return lambda path: path.write_bytes(whole(path)[:keep])


def without_delimiter(path: Path) -> None:
    """Encapsulated pixel data whose sequence of fragments does not end."""
    data = whole(path, transfer_syntax="1.2.840.10008.1.2.5")
    path.write_bytes(data[: data.rindex(b"\xfe\xff\xdd\xe0")])


def lying_length(path: Path) -> None:
    """An element that says it has 4 GB."""
    data = whole(path, pixels=None)
    path.write_bytes(data + b"\x30\x00\x00\x40UT\0\0\xf0\xff\xff\xff" + b"text")


def zeros_at_the_end(path: Path) -> None:
    """What a power cut leaves of a file without pixel data."""
    path.write_bytes(whole(path, pixels=None)[:-100] + bytes(4096))


def nested(path: Path) -> None:
    """5,000 sequences, one within the other."""
    deep = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(whole(path, pixels=None) + 5000 * deep + 5000 * close)


def deflate_bomb(path: Path) -> None:
    """300 kB that would inflate to 300 MB before its pixel data."""
    data = whole(path, pixels=None, transfer_syntax=DeflatedExplicitVRLittleEndian)
    begin = 144 + int.from_bytes(data[140:144], "little")
    plain = zlib.decompress(data[begin:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 300_000_000
    body = deflate.compress(plain + b"\x30\x00\x00\x40UT\0\0" + size.to_bytes(4, "little"))
    body += b"".join(deflate.compress(bytes(1_000_000)) for _ in range(size // 1_000_000))
    path.write_bytes(data[:begin] + body + deflate.flush())


#: Name -> how it is made, and the reason under which it must be set aside.
BAD: dict[str, tuple[Make, str]] = {
    "zero-bytes": (made_of(b""), "empty"),
    "text": (made_of(b"This is a text, and no DICOM file. " * 20), "not-dicom"),
    "random": (made_of(random.Random(1).randbytes(5000)), "not-dicom"),
    "zeros": (made_of(bytes(5000)), "not-dicom"),
    "one-byte": (made_of(b"x"), "not-dicom"),
    "mark-only": (made_of(bytes(128) + b"DICM"), "not-dicom"),
    "cut-in-meta": (cut(200), "incomplete"),
    "cut-in-header": (cut(500), "incomplete"),
    "cut-in-pixels": (cut(-10), "incomplete"),
    "cut-by-one": (cut(-1), "incomplete"),
    "no-delimiter": (without_delimiter, "incomplete"),
    "lying-length": (lying_length, "incomplete"),
    "study-absent": (wrong(StudyInstanceUID=ABSENT), "missing-uid"),
    "study-empty": (wrong(StudyInstanceUID=""), "missing-uid"),
    "series-absent": (wrong(SeriesInstanceUID=ABSENT), "missing-uid"),
    "series-empty": (wrong(SeriesInstanceUID=""), "missing-uid"),
    "sop-absent": (wrong(SOPInstanceUID=ABSENT), "missing-uid"),
    "sop-empty": (wrong(SOPInstanceUID=""), "missing-uid"),
    "study-bad": (wrong(StudyInstanceUID="../../../x"), "bad-uid"),
    "series-bad": (wrong(SeriesInstanceUID="1.2.x"), "bad-uid"),
    "sop-bad": (wrong(SOPInstanceUID="/etc/passwd"), "bad-uid"),
    "sop-long": (wrong(SOPInstanceUID="1." * 32 + "1"), "bad-uid"),
    "sop-two": (wrong(SOPInstanceUID=["1.2", "3.4"]), "bad-uid"),
    "zeros-at-the-end": (zeros_at_the_end, "incomplete"),
    "nested": (nested, "too-deep"),
    "deflate-bomb": (deflate_bomb, "too-large"),
    "link-to-file": (lambda path: path.symlink_to(path.parent.parent / "canary.dcm"), "not-regular"),
    "link-to-directory": (lambda path: path.symlink_to("/etc"), "not-regular"),
    "link-to-nothing": (lambda path: path.symlink_to("nothing"), "not-regular"),
    "link-to-itself": (lambda path: path.symlink_to(path.name), "not-regular"),
    "fifo": (os.mkfifo, "not-regular"),
    "socket": (make_socket, "not-regular"),
}


#: Names that a sender or a person may give to a good file.
NAMES = {
    "newline": b"a\nb",
    "leading dash": b"-rf",
    "not UTF-8": b"\xff\xfe\x80",
    "255 bytes": b"n" * 255,
    "255 bytes that are no UTF-8": b"\xc3" * 255,
    "spaces": b"  a b  ",
    "quotes and dollar": b"'\"$(x)`",
    "ends in .json": b"a.json",
    "like a claim": b"1700000000000000000.1.9.x",
}

#: Not a writer's last word: left alone.
UNFINISHED = ("a.part", "a.tmp", ".hidden", ".a.dcm")


def silent(running: Service) -> None:
    """Nothing of a patient on standard output and standard error, nor a traceback."""
    said = running.stdout.decode(errors="backslashreplace") + running.stderr
    assert not [secret for secret in SECRETS if secret in said]
    assert "Traceback" not in said


def some_good(places: Places, first: int, count: int = 5) -> Sent:
    """Good files into incoming, by a copy as a sender would write it."""
    folder = places.base / "sent"
    folder.mkdir(exist_ok=True)
    sources = [good(folder / f"good-{first + number}", number=first + number) for number in range(count)]
    expected = sent(sources)
    for path in sources:
        shutil.copyfile(path, places.incoming / path.name)
    return expected


def test_bad_files_among_good_ones(places: Places) -> None:
    """Each is set aside, as it was, with the right reason and a reason file; good ones go on; nothing else changes."""
    canary = Canary(places)
    expected = some_good(places, 1000)
    before = {}
    for name, (make, _) in BAD.items():
        path = places.incoming / name
        make(path)
        before[name] = (path.lstat().st_mode, path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b"")
    with service(places) as running:
        expected |= some_good(places, 2000)
        settled(running, len(expected) + len(BAD))
        # The service goes on: what comes after them is published too.
        expected |= some_good(places, 3000)
        scrape = settled(running, len(expected) + len(BAD))
        told = {event["src"]: event["reason"] for event in running.events("set-aside")}
        silent(running)
        assert not list(miscounted(scrape, running.events()))
        for reason, count in Counter(reason for _, reason in BAD.values()).items():
            assert value(scrape, "failures_total", reason=reason) == count
            until_value(running, count, "set_aside_files", reason=reason)
    wanted = {name: reason for name, (_, reason) in BAD.items()}
    assert told == wanted
    lying = read_set_aside(places)
    assert {one.path.name: one.reason for one in lying} == wanted
    for one in lying:
        mode = one.path.lstat().st_mode
        assert (mode, one.path.read_bytes() if stat.S_ISREG(mode) else b"") == before[one.path.name]
        record = one.record
        assert record.keys() >= REASON_FIELDS
        assert (record["name"], record["attempts"], record["size"]) == (one.path.name, 1, one.path.lstat().st_size)
        assert record["error"]
        assert not [secret for secret in SECRETS if secret in record["error"]]
    account(places, expected, aside=Counter(wanted.values()))
    assert not list(canary.changed())


@pytest.mark.parametrize("name", BAD)
def test_each_bad_file_alone(places: Places, name: str) -> None:
    """`once` leaves with 1, sets it aside and says why."""
    make, reason = BAD[name]
    canary = Canary(places)
    make(places.incoming / name)
    done = once(places, "--workers", "1")
    assert [(event["event"], event["reason"]) for event in done.events] == [("set-aside", reason)]
    assert done.status == 1
    assert reason in done.stderr
    account(places, {}, aside={reason: 1})
    assert not list(canary.changed())


@pytest.mark.parametrize("flags", [(), ("--cleanup",)], ids=["copying", "moving"])
def test_repack_leaves_bad_files_where_they_are(places: Places, flags: tuple[str, ...]) -> None:
    """Exit 1, a reason for each, nothing moved; the good one among them is published."""
    folder = places.base / "sent"
    folder.mkdir()
    for name, (make, _) in BAD.items():
        make(folder / name)
    source = good(folder / "good", number=99)
    expected, canary = sent([source]), Canary(places)
    done = repack(places, *flags, str(folder))
    assert done.status == 1
    told = {event["src"]: event["reason"] for event in done.events if event["event"] == "set-aside"}
    assert told == {name: reason for name, (_, reason) in BAD.items()}
    assert {path.name for path in folder.iterdir()} == {*BAD, *([] if flags else ["good"])}
    account(places, expected)
    assert not list(canary.changed())


def test_hostile_patient_ids_stay_inside(places: Places) -> None:
    """Filed under sanitised names, each in a document of its own; nothing outside of the roots."""
    folder = places.base / "sent"
    folder.mkdir()
    sources = [
        good(folder / f"{patient}", patient=patient, PatientID=PatientID, SpecificCharacterSet="ISO_IR 192")
        for patient, PatientID in enumerate(HOSTILE.values(), 1)
    ]
    expected, canary = sent(sources), Canary(places)
    with service(places) as running:
        for path in sources:
            shutil.copyfile(path, places.incoming / path.name)
        settled(running, len(sources))
        silent(running)
        for text in HOSTILE.values():
            assert not isinstance(text, str) or len(text) < 4 or text not in running.stdout.decode() + running.stderr
    # Empty and absent share the placeholder's document, so it has two studies.
    account(places, expected)
    assert not list(canary.changed())
    for path in files_below(places.data):
        relative = str(path.relative_to(places.data))
        assert relative.isascii()
        assert all(part.strip(".") and part.isprintable() and len(part) <= 200 for part in relative.split("/"))


ATTRIBUTES = (
    "PatientName",
    "StudyDescription",
    "AccessionNumber",
    "SeriesDescription",
    "PatientBirthDate",
    "StudyDate",
)


def test_hostile_texts_in_every_attribute_of_the_path(places: Places) -> None:
    """The same for the other attributes that paths are made of."""
    folder = places.base / "sent"
    folder.mkdir()
    sources: list[Path] = []
    for number, keyword in enumerate(ATTRIBUTES):
        for text in ("../../x", "/etc/x", "..", "a\nb"):
            name = len(sources)
            sources.append(write_instance(folder / f"{name}", patient=name, number=number, **{keyword: text}))
    expected, canary = sent(sources), Canary(places)
    for path in sources:
        path.rename(places.incoming / path.name)
    assert once(places).status == 0
    account(places, expected)
    assert not list(canary.changed())


@pytest.mark.parametrize("found", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("dots", [".", "..", ".1.2"])
def test_uids_of_dots_stay_inside(places: Places, found: str, dots: str) -> None:
    """Characters that a UID may have, and yet a way out: filed or set aside, not outside, and never hidden."""
    canary = Canary(places)
    overrides: dict[str, Any] = {found: dots}
    good(places.incoming / "dots", **overrides)
    done = once(places)
    assert done.kinds() in (["published"], ["set-aside"])
    assert not list(canary.changed())
    for path in (*files_below(places.data), *files_below(places.log)):
        assert path.resolve().is_relative_to(places.data.parent)
        assert not path.name.startswith(".")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_odd_names_of_good_and_bad_files(places: Places, name: bytes) -> None:
    """A good file is published and a bad one set aside, whatever its name; its event can be read."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(places.incoming), name)))
    with service(places, "--rescan", "0.2") as running:
        expected = sent([good(places.base / "sent")])
        shutil.copyfile(places.base / "sent", path)
        settled(running, 1)
        path.write_bytes(b"no DICOM at all")
        settled(running, 2)
        shown = name.decode("utf-8", "backslashreplace")
        assert [(event["event"], event["src"]) for event in running.events("published", "set-aside")] == [
            ("published", shown),
            ("set-aside", shown),
        ]
        silent(running)
    account(places, expected, aside={"not-dicom": 1})
    (aside,) = read_set_aside(places)
    assert aside.path.read_bytes() == b"no DICOM at all"
    assert aside.record["name"] == shown


def test_the_same_name_set_aside_twice(places: Places) -> None:
    """The second gets a hash suffix; each has its own reason file, and none replaces another."""
    for body in (b"first", b"second", b"third"):
        (places.incoming / "name").write_bytes(body)
        (places.incoming / "name.json").write_bytes(b"json " + body)
        assert once(places).status == 1
    account(places, {}, aside={"not-dicom": 6})
    bodies = sorted(one.path.read_bytes() for one in read_set_aside(places))
    assert bodies == sorted([b"first", b"second", b"third", b"json first", b"json second", b"json third"])


def test_unfinished_names_are_left_alone(places: Places) -> None:
    """`.part`, `.tmp` and dot files wait until they are renamed; directories stay where they are."""
    expected: Sent = {}
    for number, name in enumerate(UNFINISHED):
        expected |= sent([good(places.incoming / name, number=number)])
    (places.incoming / "directory" / "empty").mkdir(parents=True)
    with service(places, "--rescan", "0.2") as running:
        expected |= some_good(places, 1000)
        scrape = settled(running, 5)
        assert value(scrape, "files_discovered_total") == 5
        assert sorted(path.name for path in files_below(places.incoming)) == sorted(UNFINISHED)
        for name in UNFINISHED:
            (places.incoming / name).rename(places.incoming / f"done-{name.strip('.').replace('.', '-')}")
        settled(running, 5 + len(UNFINISHED))
    account(places, expected)
    assert (places.incoming / "directory" / "empty").is_dir()


def test_an_unreadable_file(places: Places) -> None:
    """Set aside as `unreadable`, with a reason file that knows no digest; the others go on."""
    canary = Canary(places)
    with without_powers() as through, service(places, through=through) as running:
        path = good(places.base / "hidden")
        path.chmod(0)
        path.rename(places.incoming / "secret")
        expected = some_good(places, 10)
        settled(running, 6)
        assert [event["reason"] for event in running.events("set-aside")] == ["unreadable"]
        silent(running)
    record = orjson.loads((places.state / "set-aside" / "unreadable" / "secret.json").read_bytes())
    assert (record["reason"], record["digest"]) == ("unreadable", "")
    (places.state / "set-aside" / "unreadable" / "secret").chmod(0o600)
    account(places, expected, aside={"unreadable": 1})
    assert not list(canary.changed())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_files_of_another_user(places: Places) -> None:
    """As from a storescp of another user: neither lease nor hard link is allowed; files must settle and are copied."""
    folder = places.base / "sent"
    folder.mkdir()
    sources = [good(folder / f"{number}", number=number) for number in range(20)]
    expected = sent(sources)
    with without_powers() as through, service(places, "--settle", "0.3", "--rescan", "0.2", through=through) as running:
        for path in sources:
            os.chown(path, 12345, 12345)
            path.rename(places.incoming / path.name)
        scrape = settled(running, 20)
        assert not list(miscounted(scrape, running.events()))
    account(places, expected)
