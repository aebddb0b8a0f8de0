from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from listener.export import directory
from listener.export.target import Found
from listener.export.unseen import Unseen
from listener.export.upload import Written
from tests.export.collection import Collection


def test_only_what_lies_beside_many_others_is_listed() -> None:
    many = [f"data/a/{number}" for number in range(16)]
    unseen = Unseen([*many, *(f"data/b/{number}" for number in range(15))])
    assert unseen.later("data/b/0") is None
    for key in reversed(many):
        later = unseen.later(key)
        assert later
        later(Written(key, Found(1)))
    (run,) = unseen.runs()
    assert [one.key for one in run] == sorted(many)


def test_a_run_is_of_one_folder_and_no_longer_than_a_page() -> None:
    keys = [f"data/{folder}/{number:04d}" for folder in "ab" for number in range(1001)]
    unseen = Unseen(keys)
    for key in keys:
        later = unseen.later(key)
        assert later
        later(Written(key, Found(1)))
    runs = [[one.key for one in run] for run in unseen.runs()]
    assert [len(run) for run in runs] == [1000, 1, 1000, 1]
    assert [key for run in runs for key in run] == keys


@pytest.mark.parametrize("mode", ["head", "read"])
def test_what_a_target_lost_after_it_was_written_is_written_again(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the manifest: of twenty objects one is cut, and one is gone, when the last was written."""
    looks: Counter[str] = Counter()
    look_at = directory.DirectoryTarget.look_at

    def lossy(self: directory.DirectoryTarget, keys: list[str]) -> object:
        looks["together"] += len(keys)
        Path(self.shown, keys[3]).unlink()
        Path(self.shown, keys[5]).write_bytes(b"cut")
        return look_at(self, keys)

    monkeypatch.setattr(directory.DirectoryTarget, "look_at", lossy)
    with closing(Collection(tmp_path)) as world:
        assert world.export("once") == 0
        paths = world.add(0, *range(1, 21))
        world.end()
        assert world.export("once", "--verify", mode) == 0
        entries = world.manifest(0).entries
        assert [(world.target / one.key).read_bytes() for one in entries] == [path.read_bytes() for path in paths]
        assert looks["together"] == (20 if mode == "head" else 0)
        assert len([one for one in entries if "~" in one.key]) == (1 if mode == "head" else 0)
        assert world.consumer().delivered == 1
