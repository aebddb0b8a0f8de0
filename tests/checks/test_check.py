"""`listener check`: findings with remedies; nothing is left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.checks import check, configuration, directories, system
from listener.checks import storescp as storescp_checks
from listener.checks.check import NOTE, OK, PROBLEM, Finding
from listener.disk.mounts import Mount, mount_of
from listener.service.lock import IncomingLock
from tests.checks.configured import about, made, texts
from tests.dicomnet import storescp
from tests.service_process import Places, listener, service
from tests.workbench import make_config, need_root, tmpfs

FOLDERS = ("incoming", "data", "log", "state")


def test_all_is_well(tmp_path: Path) -> None:
    config = made(tmp_path)
    found = list(check.findings(config))
    assert {one.level for one in found} <= {OK, NOTE}
    assert {one.about for one in found if one.level == OK} >= {"--incoming", "--data", "--log", "--state", "--layout"}
    assert any("by a link" in one.text for one in found)
    assert check.run(config, "", as_json=False) == 0


def test_nothing_is_made_and_nothing_is_left(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    list(check.findings(config))
    assert list(tmp_path.iterdir()) == []
    config = made(tmp_path)
    list(check.findings(config))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(FOLDERS)


def test_every_problem_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "log").touch()
    config = make_config(tmp_path, log=str(tmp_path / "log/below"), min_free=2**62, image_template="%InstanceNumber")
    found = [one for one in check.findings(config) if one.level == PROBLEM]
    assert {one.about for one in found} >= {"--data", "--log", "--image-template", "--incoming"}
    assert all(one.remedy for one in found)


def test_a_directory_that_is_not_there_yet_is_a_note(tmp_path: Path) -> None:
    assert any("will be made" in text for text in about(make_config(tmp_path), NOTE))
    assert about(make_config(tmp_path), PROBLEM) == []


def test_too_little_space_is_a_problem_with_both_numbers(tmp_path: Path) -> None:
    problems = about(made(tmp_path, min_free=2**60), PROBLEM)
    assert len(problems) == 4
    assert "below --min-free (1.15 EB)" in problems[0]


def test_an_owner_is_told(tmp_path: Path) -> None:
    config = made(tmp_path)
    owner = IncomingLock(config.incoming)
    try:
        assert any("Another listener owns" in text for text in about(config, NOTE))
        assert about(config, PROBLEM) == []
    finally:
        owner.close()


def test_two_mounts_are_told_with_their_price(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "data"):
        notes = about(made(tmp_path), NOTE)
    assert any("every byte is copied" in text and "mount one volume once" in text for text in notes)
    assert not any("renamed" in text for text in notes)


def test_a_claim_that_cannot_leave_incoming_is_told(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "incoming"):
        notes = about(made(tmp_path), NOTE)
    assert any("claims will live in" in text and ".listener" in text for text in notes)


@pytest.mark.parametrize(("name", "other"), [("data", "log"), ("incoming", "data")])
@pytest.mark.parametrize("below", ["", "below"])
def test_directories_that_are_one_once_links_are_followed(
    name: str, other: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    (tmp_path / name).rmdir()
    (tmp_path / other / "below").mkdir()
    (tmp_path / name).symlink_to(tmp_path / other / below)
    assert cli.main(["check", *(f"--{one}={tmp_path / one}" for one in FOLDERS)]) == 2
    said = capsys.readouterr().err
    assert f"--{other}" in said
    assert f"--{name}" in said


@pytest.mark.parametrize(
    ("templates", "problem"),
    [
        ({}, False),
        ({"image_template": "%InstanceNumber"}, True),
        ({"image_template": "x", "series_template": "%SOPInstanceUID"}, False),
        ({"image_template": "%_md5|8_SOPInstanceUID"}, False),
    ],
)
def test_every_instance_must_have_a_path_of_its_own(templates: dict[str, str], problem: bool, tmp_path: Path) -> None:
    assert any("one path" in text for text in about(made(tmp_path, **templates), PROBLEM)) is problem


def test_somebody_else_s_directory(tmp_path: Path) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        config = made(base)
        base.chmod(0o755)
        os.setresuid(65534, 65534, 0)
        try:
            problems = about(config, PROBLEM)
        finally:
            os.setresuid(0, 0, 0)
    assert len(problems) == 4
    assert "uid 65534 cannot write" in problems[0]
    assert "run listener and storescp under one uid" in problems[0]


def test_polling_needs_no_inotify(tmp_path: Path) -> None:
    assert "--poll" not in {one.about for one in check.findings(made(tmp_path, poll=True))}


@pytest.mark.parametrize(("values", "level"), [(("128", "8192", "16384"), OK), (("4", "8192", "1"), NOTE), ((), NOTE)])
def test_limits_of_inotify(values: tuple[str, ...], level: str, tmp_path: Path) -> None:
    proc = tmp_path / "proc/sys/fs/inotify"
    proc.mkdir(parents=True)
    for name, number in zip(("max_user_instances", "max_user_watches", "max_queued_events"), values, strict=False):
        (proc / name).write_text(number)
    (found,) = system.inotify(made(tmp_path / "base"), proc=str(tmp_path / "proc"))
    assert found.about == "--poll"
    assert found.level == level
    assert bool(found.remedy) is (level == NOTE)


def test_lines_for_people_and_for_programs(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    made(tmp_path)
    command = ["check", "--min-free=0", *(f"--{name}={tmp_path / name}" for name in FOLDERS)]
    assert cli.main(command) == 0
    words = capsysbinary.readouterr().out.decode().splitlines()
    assert cli.main([*command, "--json"]) == 0
    lines = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert len(words) == len(lines)
    for text, line in zip(words, lines, strict=True):
        finding = Finding(**line)
        assert text.split()[0] == finding.level
        assert finding.text in text


def test_a_problem_makes_the_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    command = ["check", *(f"--{name}={tmp_path / name}" for name in FOLDERS)]
    assert cli.main([*command, "--min-free=0", "--image-template=x"]) == 1
    assert "problem  --image-template: " in capsys.readouterr().out


def test_staging_on_another_mount_is_told(tmp_path: Path) -> None:
    for name in ("data", "log"):
        with tmpfs(tmp_path / name):
            notes = about(made(tmp_path), NOTE)
        assert any(f"staging will live in '{tmp_path / name}/.listener'" in text for text in notes)


def test_read_only_is_told_as_such(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "log") as path:
        config = made(tmp_path)
        subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
        (problem,) = about(config, PROBLEM)
        subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
    assert "is mounted read-only" in problem


def test_no_inodes_are_told(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state", "1m,nr_inodes=10"):
        assert any("inodes are free" in text for text in about(made(tmp_path), PROBLEM))


@pytest.mark.parametrize(
    ("kind", "told"), [("nfs4", True), ("fuse.sshfs", True), ("cifs", True), ("ext4", False), ("tmpfs", False)]
)
def test_a_network_file_system(kind: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "mount_of", lambda path: Mount("1", kind))
    assert any(kind in text and "--poll" in text for text in about(made(tmp_path), NOTE)) is told
    assert not any(kind in text and "--poll" in text for text in about(made(tmp_path, poll=True), NOTE))


@pytest.mark.parametrize(
    "mount",
    [
        Mount("1", "fuse.s3fs", "s3fs"),
        Mount("1", "fuse.rclone", "remote:bucket"),
        Mount("1", "fuse", "goofys"),
        Mount("1", "fuse.mount-s3", "mountpoint-s3"),
    ],
)
def test_an_object_store_is_named(mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "mount_of", lambda path: mount)
    problems = about(made(tmp_path), PROBLEM)
    assert len(problems) == 4
    assert all("object store" in text for text in problems)


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        (Mount("1", "nfs", "server:/d", frozenset(["rw", "local_lock=all"])), "local_lock=all"),
        (Mount("1", "nfs4", "server:/d", frozenset(["rw", "local_lock=none"])), ""),
        (Mount("1", "cifs", "//server/d", frozenset(["rw", "nobrl"])), "nobrl"),
        (Mount("1", "lustre", "server:/d", frozenset(["rw", "localflock"])), "localflock"),
        (Mount("1", "fuse.sshfs", "server:/d", frozenset(["rw"])), "fuse.sshfs leaves them to the kernel"),
        (Mount("1", "ext4", "/dev/sda", frozenset(["rw", "nolock"])), ""),
    ],
)
def test_locks_that_other_machines_do_not_see(
    mount: Mount, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "mount_of", lambda path: mount)
    told = [text for text in about(made(tmp_path), NOTE) if "by this machine alone" in text]
    assert [f"({why})" in text for text in told] == ([True] * 2 if why else [])


def test_the_kernel_tells_the_mount(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "m m"):
        mount = mount_of(str(tmp_path / "m m"))
        below = mount_of(str(tmp_path))
        assert mount is not None
        assert mount.kind == "tmpfs"
        assert "rw" in mount.options
        assert below is not None
        assert mount.number != below.number
    assert mount_of(str(tmp_path / "absent")) is None


def refusing(number: int) -> Any:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_locks_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS a directory cannot be locked for it cannot be opened for writing (EBADF, flock(2))."""
    config = made(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    problems = about(config, PROBLEM)
    assert [text.split(":")[0] for text in problems] == ["--log", "--incoming"]
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    (problem,) = about(config, PROBLEM)
    assert "a second one was granted" in problem


def test_a_clock_that_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made(tmp_path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    assert any("90 s behind" in text for text in about(config, NOTE))
    monkeypatch.setattr(time, "time", lambda: now - 90)
    assert any("90 s ahead of" in text for text in about(config, NOTE))


def test_somebody_else_s_tree_that_was_taken_over() -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        config = made(base)
        for path in (base, *base.iterdir()):
            path.chmod(0o777)
        (base / "log/seriesData").mkdir(mode=0o755)
        (base / "data/P0000").mkdir(mode=0o755)
        assert about(config, PROBLEM) == []
        os.setresuid(65534, 65534, 0)
        try:
            problems = about(config, PROBLEM)
        finally:
            os.setresuid(0, 0, 0)
    assert [text.split(":")[0] for text in problems] == ["--data", "--log"]
    assert all("belongs to uid 0" in text and "P0000" not in text for text in problems)


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({"dir_mode": 0o700}, NOTE, "--dir-mode is 0700"),
        ({"dir_mode": 0o500}, PROBLEM, "--dir-mode 0500"),
        ({"file_mode": 0o600}, NOTE, "--file-mode is 0600"),
        ({"file_mode": 0o044}, PROBLEM, "--file-mode 0044"),
        ({"dir_mode": 0o755, "file_mode": 0o644}, NOTE, ""),
    ],
)
def test_modes_that_shut_somebody_out(changes: dict[str, int], level: str, said: str, tmp_path: Path) -> None:
    found = [text for text in about(made(tmp_path, **changes), level) if text.startswith(("--dir-mode", "--file-mode"))]
    assert any(said in text for text in found) if said else found == []


