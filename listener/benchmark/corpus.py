"""Files to measure with: synthetic ones, or copies of given ones, each with its own UIDs.

A template is a file cut where its identifiers stand; a copy joins the pieces with other identifiers of the same length,
which costs little more than writing the file. The same arguments give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from listener.benchmark.request import Shape
from listener.dicom import reader
from listener.dicom.attributes import Limits
from listener.errors import ConfigError, ListenerError
from listener.quickstart.synthetic import Look, make_dataset
from listener.reasons import EmptyFile, NotDicom

_RLE = "1.2.840.10008.1.2.5"
_KEYWORDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

#: With what storescp's name of an MR image begins.
PREFIX = "MR."

#: Digits of new UIDs that vary: two are the same in less than one corpus of 10**12.
_DIGITS = 24


@dataclass(frozen=True, slots=True)
class Template:
    """One file: `pieces`, between them the identifiers by their number in _KEYWORDS; `old` are its own."""

    pieces: tuple[bytes, ...]
    between: tuple[int, ...]
    old: tuple[bytes, ...]

    def copy(self, new: tuple[bytes, ...]) -> bytes:
        """Return the file with other identifiers, each as long as its own."""
        parts = [self.pieces[0]]
        for number, piece in zip(self.between, self.pieces[1:], strict=True):
            parts += (new[number], piece)
        return b"".join(parts)


class Corpus:
    """Templates and the shape of the corpus. Each `seed` gives other UIDs."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._templates = _given(Path(shape.source)) if shape.source else [_cut(_synthetic(shape))]
        if shape.patients > 1:
            _check_patients(self._templates, shape.patients)

    @property
    def mean_size(self) -> float:
        """Return the mean size of a file in bytes."""
        return sum(len(template.copy(template.old)) for template in self._templates) / len(self._templates)

    def write(
        self, folder: Path, count: int, seed: str = "", step: tuple[int, int] = (0, 1), prefix: str = PREFIX
    ) -> int:
        """Write the files of `count` whose number is `step[0]` after a multiple of `step[1]`, with names that begin
        with `prefix`; return the bytes written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = 0
        for name, data in self._copies(range(step[0], count, step[1]), seed):
            with open(folder / f"{prefix}{name}", "wb", buffering=0) as file:
                written += file.write(data)
        return written

    def _copies(self, numbers: range, seed: str) -> Iterator[tuple[str, bytes]]:
        shape = self.shape
        for number in numbers:
            series = number % (shape.patients * shape.series)
            patient = series % shape.patients
            template = self._templates[number // (shape.patients * shape.series) % len(self._templates)]
            old = template.old
            new = (
                _padded(old[0], patient) if shape.patients > 1 else old[0],
                _fresh(old[1], seed, "study", patient),
                _fresh(old[2], seed, "series", series),
                _fresh(old[3], seed, "instance", number),
            )
            yield new[3].decode(), template.copy(new)


def _synthetic(shape: Shape) -> bytes:
    """Return one instance of about that size; its pixels fill what the header leaves."""
    private = min(shape.header, max(0, shape.size - 4096))
    pixels = max(32, shape.size - private - len(_saved(Look(rows=1, columns=1), compressed=False)))
    rows = int((pixels / 2) ** 0.5)
    return _saved(Look(rows=rows, columns=pixels // 2 // rows, private_bytes=private), compressed=shape.compressed)


def _saved(look: Look, *, compressed: bool) -> bytes:
    made = make_dataset(look=look)
    if compressed:
        made.file_meta.TransferSyntaxUID = type(made.file_meta.TransferSyntaxUID)(_RLE)
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.PixelData = _fragments(_rle(made.PixelData))
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _rle(pixels: bytes) -> bytes:
    """Encode 16-bit pixels in RLE Lossless (PS3.5 annex G), by literal runs alone: valid, and no smaller."""
    segments = [_literal(pixels[1::2]), _literal(pixels[0::2])]
    offsets = (2, 64, 64 + len(segments[0]), *[0] * 13)
    return b"".join(number.to_bytes(4, "little") for number in offsets) + b"".join(segments)


def _literal(data: bytes) -> bytes:
    runs = [data[at : at + 128] for at in range(0, len(data), 128)]
    whole = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return whole + b"\x80" * (len(whole) % 2)


def _fragments(data: bytes) -> bytes:
    """Return an empty offset table and one fragment (PS3.5 A.4)."""
    item = b"\xfe\xff\x00\xe0"
    return item + bytes(4) + item + len(data).to_bytes(4, "little") + data


def _given(folder: Path) -> list[Template]:
    """Return templates of all instances in a folder; other files are skipped, as a folder may hold a licence."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    templates = []
    for path in paths:
        try:
            templates.append(_cut(path.read_bytes(), path.name))
        except (NotDicom, EmptyFile):
            continue
        except (OSError, ListenerError) as error:
            raise ConfigError([f"--from: {path.name} cannot be copied: {error}"]) from None
    if not templates:
        raise ConfigError([f"--from: there is no DICOM file in {folder}"])
    return templates


def _cut(data: bytes, name: str = "synthetic") -> Template:
    """Cut a file where its identifiers stand; PatientID is found as an element, since it may be any word."""
    old = _identifiers(data, name)
    head = b"\x10\x00\x20\x00LO" + (len(old[0]) + len(old[0]) % 2).to_bytes(2, "little")
    at = data.find(head + old[0]) if old[0] else -1
    longest_first = sorted(set(old[1:]), key=len, reverse=True)
    uids = re.compile(b"|".join(re.escape(uid) for uid in longest_first))
    cuts = [(found.start(), found.end(), old.index(found[0], 1)) for found in uids.finditer(data)]
    if at >= 0:
        cuts.append((at + len(head), at + len(head) + len(old[0]), 0))
    pieces, between, end = [], [], 0
    for start, stop, number in sorted(cuts):
        pieces.append(data[end:start])
        between.append(number)
        end = stop
    return Template((*pieces, data[end:]), tuple(between), old)


def _identifiers(data: bytes, name: str) -> tuple[bytes, ...]:
    fd = os.memfd_create("listener-bench")
    try:
        os.write(fd, data)
        header = reader.read_header(fd, len(data), reader.Wanted.of(_KEYWORDS), Limits())
    finally:
        os.close(fd)
    found = tuple(header.get(keyword).encode() for keyword in _KEYWORDS)
    if short := [keyword for keyword, value in zip(_KEYWORDS[1:], found[1:], strict=True) if len(value) <= _DIGITS]:
        raise ConfigError([f"--from: {name}: {short[0]} is too short to make others of it"])
    return found


def _fresh(old: bytes, seed: str, *parts: object) -> bytes:
    """Return a UID as long as `old` that belongs to these parts."""
    digits = _DIGITS
    while old[:-digits].endswith(b".0"):  # A component must not begin with 0.
        digits += 1
    digest = int.from_bytes(hashlib.sha256("/".join(map(str, (seed, *parts))).encode()).digest())
    least = 10 ** (digits - 1)
    return old[:-digits] + b"%d" % (least + digest % (9 * least))


def _padded(old: bytes, patient: int) -> bytes:
    return b"%0*d" % (len(old), patient)


def _check_patients(templates: list[Template], patients: int) -> None:
    for template in templates:
        if 0 not in template.between or len(template.old[0]) < len(str(patients - 1)):
            raise ConfigError([f"--patients: the PatientID of what is copied is too short for {patients}"])
