from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.export import archive
from listener.export.archive import Member

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150).filter(
    lambda name: not name.startswith("/") and not name.endswith("/") and "//" not in name
)
MEMBERS = st.lists(st.tuples(NAMES, st.integers(0, 2000)), max_size=8, unique_by=lambda one: one[0]).map(
    lambda all_: [Member(*one) for one in all_]
)


def whole(members: list[Member]) -> bytes:
    data = b""
    for number, member in enumerate(members):
        data += archive.header(member) + bytes([number + 1]) * member.size + bytes(archive.padding(member.size))
    return data + archive.trailer(len(data))


@settings(max_examples=30)
@given(MEMBERS)
def test_python_reads_what_was_made_and_each_offset_is_right(members: list[Member]) -> None:
    data = whole(members)
    begins, size = archive.offsets(members)
    assert (len(data), size % archive.RECORD) == (size, 0)
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        found = opened.getmembers()
    assert [(one.name, one.size) for one in found] == list(members)
    assert [one.offset_data for one in found] == begins
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) for one in found} <= {
        (0, 0, 0, "", "", 0o644)
    }


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_other_programs_read_it(program: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    members = [Member("a.dcm", 5), Member("d" * 120 + "/größe x.dcm", 513), Member("empty", 0)]
    (tmp_path / "x.tar").write_bytes(whole(members))
    done = subprocess.run(
        [program, "-xf", "x.tar"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    for number, member in enumerate(members):
        assert (tmp_path / member.name).read_bytes() == bytes([number + 1]) * member.size


def test_a_member_of_eight_gibibytes_and_more_has_its_size_in_a_pax_header() -> None:
    head = archive.header(Member("x", 2**33))
    with tarfile.open(fileobj=io.BytesIO(head + bytes(10 * 512))) as opened:
        found = opened.next()
    assert found is not None
    assert (found.size, found.name) == (2**33, "x")


@settings(max_examples=30)
@given(MEMBERS, st.integers(0, 30_000))
def test_volumes_are_cut_at_members_and_none_is_too_large(members: list[Member], most: int) -> None:
    runs = list(archive.volumes(members, most))
    assert [member for run in runs for member in run] == members
    assert all(len(run) == 1 or archive.offsets(run)[1] <= most for run in runs)