def test_a_umask_and_a_closed_root(tmp_path: Path) -> None:
    config = made(tmp_path)
    (tmp_path / "log").chmod(0o700)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nUmask:\t0077\n")
    (note,) = texts(directories.readers(config, proc=str(tmp_path / "proc")), NOTE)
    assert note.startswith("--dir-mode")
    assert f"'{tmp_path / 'log'}' has mode 0700" in note
    assert "the umask is 0077" in note


@pytest.mark.parametrize(("limit", "workers", "problem"), [(100, 1, True), (1024, 64, False), (256, 64, True)])
def test_open_files(limit: int, workers: int, problem: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    found = about(made(tmp_path, workers=workers), PROBLEM)
    assert any("files open" in text and "LimitNOFILE" in text for text in found) is problem


def test_the_namespace_s_limits_and_what_is_in_use(tmp_path: Path) -> None:
    config, proc = made(tmp_path), tmp_path / "proc"
    (proc / "sys/user").mkdir(parents=True)
    (proc / "sys/user/max_inotify_watches").write_text("70")
    (proc / "sys/fs").mkdir()
    (proc / "sys/fs/inotify").symlink_to("/proc/sys/fs/inotify")
    inotify = partial(system.inotify, config, proc=str(proc))
    assert any("70 watches" in text for text in texts(inotify(), OK))
    for number in range(80):
        (tmp_path / f"incoming/{number}").mkdir()
    assert any("incoming has 81 directories" in text for text in texts(inotify(), NOTE))
    assert any("all instances are in use" in text for text in texts(inotify(can_watch=lambda: False), NOTE))


@pytest.mark.parametrize(
    ("templates", "level", "said"),
    [
        ({"image_template": "%_md5|2_SOPInstanceUID"}, PROBLEM, "of 4096 that were tried"),
        ({"image_template": "%_md5|8_SOPInstanceUID"}, NOTE, "only in part"),
        ({"series_template": "%SeriesDescription"}, NOTE, "share a directory"),
        ({"series_template": "%SeriesInstanceUID", "image_template": "%SOPInstanceUID"}, OK, "a path of its own"),
    ],
)
def test_templates(templates: dict[str, str], level: str, said: str, tmp_path: Path) -> None:
    assert any(said in text for text in about(made(tmp_path, **templates), level))


def process(proc: Path, pid: int, cwd: Path, *command: str) -> None:
    """A process as proc(5) shows it."""
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in command))
    (proc / str(pid) / "cwd").symlink_to(cwd)


