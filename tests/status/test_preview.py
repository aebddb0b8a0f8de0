"""Previews by a real DCMTK, where it is installed."""

from __future__ import annotations

import os
import shutil
import struct
import time
from pathlib import Path

import pydicom
import pytest

from listener.quickstart.synthetic import make_series
from listener.status import preview
from listener.status.preview import NoPreview, Previews
from tests.instances import write_instance
from tests.waiting import until


@pytest.fixture(autouse=True)
def dcmtk() -> None:
    if not preview.program():
        pytest.skip("DCMTK's dcmj2pnm is not installed (.ci/need dcmtk)")


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A file with an image."""
    (tmp_path / "series").mkdir()
    return str(make_series(tmp_path / "series", instances=1)[0])


def width(png: bytes) -> int:
    assert png.startswith(b"\x89PNG")
    return int(struct.unpack(">I", png[16:20])[0])


def kept(state: Path) -> list[Path]:
    return sorted((state / "preview").glob("*"))


@pytest.mark.real
def test_an_image_is_drawn_once_and_kept_where_nobody_else_looks(tmp_path: Path, image: str) -> None:
    previews = Previews(str(tmp_path))
    first = previews.of(image)
    assert width(first) == preview.WIDTH
    (one,) = kept(tmp_path)
    assert (tmp_path / "preview").stat().st_mode & 0o777 == 0o700
    changed = one.stat().st_mtime_ns
    assert previews.of(image) == first
    assert one.stat().st_mtime_ns == changed, "not drawn again"
    preview.forget(str(tmp_path))
    assert kept(tmp_path) == []


@pytest.mark.real
def test_what_holds_no_image_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    previews = Previews(str(tmp_path))
    plain = write_instance(tmp_path / "plain")
    read = pydicom.dcmread(plain)
    del read.PixelData
    read.save_as(plain)
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(5000))
    for path in (plain, noise):
        with pytest.raises(NoPreview, match="DCMTK cannot draw it"):
            previews.of(str(path))
    with pytest.raises(NoPreview, match="cannot be read"):
        previews.of(str(tmp_path / "nowhere"))
    assert kept(tmp_path) == []


@pytest.mark.real
def test_what_takes_too_long_is_ended(tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of DCMTK a program that would not end, not even when it is asked to."""
    stuck = tmp_path / "stuck"
    last = 'for half in "$@"; do :; done; echo half > "$half"'
    stuck.write_text(f"#!/bin/sh\ntrap '' TERM\n{last}\nwhile :; do sleep 1; done\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(preview, "program", lambda: str(stuck))
    monkeypatch.setattr(preview, "SECONDS", 0.3)
    begun = time.monotonic()
    with pytest.raises(NoPreview, match="took longer"):
        Previews(str(tmp_path)).of(image)
    assert time.monotonic() - begun < 60
    assert kept(tmp_path) == [], "nor is half an image left"


@pytest.mark.real
def test_the_process_table_does_not_name_the_patient(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, program = tmp_path / "told", tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\nexec {preview.program()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(preview, "program", lambda: str(program))
    state = tmp_path / "state"
    state.mkdir()
    assert width(Previews(str(state)).of(image)) == preview.WIDTH
    assert Path(image).name not in told.read_text()
    assert str(state) in told.read_text()


@pytest.mark.real
def test_a_program_gets_no_more_memory_than_its_limit(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "limits"
    told = tmp_path / "told"
    shown.write_text(f"#!/bin/sh\nsleep 0.3\ncat /proc/self/limits > {told}\nexit 1\n")
    shown.chmod(0o755)
    monkeypatch.setattr(preview, "program", lambda: str(shown))
    with pytest.raises(NoPreview):
        Previews(str(tmp_path)).of(image)
    until(told.exists, 5)
    limits = {line[:26].strip(): line[26:].split()[1] for line in told.read_text().splitlines()[1:]}
    assert limits["Max address space"] == str(2**30)
    assert limits["Max cpu time"] == "3"
    assert limits["Max file size"] == str(8 * 2**20)


@pytest.mark.real
def test_no_more_are_kept_than_may_be_and_none_for_longer_than_a_day(tmp_path: Path, image: str) -> None:
    previews = Previews(str(tmp_path))
    folder = tmp_path / "preview"
    folder.mkdir()
    now = time.time()
    for number in range(300):
        (folder / f"{number}.png").write_bytes(b"x")
        os.utime(folder / f"{number}.png", (now - 3600 - number, now - 3600 - number))
    os.utime(folder / "0.png", (now - 90_000, now - 90_000))
    previews.of(image)
    assert len(kept(tmp_path)) == 200
    assert not (folder / "0.png").exists()


def test_without_dcmtk_it_says_so(tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NoPreview, match="not installed"):
        Previews(str(tmp_path)).of(image)
