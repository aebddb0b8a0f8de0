"""Which files a part has: each file of incoming is one part's, and a list is taken as it was meant or not at all."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.backfill.listing import FileList, in_share, walk_share
from listener.backfill.request import DIRECTORY, NAME, Share
from listener.errors import ConfigError


def never(error: OSError) -> None:
    raise error


def tree(root: Path) -> set[str]:
    """Directories of several depths, some without files, some with both; and what no part has."""
    files = [f"s{study}/{series}/IM{number}" for study in range(9) for series in range(3) for number in range(study)]
    files += ["flat1", "flat2", "s1/beside", "deep/er/and/deeper/x"]
    for name in [*files, "s1/.hidden", "s1/x.part", ".listener/owner"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "link").symlink_to(root / "s8")
    return {str(root / name) for name in [*files, "link"]}


@pytest.mark.parametrize("by", [DIRECTORY, NAME])
@pytest.mark.parametrize("counts_links", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 7, 64])
def test_each_file_belongs_to_one_part(tmp_path: Path, by: str, parts: int, *, counts_links: bool) -> None:
    wanted = tree(tmp_path)
    found = [
        list(walk_share(str(tmp_path), Share(part, parts, by), never, counts_links=counts_links))
        for part in range(parts)
    ]
    assert Counter(path for one in found for path in one) == Counter(wanted)
    if by == DIRECTORY:
        for folder in {os.path.dirname(path) for path in wanted}:
            assert sum(any(os.path.dirname(path) == folder for path in one) for one in found) == 1, folder


def test_a_directory_without_directories_is_not_listed_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not ours and has no directory below costs one look, not a listing."""
    if os.stat(tmp_path).st_nlink != 2:
        pytest.skip("this file system does not count directories as links")
    wanted = tree(tmp_path)
    listed: list[str] = []
    scandir = os.scandir

    def noting(path: str) -> Any:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)
    found = list(walk_share(str(tmp_path), Share(0, 7), never))
    above = {os.path.dirname(os.path.dirname(path)) for path in wanted}
    assert set(listed) - above - {str(tmp_path), f"{tmp_path}/deep", f"{tmp_path}/deep/er"} <= {
        folder for folder, *_ in os.walk(tmp_path) if in_share(folder[len(str(tmp_path)) + 1 :], Share(0, 7))
    }
    assert found


@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 10, 47}), max_size=9))
def test_the_share_of_a_name_depends_on_its_bytes_alone(names: list[bytes]) -> None:
    for name in map(os.fsdecode, names):
        assert [in_share(name, Share(part, 5)) for part in range(5)].count(True) == 1


def test_studies_spread_evenly() -> None:
    ours = [sum(in_share(f"P{number}/1.2.3.{number}", Share(part, 8)) for number in range(2000)) for part in range(2)]
    assert 190 < min(ours) <= max(ours) < 310


# -- lists -------------------------------------------------------------------------------------------------------------


def checked(data: bytes, root: Path, share: Share | None = None) -> tuple[list[str], list[int]]:
    """Paths of a list, without the root, and how many names there are, are ignored, and stand there twice."""
    seen: set[str] = set()

    def note(_root: int, path: str) -> bool:
        known = path in seen
        seen.add(path)
        return not known

    listed = FileList(io.BytesIO(data), (str(root),), share)
    names = listed.check(note)
    return [path[len(str(root)) + 1 :] for _, path in listed], [names.names, names.ignored, names.repeated]


@pytest.mark.parametrize(
    ("data", "paths", "numbers"),
    [
        (b"", [], [0, 0, 0]),
        (b"a\nb/c\n", ["a", "b/c"], [2, 0, 0]),
        (b"a\0b\nc\0", ["a", "b\nc"], [2, 0, 0]),
        (b"./a\n.//b/./c\n\n", ["a", "b/c"], [2, 0, 0]),
        (b"a\na\nb\n", ["a", "a", "b"], [3, 0, 1]),
        (b".listener/claim/x\nb/.hidden\nx.part\na\n", ["a"], [1, 3, 0]),
        (b"b/\xff\xfe\n", ["b/\udcff\udcfe"], [1, 0, 0]),
        (b"b/" + b"x" * 98 + b"\0", ["b/" + "x" * 98], [1, 0, 0]),
        ((b"b/" + b"x" * 98 + b"\0") * 12_000, ["b/" + "x" * 98] * 12_000, [12_000, 0, 11_999]),
    ],
)
def test_a_list_is_read(tmp_path: Path, data: bytes, paths: list[str], numbers: list[int]) -> None:
    (tmp_path / "b").mkdir()
    assert checked(data, tmp_path) == (paths, numbers)


def test_absolute_names_are_read_and_shared_out(tmp_path: Path) -> None:
    names = [f"{tmp_path}/s{number}/x" for number in range(50)]
    data = "".join(f"{name}\0" for name in names).encode()
    found = [checked(data, tmp_path, Share(part, 3))[0] for part in range(3)]
    assert sorted(path for one in found for path in one) == sorted(name[len(str(tmp_path)) + 1 :] for name in names)
    assert all(found)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a\nIM00", "the last name has no end"),
        (b"a\0b", "the last name has no end"),
        (b"a\n/etc/passwd\n", r"is not below incoming \(name 2\)"),
        (b"a\nb/../../x\n", r"goes through '..' \(name 2\)"),
        (b"..\n" * 9, r"9 names refused, each goes through '..' \(name 1, 2, 3, 4, 5 ...\)"),
        (b"link/x\n", r"goes through a link \(name 1\)"),
        (b"a\nb\0c\n", "has no end|holds a NUL"),
        (b".\n", "is not below incoming"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_whole_and_no_name_is_told(
    tmp_path: Path, data: bytes, what: str
) -> None:
    (tmp_path / "link").symlink_to("/usr")
    with pytest.raises(ConfigError, match=what) as caught:
        checked(data, tmp_path)
    assert "passwd" not in str(caught.value)


def test_of_several_incoming_directories_that_which_has_the_file(tmp_path: Path) -> None:
    roots = tuple(str(tmp_path / name) for name in "ab")
    for root in roots:
        Path(root).mkdir()
    (tmp_path / "b/x").touch()
    listed = FileList(io.BytesIO(b"x\ny\n"), roots)
    listed.check(lambda _root, _path: True)
    assert list(listed) == [(1, f"{roots[1]}/x"), (0, f"{roots[0]}/y")]