def test_a_receiver_that_can_be_seen(tmp_path: Path) -> None:
    config = made(tmp_path)
    incoming, proc = tmp_path / "incoming", tmp_path / "proc"
    receivers = partial(storescp_checks.receivers, config, proc=str(proc))
    assert list(receivers()) == []
    good = ("/usr/bin/storescp", "--fork", "+uf", "+xa", "-od", str(incoming), "11112")
    process(proc, 7, tmp_path, *good)
    process(proc, 8, tmp_path, *good)
    process(proc, 9, tmp_path, "storescp", "-od", str(tmp_path / "elsewhere"), "104")
    process(proc, 10, tmp_path, "sleep", "9")
    process(proc, 11, tmp_path)
    (proc / "self").mkdir()
    (found,) = receivers()
    assert (found.level, found.remedy) == (OK, "")
    process(proc, 12, incoming, "storescp", "-su", "s", "-sp", "-rns", "--exec-on-reception", "x", "104")
    _, bad = receivers()
    assert bad.level == NOTE
    assert all(word in bad.text for word in ("+uf", "+xa", "-su", "-sp", "-rns", "-xcr"))
    assert f"+uf +xa -ts 60 -pm -od {incoming} PORT" in bad.remedy


def test_a_receiver_that_goes_away_while_it_is_looked_at(tmp_path: Path) -> None:
    process(tmp_path / "proc", 7, tmp_path, "storescp", "104")
    (tmp_path / "proc/7/cwd").unlink()
    (tmp_path / "proc/8").mkdir()
    assert list(storescp_checks.receivers(made(tmp_path), proc=str(tmp_path / "proc"))) == []


