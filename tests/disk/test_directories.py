"""Where everything lives: found out by trying, made with care, and refused in words."""

from __future__ import annotations

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from listener.disk import mounts
from listener.disk.directories import prepare, prepare_direct, remove_killed_runs, remove_leftovers
from listener.disk.mounts import probe_moves
from listener.errors import ConfigError
from listener.planning.names import OWN
from tests.workbench import Bench, contents, make_config, need_root, tmpfs


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def test_on_one_mount_all_of_ours_lies_in_the_state_directory(tmp_path: Path) -> None:
    made = prepare(make_config(tmp_path))
    state = f"{tmp_path}/state/"
    assert all(path.startswith(state) for path in (*made.claims, made.data_staging, made.log_staging, made.set_aside))
    assert made.links == (True,)
    assert os.listdir(tmp_path / "incoming") == os.listdir(tmp_path / "data") == []
    assert os.listdir(tmp_path / "log") == [OWN], "locks of shared documents live where all who share them see them"
    for path in (*made.claims, made.data_staging, made.log_staging, made.locks, made.set_aside):
        assert mode(path) == 0o700


def test_a_second_time_finds_the_same(tmp_path: Path) -> None:
    assert prepare(make_config(tmp_path)) == prepare(make_config(tmp_path))


def test_two_roots_have_claims_of_their_own(tmp_path: Path) -> None:
    made = prepare(make_config(tmp_path, incoming=(str(tmp_path / "a"), str(tmp_path / "b"))))
    assert len(set(made.claims)) == 2


def test_two_listeners_on_one_log_have_staging_of_their_own(tmp_path: Path) -> None:
    one = prepare(make_config(tmp_path))
    other = prepare(make_config(tmp_path, state=str(tmp_path / "other"), incoming=(str(tmp_path / "in2"),)))
    assert one.log_staging != other.log_staging
    assert one.locks == other.locks


@pytest.mark.parametrize(
    ("apart", "claims", "data", "log", "links"),
    [
        ("incoming", "incoming", "state", "state", False),
        ("data", "state", "data", "state", False),
        ("log", "state", "state", "log", True),
        ("state", "incoming", "data", "log", True),
    ],
)
def test_where_rename_cannot_work_ours_lives_below_that_directory(
    apart: str, claims: str, data: str, log: str, links: bool, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / apart):
        made = prepare(make_config(tmp_path))
        for path, home in ((made.claims[0], claims), (made.data_staging, data), (made.log_staging, log)):
            own = "" if home == "state" else f"{OWN}/"
            assert path.startswith(f"{tmp_path}/{home}/{own}"), path
            assert mode(path) == 0o700
        assert made.links == (links,)


def test_two_mounts_of_one_file_system_look_alike_and_still_refuse(tmp_path: Path) -> None:
    """st_dev is equal, rename and link give EXDEV: two volumeMounts of one volume."""
    need_root()
    import subprocess

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "one"), str(tmp_path / "two")], check=True)
    try:
        assert os.stat(tmp_path / "one").st_dev == os.stat(tmp_path / "two").st_dev
        trial = probe_moves(str(tmp_path / "one"), str(tmp_path / "two"))
    finally:
        subprocess.run(["umount", str(tmp_path / "two")], check=True)
    assert (trial.renames, trial.links) == (False, False)


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    trial = probe_moves(str(tmp_path / "a"), str(tmp_path / "b"))
    assert trial.renames
    assert trial.links
    assert contents(tmp_path) == {}


def test_every_directory_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "log").touch()
    config = make_config(tmp_path, state=str(tmp_path / "log/state"), log=str(tmp_path / "log"))
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    said = caught.value.problems
    assert [line.split(":")[0] for line in said] == ["--data", "--log", "--state"]
    assert all(";" in line for line in said)


def test_somebody_else_s_directory_is_refused_with_both_uids() -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        for folder in ("incoming", "data", "log", "state"):
            (base / folder).mkdir()
        os.setresuid(65534, 65534, 0)
        try:
            with pytest.raises(ConfigError) as caught:
                prepare(make_config(base))
        finally:
            os.setresuid(0, 0, 0)
    assert len(caught.value.problems) == 4
    assert "belongs to uid 0, this process is uid 65534" in caught.value.problems[0]


