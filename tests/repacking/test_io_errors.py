"""Whose refusal is it? The matrix of errno and path: who is held up, and what is told.

Every error that a file system gives is raised by each call that changes or opens something at one path (a patient's
directory, a document, a lock, the file in incoming), and at a whole volume. Beside the file that meets it another
patient's comes in the same batch. Where such a fault can be made, it is made (below).
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from listener.disk import files, moves, sync
from listener.planning import documents
from listener.planning.names import short_hash
from listener.reasons import system_reason
from listener.records import Deferral, Outcome
from listener.repacking.context import CLAIM, COPY, MOVE, WorkerContext
from listener.repacking.repack import Repacker
from tests.faults.volumes import fill
from tests.instances import instance
from tests.repacking.tree import BAD, DIRECTORY, GOOD, consistent, images, other_pixels
from tests.workbench import Bench, arrival_of, contents, need_root, tmpfs

#: What open(2), link(2), rename(2), mkdir(2), write(2) and flock(2) can say of one path or of a volume, with what
#: network file systems, FUSE, encrypted and damaged ones add. Not EEXIST and ENOENT, which have meanings of their own.
ERRNOS = tuple(
    re.findall(
        r"\w+",
        "EPERM EIO EAGAIN EACCES EBUSY EXDEV ENODEV ENOTDIR EISDIR EINVAL ETXTBSY EFBIG ENOSPC EROFS EMLINK "
        "ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EOVERFLOW EUCLEAN EREMOTEIO EDQUOT ENOKEY EOPNOTSUPP "
        "ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH ESTALE ",
    )
)
OF_THE_PROCESS = ("EMFILE", "ENFILE", "ENOMEM")


@contextmanager
def refusing(number: int, about: Callable[[str], bool]) -> Iterator[None]:
    """Each call that opens, makes or renames a path that `about` is true of raises this error."""

    def refuse(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            paths = [one for one in args[:2] if isinstance(one, str)]
            # As the kernel does it: what is above a name is looked for first.
            if any(about(path) for path in paths) and all(os.path.isdir(os.path.dirname(path)) for path in paths):
                raise OSError(number, os.strerror(number), paths[0], None, paths[1] if len(paths) > 1 else None)
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (os, "open"),
            (os, "link"),
            (os, "rename"),
            (os, "mkdir"),
            (moves, "renameat2"),
        ):
            patch.setattr(module, name, refuse(getattr(module, name)))
        defaults = files.write_document.__kwdefaults__
        assert defaults is not None
        patch.setitem(defaults, "operation", os.rename)
        yield


@dataclass(frozen=True)
class Refused:
    """One path of the matrix: which paths are refused, and the place that is told."""

    about: Callable[[Bench], Callable[[str], bool]]
    told: str


def below(*directories: str) -> Callable[[str], bool]:
    return lambda path: any(path == one or path.startswith(f"{one}/") for one in directories)


def _patient(bench: Bench) -> Callable[[str], bool]:
    return below(f"{bench.data}/{DIRECTORY}")


def _document(bench: Bench) -> Callable[[str], bool]:
    series = str(instance(patient=BAD).SeriesInstanceUID)
    return below(f"{bench.log}/seriesData/{series}-img")


def _shared_document(bench: Bench) -> Callable[[str], bool]:
    return below(f"{bench.log}/{documents.shared_paths(str(instance(patient=BAD).PatientID), '1', '1')[0]}")


def _lock(bench: Bench) -> Callable[[str], bool]:
    path = documents.shared_paths(str(instance(patient=BAD).PatientID), "1", "1")[0]
    return below(f"{bench.directories.locks}/document-{short_hash(path, 2)}")


def _incoming(bench: Bench) -> Callable[[str], bool]:
    return lambda path: path == f"{bench.incoming}/bad"


PATHS = {
    "patient's directory": Refused(_patient, "below the data directory"),
    "document": Refused(_document, "below the log directory"),
    "shared document": Refused(_shared_document, "below the log directory"),
    "lock": Refused(_lock, ".listener/locks/document-"),
    "file in incoming": Refused(_incoming, "below the incoming directory"),
}


#: How one file ends at once with such an error: a shared document that is none (a link, a directory) is written anew; a
#: file that was a link when it was opened is looked at again.
EXCEPTIONS = {
    "ENOTDIR": {("published", "shared document")},
    "EISDIR": {("published", "shared document")},
    "ELOOP": {("published", "shared document"), ("vanished", "file in incoming")},
}


def both(bench: Bench) -> list[Outcome | Deferral]:
    """The refused patient's file and the other's, in one batch."""
    paths = [bench.incoming / "bad", bench.incoming / "good"]
    return bench.work([arrival_of(path) for path in paths])


def ready(tmp_path: Path, **more: Any) -> Bench:
    bench = Bench(tmp_path, **more)
    bench.put("bad", patient=BAD)
    bench.put("good", patient=GOOD)
    return bench


def again(bench: Bench, result: Deferral, *, last: bool = False) -> Outcome | Deferral:
    """Another try of what was put off, by another worker, as the engine hands it out."""
    arrival = arrival_of(result.claim or result.path)._replace(path=result.path, claim=result.claim, last=last)
    (found,) = Repacker(WorkerContext(bench.config, bench.directories)).repack([arrival])
    return found


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ERRNOS)
def test_one_path_delays_its_own_file_alone(name: str, path: str, tmp_path: Path) -> None:
    number = getattr(errno, name)
    bench = ready(tmp_path)
    with refusing(number, PATHS[path].about(bench)):
        first, second = both(bench)
        assert isinstance(second, Outcome)
        assert second.kind == "published", "nobody else waits"
        if isinstance(first, Outcome):
            assert (first.kind, path) in EXCEPTIONS.get(name, ()), first
            return
        assert first.reason == system_reason(OSError(number, ""))
        assert first.error == os.strerror(number)
        assert PATHS[path].told in first.place
        assert "P0001" not in first.place
        assert first.series in ("", str(instance(patient=BAD).SeriesInstanceUID))
        assert len(contents(bench.data)) == len(images(bench)) == 1, "nothing is in the tree without a document"
        given_up = again(bench, first, last=True)
        if path == "file in incoming":
            assert isinstance(given_up, Deferral), "what cannot be claimed is its sender's"
        else:
            assert isinstance(given_up, Outcome)
            assert (given_up.kind, given_up.reason) == ("set-aside", "unplaceable")
            assert os.path.exists(given_up.dst)
            assert PATHS[path].told in given_up.error
            return
    done = again(bench, first)
    assert isinstance(done, Outcome)
    assert done.kind == "published"


@pytest.mark.parametrize("path", PATHS)
def test_what_has_waited_is_published_when_its_place_is_mended(path: str, tmp_path: Path) -> None:
    bench = ready(tmp_path)
    with refusing(errno.EBUSY, PATHS[path].about(bench)):
        first, second = both(bench)
        assert isinstance(first, Deferral)
        first = again(bench, first)
        assert isinstance(first, Deferral)
    done = again(bench, first)
    for one in (second, done):
        assert isinstance(one, Outcome)
        assert one.kind == "published"
        os.unlink(one.claim)
    consistent(bench)
    assert len(images(bench)) == 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", OF_THE_PROCESS)
def test_what_the_process_lacks_is_everybody_s(name: str, path: str, tmp_path: Path) -> None:
    bench = ready(tmp_path)
    with refusing(getattr(errno, name), PATHS[path].about(bench)):
        first, _ = both(bench)
    assert isinstance(first, Deferral)
    assert first.place == ""


VOLUMES: dict[str, Callable[[Bench], Callable[[str], bool]]] = {
    "data": lambda bench: below(str(bench.data), bench.directories.data_staging),
    "log": lambda bench: below(str(bench.log), bench.directories.log_staging),
    "state": lambda bench: below(str(bench.state)),
}


@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize("name", [*ERRNOS, *OF_THE_PROCESS])
def test_a_volume_is_everybody_s(name: str, volume: str, tmp_path: Path) -> None:
    """Whatever the number: what our own directories refuse too, the next file meets as well."""
    bench = ready(tmp_path)
    with refusing(getattr(errno, name), VOLUMES[volume](bench)):
        results = both(bench)
        results = [again(bench, one, last=True) if isinstance(one, Deferral) else one for one in results]
        for one in results:
            if isinstance(one, Deferral):
                assert one.place == "", "all wait, and nothing is set aside"
            else:  # EIO of a file that is about to be read is that file's.
                assert one.reason == "unreadable"
    for one in results:
        if isinstance(one, Deferral):
            done = again(bench, one)
            assert isinstance(done, Outcome)
            assert done.kind == "published"


# -- a barrier that several wait at ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ERRNOS if name not in ("EIO", "EINVAL", "ENOSYS", "EOPNOTSUPP")])
@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_sync_that_fails_delays_those_whose_it_is(
    call: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the whole batch. EIO ends the service, and what cannot be synced at all is no fault."""
    number = getattr(errno, name)
    bench = ready(tmp_path, fsync="batch")
    real = getattr(os, call)

    def force(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if "/data/P0001-" in path or path.endswith(".bad"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, call, force)
    first, second = both(bench)
    assert isinstance(first, Deferral)
    assert first.error == os.strerror(number)
    assert first.place
    assert isinstance(second, Outcome)
    assert second.kind == "published"
    monkeypatch.undo()
    done = again(bench, first)
    assert isinstance(done, Outcome)
    assert done.kind == "published"


def test_what_could_not_be_synced_is_told_one_by_one(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(sync.NotSynced) as caught:
        sync.directories([str(tmp_path / "absent"), str(there), str(tmp_path / "gone")])
    assert {path: error.errno for path, error in caught.value.failed.items()} == {
        str(tmp_path / "absent"): errno.ENOENT,
        str(tmp_path / "gone"): errno.ENOENT,
    }
    assert caught.value.errno == errno.ENOENT


# -- real faults -------------------------------------------------------------------------------------------------------


def _nowhere(place: Path, _: ExitStack) -> None:
    place.symlink_to("/nonexistent/archive")


def _loop(place: Path, _: ExitStack) -> None:
    place.symlink_to(place)


def _file(place: Path, _: ExitStack) -> None:
    place.write_text("in the way")


def _volume(place: Path, stack: ExitStack, size: str = "16m") -> Path:
    """A link to a file system of its own."""
    volume = stack.enter_context(tmpfs(place.parent.parent / "volume", size))
    place.symlink_to(volume)
    return volume


def _full(place: Path, stack: ExitStack) -> None:
    volume = _volume(place, stack, "64k")
    fill(volume)


def _read_only(place: Path, stack: ExitStack) -> None:
    volume = _volume(place, stack)
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)


def _mounted_read_only(place: Path, stack: ExitStack) -> None:
    """A mount inside data, of the same file system: one st_dev, and still EXDEV; and nothing may be written."""
    place.mkdir()
    need_root()
    for options in (["--bind", str(place), str(place)], ["-o", "remount,bind,ro", str(place)]):
        subprocess.run(["mount", *options], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)


#: What is made of a patient's directory, and what is told of it then.
FAULTS: dict[str, tuple[Callable[[Path, ExitStack], object], str]] = {
    "a link to nowhere": (_nowhere, "level 1 below the data directory, a link: No such file or directory"),
    "a link to itself": (_loop, "level 1 below the data directory, a link: Too many levels of symbolic links"),
    "a file": (_file, "level 1 below the data directory: Not a directory"),
    "a full volume": (_full, "level 1 below the data directory, a link: No space left on device"),
    "a read-only volume": (_read_only, "level 1 below the data directory, a link: Read-only file system"),
    "a read-only mount": (_mounted_read_only, "level 1 below the data directory: Read-only file system"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_patient_s_directory(fault: str, tmp_path: Path) -> None:
    make, told = FAULTS[fault]
    bench = ready(tmp_path, fsync="batch")
    with ExitStack() as stack:
        place = bench.data / DIRECTORY
        make(place, stack)
        first, second = both(bench)
        assert isinstance(first, Deferral), first
        assert f"{first.place}: {first.error}" == told
        assert isinstance(second, Outcome)
        assert second.kind == "published"
        (path,) = [path for path in contents(bench.data) if path.endswith(".dcm")]
        assert path.startswith("P0002")
        assert len(images(bench)) == 1
        given_up = again(bench, first, last=True)
        assert isinstance(given_up, Outcome)
        assert given_up.reason == "unplaceable"
        assert given_up.error.endswith(told)


def _mounted(place: Path, stack: ExitStack) -> None:
    """A bind mount inside data: rename and link give EXDEV, although st_dev is equal."""
    place.mkdir()
    need_root()
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("mode", [CLAIM, COPY, MOVE])
@pytest.mark.parametrize("make", [_volume, _mounted])
def test_a_directory_on_another_file_system_is_written_to_by_copying(
    make: Callable[[Path, ExitStack], object], mode: str, tmp_path: Path
) -> None:
    """With its duplicates, its corrected instances, and without anything left beside them."""
    with ExitStack() as stack:
        bench = Bench(tmp_path, mode, fsync="batch", file_mode=0o640)
        (bench.data / "keep").touch()
        make(bench.data / DIRECTORY, stack)
        path = bench.put("one", patient=BAD)
        os.utime(path, ns=(1, 1_600_000_000 * 10**9))
        first = bench.outcome(path)
        assert first.kind == "published"
        status = os.stat(first.dst)
        assert (status.st_mode & 0o777, status.st_nlink, status.st_mtime_ns) == (0o640, 1, 1_600_000_000 * 10**9)
        assert bench.outcome(bench.put("again", patient=BAD)).kind == "duplicate"
        edited = bench.outcome(bench.put("edited", patient=BAD, **other_pixels()))
        assert (edited.kind, edited.dst) == ("published", first.dst)
        assert edited.superseded
        moved = bench.outcome(bench.put("moved", patient=BAD, PatientName="Corrected^Name", **other_pixels(7)))
        assert (moved.kind, os.path.exists(first.dst)) == ("published", False)
        there = {name for _, _, names in os.walk(bench.data, followlinks=True) for name in names}
        assert there == {"keep", os.path.basename(moved.dst)}, "nothing is left of the copies"


def test_what_a_killed_try_left_beside_its_place_is_removed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        bench = Bench(tmp_path)
        _volume(bench.data / DIRECTORY, stack)
        first = bench.outcome(bench.put("one", patient=BAD))
        target = Path(first.dst)
        target.unlink()
        left = target.parent / f".listener-{short_hash(target.name)}-dead-0"
        other = target.parent / ".listener-00000000-dead-0"
        for path in (left, other):
            path.write_bytes(b"half")
        arrival = arrival_of(bench.put("one", patient=BAD))
        held = f"{bench.directories.claims[0]}/{bench.context.claim_name(arrival)}"
        os.rename(arrival.path, held)
        (result,) = bench.work([arrival._replace(claim=held)])
        assert isinstance(result, Outcome)
        assert sorted(os.listdir(target.parent)) == [other.name, target.name]


def test_what_shares_documents_with_everybody_is_everybody_s(tmp_path: Path) -> None:
    """A file where the directory of all patients' documents should be."""
    bench = ready(tmp_path)
    (bench.log / "patientData").write_text("in the way")
    first, second = both(bench)
    assert isinstance(first, Deferral)
    assert isinstance(second, Deferral)
    assert (first.place, first.reason) == (second.place, second.reason) == ("", "io-error")


def test_whole_paths_are_told_only_where_they_may_be(tmp_path: Path) -> None:
    bench = ready(tmp_path, phi=True)
    (bench.data / DIRECTORY).symlink_to("/nonexistent/archive")
    first, _ = both(bench)
    assert isinstance(first, Deferral)
    assert first.place == f"'{bench.data / DIRECTORY}', a link"


def test_a_worker_asks_the_volumes_once_for_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    (bench.data / DIRECTORY).symlink_to("/nonexistent/archive")
    asked: list[int] = []
    real = os.posix_fallocate

    def ask(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", ask)
    paths = [bench.put(str(number), patient=BAD, number=number) for number in range(1, 20)]
    results = bench.work([arrival_of(path) for path in paths])
    assert all(isinstance(one, Deferral) and one.place for one in results)
    assert len(asked) <= 6, "three directories, each half second"


def test_an_instance_that_is_placed_and_described_is_never_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused after that (a directory cannot be synced) delays it; in set-aside it would be a second time."""
    bench = ready(tmp_path, fsync="batch")
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if f"/data/{DIRECTORY}/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(descriptor)

    bench.publish("before", patient=BAD, number=9)
    monkeypatch.setattr(os, "fsync", refuse)
    first, _ = both(bench)
    assert isinstance(first, Deferral)
    last = again(bench, first, last=True)
    assert isinstance(last, Deferral)
    assert last.place
    assert bench.set_aside("unplaceable") == {}
    assert len([path for path in contents(bench.data) if DIRECTORY in path]) == 2


def test_a_reason_s_directory_that_cannot_be_used_delays_what_is_to_lie_there(tmp_path: Path) -> None:
    """What cannot be set aside stays claimed, for ever if need be; good files go on."""
    bench = Bench(tmp_path)
    (bench.incoming / "bad").write_bytes(b"this is no DICOM file" * 10)
    bench.put("good", patient=GOOD)
    place = Path(bench.directories.set_aside) / "not-dicom"
    place.symlink_to("/nonexistent/archive")
    first, second = both(bench)
    assert isinstance(second, Outcome)
    assert second.kind == "published"
    for one in (first, again(bench, first, last=True) if isinstance(first, Deferral) else first):
        assert isinstance(one, Deferral)
        assert one.place == "set-aside/not-dicom of the state directory, a link"
    assert isinstance(first, Deferral)
    place.unlink()
    done = again(bench, first)
    assert isinstance(done, Outcome)
    assert (done.kind, done.reason) == ("set-aside", "not-dicom")