@pytest.mark.real
def test_a_real_receiver(dcmtk: None, tmp_path: Path) -> None:
    config = made(tmp_path)
    with storescp(tmp_path / "incoming", "+uf"):
        (found,) = storescp_checks.receivers(config)
    assert ("without +uf" in found.text, "without +xa" in found.text) == (False, True)


@pytest.mark.parametrize(
    ("environ", "status", "said"),
    [
        (b"A=1\0TCP_NODELAY=1\0", "NSpid:\t70\t7\n", ""),
        (b"A=1\0", "NSpid:\t70\t7\n", "without TCP_NODELAY=1"),
        (b"TCP_NODELAY=1\0", "NSpid:\t70\t1\n", "as process 1 of its container it ignores SIGTERM"),
    ],
)
def test_a_receiver_s_surroundings(environ: bytes, status: str, said: str, tmp_path: Path) -> None:
    config, proc = made(tmp_path), tmp_path / "proc"
    process(proc, 70, tmp_path, "storescp", "+uf", "+xa", "-od", str(tmp_path / "incoming"), "11112")
    (proc / "70/environ").write_bytes(environ)
    (proc / "70/status").write_text(status)
    (found,) = storescp_checks.receivers(config, proc=str(proc))
    assert (found.level, said in found.text) == ((NOTE if said else OK), True)


