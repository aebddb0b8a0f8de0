"""The ends of a part's files, whenever it was killed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from listener.backfill.journal import ENDS, SERIES, Journal, series_of
from listener.disk.directories import Directories
from listener.records import Outcome
from listener.repacking.context import PathKeys

#: Keys of what lies below "/", which is called "".
KEYS = PathKeys(Directories(incoming=("",), root_names=("",), data="/data", log="/log", state="/state"))


def path_key(path: str) -> bytes:
    return KEYS.of(0, path)


def outcome(path: str, kind: str = "published", *, series: str = "1.2", size: int = 10, claim: str = "") -> Outcome:
    return Outcome(kind, path, 0, 1, 2, size=size, SeriesInstanceUID=series, claim=claim)


def test_each_listed_file_has_one_end(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), KEYS, syncs=True)
    assert [journal.list(0, name) for name in ("/a", "/b", "/c", "/d", "/a")] == [True, True, True, True, False]
    journal.record([outcome("/a"), outcome("/b", "duplicate", series="1.3"), outcome("/c", "set-aside", series="9")])
    ends = journal.ends()
    assert (dict(ends.counts), ends.left, ends.listed, ends.bytes) == (
        {"published": 1, "duplicate": 1, "set-aside": 1}, 1, 4, 10
    )  # fmt: skip
    journal.close()
    assert series_of(str(tmp_path)) == ["1.2", "1.3"]


def test_what_is_done_again_after_a_kill_counts_once_and_what_was_published_stays_so(tmp_path: Path) -> None:
    first = Journal(str(tmp_path), KEYS, syncs=False)
    first.list(0, "/a")
    first.record([outcome("/a")])
    first.close()
    again = Journal(str(tmp_path), KEYS, syncs=False)
    claim = f"/claims/0000000000000000001.1a-0-{path_key('/a').hex()}.1.a"
    assert again.list_claims([claim, "/claims/.copying-1", "/claims/0000000000000000001.1a-0.1.b"]) == {path_key("/a")}
    assert again.list(0, "/a"), "it is no repetition within this list"
    assert not again.list(0, "/a")
    again.record([outcome("/wherever/a", "duplicate", claim=claim)])
    ends = again.ends()
    assert (dict(ends.counts), ends.left, ends.bytes) == ({"published": 1}, 0, 10)
    again.close()


def test_a_record_that_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), KEYS, syncs=False)
    for name in ("/a", "/b"):
        journal.list(0, name)
    journal.record([outcome("/a"), outcome("/b", series="1.4")])
    journal.close()
    for name in (ENDS, SERIES):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-1])
    again = Journal(str(tmp_path), KEYS, syncs=False)
    assert again.ends().listed == 1
    again.record([outcome("/b", series="1.4")])
    assert again.ends().counts == {"published": 2}
    again.close()
    assert series_of(str(tmp_path)) == ["1.2", "1.4"]


def test_a_file_that_vanished_and_came_is_no_more_vanished(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), KEYS, syncs=False)
    journal.list(0, "/a")
    journal.record([outcome("/a", "vanished", series="")])
    assert journal.has_ended(0, "/a")
    journal.record([outcome("/a")])
    assert journal.ends().counts == {"published": 1}
    journal.close()


def test_a_name_that_is_gone_takes_no_end_from_a_file(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), KEYS, syncs=False)
    for name in ("/a", "/b"):
        journal.list(0, name)
    journal.record([outcome("/a"), outcome("/b", "duplicate")])
    # As where the kernel of another host shows names for a while that were claimed.
    journal.record([outcome("/a", "vanished", series=""), outcome("/b", "vanished", series="")])
    assert journal.ends().counts == {"published": 1, "duplicate": 1}
    journal.close()
    again = Journal(str(tmp_path), KEYS, syncs=False)
    assert again.ends().counts == {"published": 1, "duplicate": 1}
    again.close()


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), st.sampled_from(["/", "/mnt/x", "/é"])
)
def test_keys_are_the_same_wherever_incoming_is_mounted(name: str, root: str) -> None:
    def keys(incoming: str, inode: str = "1f") -> PathKeys:
        return PathKeys(Directories(incoming=(incoming,), root_names=(inode,), data="/", log="/", state="/"))

    assert keys("/archive").of(0, f"/archive/P/{name}") == keys(root).of(0, f"{root}/P/{name}")
    assert keys("/archive").of(0, f"/archive/{name}") != keys("/archive", "2f").of(0, f"/archive/{name}")
