"""Instances made for tests of frames: any encoding of pixel data, with tables that are right, absent or wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

LONG = frozenset({"OB", "OW", "OF", "OD", "OV", "UN"})


@dataclass
class Maker:
    """Elements of an instance, written one by one; `implicit` and `little` as the transfer syntax wants."""

    syntax: str = EXPLICIT
    SOPInstanceUID: str = "1.2.3.4"
    StudyInstanceUID: str = "1.2.3"
    SeriesInstanceUID: str = "1.2.3.1"
    vr: str = "OB"

    def element(self, tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
        order = ">" if self.syntax == BIG else "<"
        size = len(value) if length is None else length
        head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if self.syntax == IMPLICIT:
            return head + struct.pack("<L", size) + value
        if vr in LONG:
            return head + vr.encode() + b"\0\0" + struct.pack(order + "L", size) + value
        return head + vr.encode() + struct.pack(order + "H", size) + value

    def us(self, tag: int, number: int) -> bytes:
        return self.element(tag, "US", struct.pack((">" if self.syntax == BIG else "<") + "H", number))

    def text(self, tag: int, vr: str, text: str) -> bytes:
        value = text.encode()
        return self.element(tag, vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))

    def header(self, rows: int, columns: int, bits: int, frames: int | None, samples: int = 1) -> bytes:
        parts = [
            self.text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7"),
            self.text(0x00080018, "UI", self.SOPInstanceUID),
            self.text(0x00080060, "CS", "OT"),
            self.text(0x0020000D, "UI", self.StudyInstanceUID),
            self.text(0x0020000E, "UI", self.SeriesInstanceUID),
            self.us(0x00280002, samples),
            self.text(0x00280004, "CS", "RGB" if samples == 3 else "MONOCHROME2"),
            self.text(0x00280008, "IS", str(frames)) if frames is not None else b"",
            self.us(0x00280010, rows),
            self.us(0x00280011, columns),
            self.us(0x00280100, bits),
        ]
        return b"".join(parts)

    def file(self, dataset: bytes) -> bytes:
        explicit = Maker()
        uid = explicit.text(0x00020010, "UI", self.syntax)
        meta = explicit.element(0x00020001, "OB", b"\0\1") + explicit.text(0x00020003, "UI", self.SOPInstanceUID) + uid
        return bytes(128) + b"DICM" + explicit.element(0x00020000, "UL", struct.pack("<L", len(meta))) + meta + dataset

    def native(self, header: dict[str, Any], pixels: bytes, tag: int = 0x7FE00010) -> bytes:
        value = pixels + b"\0" * (len(pixels) % 2)
        return self.file(self.header(**header) + self.element(tag, self.vr, value))

    def encapsulated(
        self, header: dict[str, Any], frames: Sequence[Sequence[bytes]], table: str = "none", offset: int = 0
    ) -> bytes:
        """`frames` are lists of fragments, padded here; `table`: none, basic, wrapped, lying, extended, short."""
        items, starts, sizes = b"", [], []
        for fragments in frames:
            starts.append(len(items) + offset)
            sizes.append(sum(map(len, fragments)))
            for fragment in fragments:
                value = fragment + b"\0" * (len(fragment) % 2)
                items += struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value
        basic, extended = b"", b""
        if table == "basic":
            basic = struct.pack(f"<{len(starts)}L", *starts)
        elif table == "lying":
            basic = struct.pack(f"<{len(starts)}L", *[start + 2 for start in starts])
        elif table == "wrapped":
            basic = struct.pack(f"<{len(starts)}L", *[start % 64 for start in starts])
        elif table == "short":
            basic = struct.pack(f"<{len(starts) - 1}L", *starts[:-1])
        elif table == "extended":
            extended = self.element(0x7FE00001, "OV", struct.pack(f"<{len(starts)}Q", *starts))
            extended += self.element(0x7FE00002, "OV", struct.pack(f"<{len(sizes)}Q", *sizes))
        value = struct.pack("<HHL", 0xFFFE, 0xE000, len(basic)) + basic + items + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        return self.file(self.header(**header) + extended + self.element(0x7FE00010, "OB", value, length=0xFFFFFFFF))


def header(rows: int = 2, columns: int = 2, bits: int = 8, frames: int | None = 1, samples: int = 1) -> dict[str, Any]:
    return {"rows": rows, "columns": columns, "bits": bits, "frames": frames, "samples": samples}


def jpeg(number: int, length: int = 40) -> bytes:
    """Bytes with the marks of a JPEG stream; no picture."""
    body = bytes((number * 7 + index) % 250 for index in range(length))
    return b"\xff\xd8\xff\xe0" + body + b"\xff\xd9"


def cut(data: bytes, parts: int) -> list[bytes]:
    """`data` in so many pieces of even length, but for the last."""
    size = max(2, len(data) // parts // 2 * 2)
    return [data[index * size : (index + 1) * size if index < parts - 1 else None] for index in range(parts)]


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)