@pytest.mark.parametrize(("kind", "told"), [("overlay", True), ("tmpfs", True), ("ext4", False), ("xfs", False)])
def test_files_that_go_with_the_container(
    kind: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "mount_of", lambda path: Mount("1", kind))
    found = [each for each in system.persistence(made(tmp_path)) if kind in each.text]
    assert len(found) == (4 if told else 0)
    assert all(each.remedy == "mount a volume there" for each in found)


@pytest.mark.parametrize(
    ("limit", "workers", "level"),
    [("max\n", 64, None), (str(2**63 - 4096), 64, None), (str(256 * 2**20), 2, None), (str(256 * 2**20), 8, PROBLEM)],
)
def test_memory_of_the_control_group(limit: str, workers: int, level: str | None, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text(limit)
    limits = str(tmp_path / "absent"), str(tmp_path / "limit")
    found = [each.level for each in system.memory(made(tmp_path, workers=workers), limits=limits)]
    assert found == ([level] if level else [])


def test_core_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, told in ((0, False), (resource.RLIM_INFINITY, True)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limit=limit: (limit, resource.RLIM_INFINITY))
        assert bool(list(system.core_files(made(tmp_path)))) is told


@pytest.mark.real
def test_a_service_that_runs_is_told_as_such(places: Places) -> None:
    with service(places) as running:
        done = listener("check", *places.flags(), "--min-free", "0", "--json")
        found = [orjson.loads(line) for line in done.stdout.splitlines()]
        (owner,) = [one for one in found if "owns" in one["text"]]
        assert owner["level"] == "ok"
        assert f"(process {running.pid}, ready)" in owner["text"]


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        ({}, NOTE, "only this machine"),
        ({"http": "127.0.0.1:9464"}, OK, "only this machine"),
        ({"http": "[::1]:9464"}, OK, "only this machine"),
        ({"http": "unix:/run/listener/http"}, OK, "owner and group"),
        ({"token_file": "/tokens"}, NOTE, "--http-cert"),
        ({"token_file": "/tokens", "http": "127.0.0.1:9464"}, OK, "a token or a certificate"),
        ({"token_file": "/tokens", "http_cert": "/cert"}, OK, "a token or a certificate"),
        ({"http_client_ca": "/ca", "http_cert": "/cert"}, OK, "a token or a certificate"),
        ({"page": "off"}, OK, ""),
        ({"http": "off"}, OK, ""),
    ],
)
def test_who_may_look(given: dict[str, str], level: str, words: str, tmp_path: Path) -> None:
    found = list(configuration.access(made(tmp_path, **{"http": "0.0.0.0:9464", **given})))
    assert [one.level for one in found] == ([level] if words else [])
    assert all(words in f"{one.text} {one.remedy}" for one in found)