def test_repack_needs_neither_incoming_nor_state(tmp_path: Path) -> None:
    data, log = str(tmp_path / "data"), str(tmp_path / "log")
    one, other = prepare_direct(data, log, ""), prepare_direct(data, log, "")
    assert sorted(os.listdir(tmp_path)) == ["data", "log"]
    assert one.data_staging != other.data_staging, "many may run at once"
    assert one.locks == other.locks == f"{log}/{OWN}/locks"
    assert one.set_aside == ""
    assert prepare_direct(data, log, str(tmp_path / "state")).set_aside == str(tmp_path / "state/set-aside")


def test_temporaries_of_an_earlier_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish()
    published, described = contents(bench.data), contents(bench.log)
    for staging in (bench.directories.data_staging, bench.directories.log_staging):
        Path(staging, "left").write_bytes(b"x")
    Path(bench.directories.claims[0], "1.a.0.x").write_bytes(b"x")
    remove_leftovers(bench.directories)
    assert os.listdir(bench.directories.data_staging) == os.listdir(bench.directories.log_staging) == []
    assert (contents(bench.data), contents(bench.log)) == (published, described)
    assert bench.claims() == ["1.a.0.x"]


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "incoming").write_text("a file")
    (tmp_path / "data").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError) as refused:
        prepare(make_config(tmp_path, state=str(tmp_path / "incoming/state")))
    assert refused.value.problems == [
        f"{option}: cannot make '{path}' ('{above}' is not a directory); give a directory, or move what is there"
        for option, path, above in (
            ("--incoming", tmp_path / "incoming", tmp_path / "incoming"),
            ("--data", tmp_path / "data", tmp_path / "data"),
            ("--state", tmp_path / "incoming/state", tmp_path / "incoming"),
        )
    ]


def test_a_volume_that_nobody_gave_to_our_user_is_told_with_both_uids() -> None:
    """As a pod finds it: this line is all that it says."""
    need_root()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        os.setresuid(65534, 65534, 0)
        try:
            with pytest.raises(ConfigError) as caught:
                prepare(make_config(base))
        finally:
            os.setresuid(0, 0, 0)
    why = f"Permission denied: '{base}' belongs to uid 0, this process is uid 65534"
    remedy = "make it, or give one that can be written"
    assert caught.value.problems[0] == f"--incoming: cannot make '{base}/incoming' ({why}); {remedy}"


# -- trials ------------------------------------------------------------------------------------------------------------


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_start_removes_left_over_trial_files_and_nobody_elses(tmp_path: Path) -> None:
    made = prepare(make_config(tmp_path))
    (home,) = made.claims
    space = mounts.trial_name().split("-")[1]
    left = [
        f"trial-{space}-{ended():x}-00",
        f".trial-{space}-{ended():x}-00-linked",
        "trial-old",
        f"trial-{space}-{os.getpid():x}-1",
    ]
    stay = [f"trial-{space}-1-00", "trial-ffffffff-1-00", "0000.1-1.0.trial-of-a-claim"]
    for name in [*left, *stay]:
        (Path(home) / name).touch()
    os.utime(Path(home) / "trial-old", (0, 0))
    remove_leftovers(made)
    assert sorted(os.listdir(home)) == sorted(stay)


def test_trials_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each takes the directories away when they are empty."""
    one, other = str(tmp_path / "a" / OWN), str(tmp_path / "b" / OWN)
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: probe_moves(one, other), range(400)))
    assert found == {(True, True)}
    assert not os.path.exists(one)


def test_staging_of_runs_that_were_killed_goes_after_a_day(tmp_path: Path) -> None:
    staging = tmp_path / ".listener" / "staging"
    for name in ("repack-1-a", "verify-1-a", "prune", "0123"):
        (staging / name).mkdir(parents=True)
        (staging / name / "file").touch()
        os.utime(staging / name, (1, 1))
    (staging / "verify-2-b").mkdir()
    remove_killed_runs(str(tmp_path))
    assert sorted(path.name for path in staging.iterdir()) == ["0123", "prune", "verify-2-b"]
