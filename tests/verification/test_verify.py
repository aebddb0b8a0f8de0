"""`listener verify`: every difference has its word, repair mends the logs and nothing else, and nothing is alarmed by
what the predecessors left.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.planning.names import OWN
from listener.reasons import SET_ASIDE_REASONS
from listener.verification import verify
from listener.verification.differences import WORDS, Difference, Reading, as_line, expected, instance_in, public
from listener.verification.tree import Location, Relocation
from tests.instances import ABSENT, instance, save, uid
from tests.workbench import Bench, contents

SERIES = str(uid("series", 0, 0, 0))
STUDY, OTHER = (str(uid("study", 0, number)) for number in (0, 1))
IMAGES = f"seriesData/{SERIES}-img"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody publishes meanwhile, so that a difference counts at once."""
    monkeypatch.setattr(verify, "SETTLE", 0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two patients; the first has two studies, and two series in the first one, of which the first has three
    instances.
    """
    bench = Bench(tmp_path)
    for number, (patient, study, series, image) in enumerate(
        [(0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 0, 3), (0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 1)]
    ):
        bench.publish(str(number), patient=patient, study=study, series=series, number=image)
    return bench


class Verified:
    """What `verify` said: status, lines, and their words."""

    def __init__(self, bench: Bench, capsys: pytest.CaptureFixture[bytes], *arguments: str) -> None:
        capsys.readouterr()
        command = ["verify", f"--data={bench.data}", f"--log={bench.log}", f"--state={bench.state}", "--json"]
        self.status = cli.main([*command, *arguments])
        said = capsys.readouterr()
        self.lines = [orjson.loads(line) for line in said.out.splitlines()]
        self.words = [line["difference"] for line in self.lines]
        self.said = said.err.decode()


Run = Callable[..., Verified]


@pytest.fixture
def run(bench: Bench, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    return lambda *arguments: Verified(bench, capsysbinary, *arguments)


def image(bench: Bench, number: int = 1) -> Path:
    """The first series' instance `number` in the tree."""
    (found,) = bench.data.rglob(f"{number:04d}-{uid('instance', 0, 0, 0, number)}.dcm")
    return found


def document(bench: Bench, number: int = 1) -> Path:
    """Its document."""
    return bench.log / IMAGES / f"{image(bench, number).name}.json"


def change(path: Path, pattern: str, text: str) -> None:
    path.write_text(re.sub(pattern, text, path.read_text()))


def logs(bench: Bench) -> dict[str, bytes]:
    return contents(bench.log)


def test_no_difference(bench: Bench, run: Run) -> None:
    before = logs(bench)
    for arguments in ((), ("--deep",), ("--repair",), ("--deep", "--repair")):
        found = run(*arguments)
        assert (found.status, found.lines) == (0, [])
        assert "4 series, 6 instances: 0 differences" in found.said
    assert logs(bench) == before


def test_nothing_is_made_without_repair(bench: Bench, run: Run) -> None:
    shutil.rmtree(bench.log / OWN)
    document(bench).unlink()
    assert run().status == 1
    assert not (bench.log / OWN).exists()


# -- one difference at a time: what is done to the logs, the words, and whether repair brings back what was there -----

Harm = Callable[[Bench], None]


def shared(kind: str) -> Callable[[Bench], Path]:
    names = {
        "patient": "patientData/P0000.json",
        "study": f"studyData/{STUDY}-meta.json",
        "study-series": f"studyData/{STUDY}-series/{SERIES}-meta.json",
        "series": f"seriesData/{SERIES}-meta.json",
        "pack": f"seriesData/{SERIES}-pack.json",
    }
    return lambda bench: bench.log / names[kind]


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()


def to_link(path: Path) -> None:
    path.rename(path.parent.parent.parent.parent / "victim")
    path.symlink_to(path.parent.parent.parent.parent / "victim")


def forget_series(bench: Bench) -> None:
    shutil.rmtree(bench.log / IMAGES)
    for kind in ("series", "pack", "study-series"):
        shared(kind)(bench).unlink()


HARMS: dict[str, tuple[Harm, list[str]]] = {
    "a document is gone": (lambda bench: document(bench).unlink(), ["no-document"]),
    "a document is garbage": (lambda bench: put(document(bench), b'{"1.2'), ["bad-document"]),
    "a document is empty": (lambda bench: put(document(bench), b""), ["bad-document"]),
    "a document is a list": (lambda bench: put(document(bench), b"[]"), ["bad-document"]),
    "a document tells of nothing": (lambda bench: put(document(bench), b"{}"), ["bad-document"]),
    "a document is a directory": (lambda bench: to_directory(document(bench)), ["bad-document"]),
    "a document is a link": (lambda bench: to_link(document(bench)), ["bad-document"]),
    "a document is another's": (
        lambda bench: put(document(bench), document(bench, 2).read_bytes()),
        ["bad-document"],
    ),
    "a size is wrong": (lambda bench: change(document(bench), r'"size": \d+', '"size": 7'), ["size"]),
    "all documents of a series are gone": (lambda bench: shutil.rmtree(bench.log / IMAGES), ["no-document"] * 3),
    "nothing tells of a series": (forget_series, ["no-document"] * 3),
    "the study is not listed": (
        lambda bench: change(shared("patient")(bench), f'"{STUDY}"', '"1.2.3"'),
        ["study-list"],
    ),
    "the list is none": (
        lambda bench: change(shared("patient")(bench), r"(?s)\"StudyList\": \[.*?\]", '"StudyList": null'),
        ["study-list", "study-list"],
    ),
    "the base is wrong": (
        lambda bench: change(shared("study-series")(bench), r'("SeriesBaseDir": ").*"', rf'\1{bench.data}/else/where"'),
        ["base-dir"],
    ),
    "the base is not told": (
        lambda bench: change(shared("study-series")(bench), '"SeriesBaseDir": .*', ""),
        ["bad-shared-document"],
    ),
    "a temporary among documents": (lambda bench: (bench.log / IMAGES / "a.tmp").touch(), ["foreign-in-log"]),
    "a hidden file among documents": (lambda bench: (bench.log / IMAGES / ".a.json").touch(), ["foreign-in-log"]),
    "a folder among documents": (lambda bench: (bench.log / IMAGES / "a").mkdir(), ["foreign-in-log"]),
    "a hidden file among series": (
        lambda bench: (bench.log / f"studyData/{STUDY}-series/.a").touch(),
        ["foreign-in-log"],
    ),
    "the series tells of another patient": (
        lambda bench: change(shared("series")(bench), '"P0000"', '"FORMER"'),
        ["outdated"],
    ),
    "the study tells of another patient": (
        lambda bench: change(shared("study")(bench), '"P0000"', '"FORMER"'),
        ["outdated"],
    ),
    "a study that the series has left": (
        lambda bench: put(
            bench.log / f"studyData/{OTHER}-series/{SERIES}-meta.json", shared("series")(bench).read_bytes()
        ),
        ["left-over"],
    ),
    "a study of somebody else is listed": (
        lambda bench: change(shared("patient")(bench), f'"{STUDY}"', f'"{STUDY}", "{uid("study", 1, 0)}"'),
        ["left-over"],
    ),
    "a series that is nowhere": (
        lambda bench: put(bench.log / f"studyData/{STUDY}-series/1.2.3-meta.json", b"{}"),
        ["no-instances"],
    ),
}


def shared_harms(kind: str) -> dict[str, tuple[Harm, list[str]]]:
    document_of = shared(kind)
    return {
        f"{kind} is gone": (lambda bench: document_of(bench).unlink(), ["no-shared-document"]),
        f"{kind} is garbage": (lambda bench: put(document_of(bench), b"\0\0"), ["bad-shared-document"]),
        f"{kind} is a folder": (lambda bench: to_directory(document_of(bench)), ["bad-shared-document"]),
    }


for each in ("patient", "study", "study-series", "series", "pack"):
    HARMS |= shared_harms(each)


@pytest.mark.parametrize("name", HARMS)
def test_a_difference_is_named_and_repaired(name: str, bench: Bench, run: Run) -> None:
    harm, words = HARMS[name]
    tree, before = contents(bench.data), logs(bench)
    harm(bench)
    found = run()
    assert (found.status, sorted(found.words)) == (1, words), found.lines
    found = run("--repair")
    # A patient's document that was made anew lacks its other studies until their turn comes.
    assert [word for word in found.words if name[:7] != "patient" or word != "study-list"] == words
    assert found.status == 0, found.lines
    assert all(line["repaired"] is True for line in found.lines)
    assert (run().status, run("--deep").words) == (0, [])
    assert contents(bench.data) == tree
    if "not listed" in name or "list is none" in name:
        assert set(bench.document("patientData/P0000.json")["P0000"]["StudyList"]) >= {STUDY, str(uid("study", 0, 1))}
    elif name != "patient is gone" and words != ["outdated"]:  # The newest is told then, not the first.
        assert without_time(logs(bench)) == without_time(before)


def without_time(found: dict[str, bytes]) -> dict[str, Any]:
    """Documents by value; the order of a StudyList, and the instance that a series' documents describe, are free."""
    values = {path: orjson.loads(data) for path, data in found.items()}
    for path, value in values.items():
        if path.startswith("patientData"):
            for entry in value.values():
                entry["StudyList"] = sorted(entry["StudyList"])
    return values


def test_what_goes_is_moved_and_never_deleted(bench: Bench, run: Run) -> None:
    for _ in range(2):
        document(bench).write_bytes(b"garbage")
        assert run("--repair").status == 0
    removed = contents(bench.log / OWN / "removed")
    assert len(removed) == 2
    assert all(path.startswith(f"{IMAGES}/{image(bench).name}.json") for path in removed)
    assert set(removed.values()) == {b"garbage"}


def test_a_document_without_instance(bench: Bench, run: Run) -> None:
    image(bench).unlink()
    assert run().words == ["no-instance"]
    assert run("--repair").status == 0
    assert not (bench.log / IMAGES / f"0001-{uid('instance', 0, 0, 0, 1)}.dcm.json").exists()
    assert run().status == 0


def test_a_series_without_instances(bench: Bench, run: Run) -> None:
    shutil.rmtree(image(bench).parent)
    assert run().words == ["no-instance"] * 3
    assert run("--repair").words == ["no-instance"] * 3
    found = run("--repair")
    assert (found.status, found.words) == (0, ["no-instances"])
    assert run().status == 0
    assert not [path for path in logs(bench) if SERIES in path]


def test_a_folder_that_was_renamed_by_hand(bench: Bench, run: Run) -> None:
    """Documents of nowhere go, new ones come, and the base directory follows."""
    home = image(bench).parent
    home.rename(home.with_name("elsewhere"))
    assert sorted(run().words) == ["no-document"] * 3 + ["no-instance"] * 3
    found = run("--repair")
    assert found.status == 0
    assert found.words[-1] == "base-dir"
    assert run().status == 0
    assert run("--deep").words == ["misplaced"]


def test_a_tree_without_logs(bench: Bench, run: Run) -> None:
    before = logs(bench)
    shutil.rmtree(bench.log)
    assert run().status == 2
    bench.log.mkdir()
    assert run().words == ["no-document"] * 6
    shutil.rmtree(bench.log)
    assert run("--repair").status == 0
    assert without_time(logs(bench)) == without_time(before)
    assert run("--deep").status == 0


def test_an_empty_tree_is_no_reason_to_clear_the_logs(bench: Bench, run: Run) -> None:
    """Most likely its volume is not mounted."""
    before = logs(bench)
    shutil.rmtree(bench.data)
    bench.data.mkdir()
    found = run("--repair")
    assert found.status == 2
    assert "is it mounted?" in found.said
    assert logs(bench) == before
    bench.data.rmdir()
    assert run().status == 2
    assert run("--repair").status == 2


# -- the tree itself: told, never touched -----------------------------------------------------------------------------


def test_what_is_no_instance_in_the_tree(bench: Bench, run: Run) -> None:
    home = image(bench).parent
    save(instance(number=9), home / ".hidden.dcm")
    (home / "a.part").touch()
    (home / "link.dcm").symlink_to(image(bench))
    os.mkfifo(home / "fifo")
    (home / "empty.dcm").touch()
    (home / "text.dcm").write_text("text " * 99)
    cut = save(instance(number=8), home / "cut.dcm")
    os.truncate(cut, cut.stat().st_size - 1)
    save(instance(number=7, StudyInstanceUID=ABSENT), home / "nobody.dcm")
    tree = contents_but_fifo(bench)
    for arguments in ((), ("--repair",)):
        found = run(*arguments)
        assert found.status == 1
        assert sorted(found.words) == sorted(
            ["foreign-in-tree"] * 4 + ["empty", "not-dicom", "incomplete", "missing-uid"]
        )
    assert contents_but_fifo(bench) == tree
    assert len(list((bench.log / IMAGES).iterdir())) == 3


def test_a_directory_that_was_moved_away_and_linked_is_part_of_the_tree(bench: Bench, run: Run, tmp_path: Path) -> None:
    """Outside of the tree, and once; a link that leads back into the tree, or above it, is foreign."""
    home = image(bench).parents[2]
    away = tmp_path / "away"
    home.rename(away)
    home.symlink_to(away)
    for arguments in ((), ("--deep",)):
        assert (run(*arguments).status, run(*arguments).words) == (0, [])
    for name, target in (("up", tmp_path), ("again", away), ("inside", bench.data), ("nowhere", tmp_path / "no")):
        (away / name).symlink_to(target)
    save(instance(number=9), away / ".hidden.dcm")
    found = run("--repair")
    assert found.words == ["foreign-in-tree"] * 5
    assert found.status == 1


def contents_but_fifo(bench: Bench) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_size) for path in bench.data.rglob("*"))


def test_a_damaged_instance_is_found_by_reading_it(bench: Bench, run: Run) -> None:
    data = image(bench).read_bytes()
    image(bench).write_bytes(data[:200] + bytes(len(data) - 200))
    assert run().status == 0
    found = run("--deep", "--repair")
    assert (found.status, found.words) == (1, ["incomplete"])


def test_the_size_of_a_cut_instance_is_not_made_true(bench: Bench, run: Run) -> None:
    os.truncate(image(bench), image(bench).stat().st_size - 1)
    before = document(bench).read_bytes()
    found = run("--repair")
    assert (found.status, found.words) == (1, ["size"])
    assert found.lines[0]["repaired"] is False
    assert document(bench).read_bytes() == before
    assert run("--deep").words == ["size", "incomplete"]


@pytest.mark.parametrize("name", ["copy.dcm", "same name"])
def test_an_instance_that_is_there_twice(name: str, bench: Bench, run: Run) -> None:
    twin = image(bench).parent / name if name == "copy.dcm" else bench.data / "other/place/at all" / image(bench).name
    twin.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(image(bench), twin)
    for arguments in ((), ("--repair",), ("--deep",)):
        found = run(*arguments)
        assert (found.status, found.words) == (1, ["duplicate"])
    assert twin.exists()


def test_two_versions_that_are_kept_side_by_side(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    bench = Bench(tmp_path, on_conflict="keep-both")
    bench.publish("one")
    save(instance(StudyTime="235959"), bench.incoming / "two")
    bench.outcome(bench.incoming / "two")
    for arguments in ((), ("--deep",)):
        assert Verified(bench, capsysbinary, *arguments).words == []
    (second,) = bench.log.glob(f"{IMAGES}/*-????????.dcm.json")
    second.unlink()
    assert Verified(bench, capsysbinary, "--repair").words == ["no-document"]
    assert second.exists()
    assert Verified(bench, capsysbinary, "--deep").status == 0


def test_series_that_share_a_folder(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """As pypx 3.11's layout has it for series of one number and description."""
    bench = Bench(tmp_path, layout="px311")
    for series in (0, 1):
        bench.publish(str(series), series=series, SeriesNumber="1", SeriesDescription="same")
    assert len({path.parent for path in bench.data.rglob("*.dcm")}) == 1
    assert Verified(bench, capsysbinary, "--deep", "--layout=px311").status == 0
    next(bench.log.glob(f"{IMAGES}/*")).unlink()
    assert Verified(bench, capsysbinary, "--layout=px311").words == ["no-document"]


def test_a_document_in_another_series(bench: Bench, run: Run) -> None:
    other = bench.log / f"seriesData/{uid('series', 0, 0, 1)}-img"
    document(bench).rename(other / document(bench).name)
    assert run().words == []
    found = run("--deep", "--repair")
    assert found.words[0] == "wrong-document"
    assert run("--deep").status == 0
    assert document(bench).exists()


def test_another_layout_is_one_difference_a_series(bench: Bench, run: Run) -> None:
    assert run("--layout=px").status == 0
    found = run("--layout=px", "--deep")
    assert found.words == ["misplaced"] * 4
    assert sorted(line["count"] for line in found.lines) == [1, 1, 1, 3]


# -- trees that were moved --------------------------------------------------------------------------------------------


def test_a_moved_tree_is_one_difference_a_series(bench: Bench, run: Run, tmp_path: Path) -> None:
    bench.data = bench.data.rename(tmp_path / "moved")
    found = run()
    assert (found.status, found.words) == (1, ["moved"] * 4)
    assert "--repair" in found.lines[0]["text"]
    found = run("--repair")
    assert (found.status, found.words) == (0, ["moved"] * 4)
    assert run("--deep").status == 0
    assert b"/data/" not in b"".join(logs(bench).values()).replace(b"Data/", b"")
    assert bench.document(f"{IMAGES}/{image(bench).name}.json")[SERIES]["imageObj"][image(bench).name][
        "FSlocation"
    ] == str(image(bench))


def test_a_copied_tree_beside_the_old_one(bench: Bench, run: Run, tmp_path: Path) -> None:
    bench.data = Path(shutil.copytree(bench.data, tmp_path / "copy"))
    assert run().words == ["moved"] * 4


def test_the_same_tree_by_another_name(bench: Bench, run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bench.data)
    bench.data = tmp_path / "link"
    assert run().status == 0
    assert run("--deep").status == 0


def test_logs_that_two_trees_share(bench: Bench, run: Run, tmp_path: Path) -> None:
    other = Bench(tmp_path / "two", log=str(bench.log))
    other.publish("one", patient=7)
    assert run("--deep").status == 0


def test_where_directories_are_now(tmp_path: Path) -> None:
    for name in ("a/b/c", "x/y"):
        (tmp_path / "data" / name).mkdir(parents=True)
    data = f"{tmp_path}/data"
    places = Relocation(data)
    assert places.find(f"{data}/gone") == Location(f"{data}/gone")
    assert places.find("/old/place/a/b/c") == Location(f"{data}/a/b/c", moved=True)
    assert places.find("/old/place/a/b") == Location(f"{data}/a/b", moved=True)
    assert places.find("/new/x/y") == Location(f"{data}/x/y", moved=True)
    assert places.find("/old/place/gone") == Location("/old/place/gone")
    assert not places.holds(data + "base/x")


# -- what the predecessors left ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flat", "texts"),
    [(True, {'"SeriesNumber": "1"': '"SeriesNumber": 1'}), (False, {'"size": ': '"uid": 0,"size": '})],
)
def test_documents_of_the_predecessors_are_kept(flat: bool, texts: dict[str, str], bench: Bench, run: Run) -> None:
    meta = bench.log / f"seriesData/{SERIES}-meta.json"
    if flat:
        meta.write_bytes(orjson.dumps(orjson.loads(meta.read_bytes())[SERIES]))
    for path in (meta, *(bench.log / IMAGES).iterdir()):
        for old, new in texts.items():
            path.write_text(path.read_text().replace(old, new))
    before = logs(bench)
    assert run("--deep").status == 0
    bench.data = bench.data.rename(f"{bench.data}-2")
    document(bench, 2).unlink()
    assert run("--repair").status == 0
    assert logs(bench)[f"seriesData/{SERIES}-meta.json"] == before[f"seriesData/{SERIES}-meta.json"]
    if not flat:
        assert b'"uid"' in document(bench).read_bytes()


def leave_others(bench: Bench) -> None:
    """As px-repack does: what it met before in the same run stands in the documents of patients and studies, too."""
    for kind in ("patientData", "studyData"):
        others: dict[str, Any] = {}
        for path in sorted((bench.log / kind).glob("*.json"), reverse=True):
            own = orjson.loads(path.read_bytes())
            path.write_bytes(orjson.dumps(others | own))
            others |= own


def test_what_px_repack_leaves_of_others_in_a_document_is_no_difference(bench: Bench, run: Run) -> None:
    leave_others(bench)
    before = logs(bench)
    for arguments in ((), ("--deep",), ("--repair",)):
        assert run(*arguments).words == []
    assert logs(bench) == before


OWN_OF = {"the study tells of another patient": STUDY, "a study of somebody else is listed": "P0000"}


@pytest.mark.parametrize("name", OWN_OF)
def test_a_correction_is_a_difference_beside_what_px_repack_leaves_of_others(name: str, bench: Bench, run: Run) -> None:
    harm, words = HARMS[name]
    harm(bench)
    leave_others(bench)
    before = [orjson.loads(path.read_bytes()) for path in sorted(bench.log.glob("[ps]*Data/*.json"))]
    assert run().words == words
    assert run("--repair").status == 0
    assert run("--deep").words == []
    after = [orjson.loads(path.read_bytes()) for path in sorted(bench.log.glob("[ps]*Data/*.json"))]
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed
    for old, new in changed:
        assert {key: value for key, value in old.items() if key != OWN_OF[name]}.items() <= new.items()


SHARED: dict[str, list[dict[str, Any]]] = {
    "two patients in one study": [{"patient": patient, "StudyInstanceUID": STUDY} for patient in (0, 1, 2)],
    "two patients in one series": [
        {"patient": patient, "StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES} for patient in (0, 1, 2)
    ],
    "two studies in one series": [{"study": study, "SeriesInstanceUID": SERIES} for study in (0, 1, 2)],
    "one patient with two names": [{"study": 0}, {"study": 1, "PatientName": "Other^Name"}],
    "two patients without an ID": [{"PatientID": ""}, {"study": 1, "PatientID": ABSENT}],
    "an ID that is a placeholder": [{"PatientID": "PatientID"}, {"patient": 1, "PatientID": ABSENT}],
}


@pytest.mark.parametrize("layout", ["rx", "px", "px311"])
@pytest.mark.parametrize("name", SHARED)
def test_identifiers_that_several_share_are_no_difference(
    name: str, layout: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    bench = Bench(tmp_path, layout=layout)
    for number, arguments in enumerate(SHARED[name]):
        bench.publish(str(number), **arguments)
    for more in ((), ("--deep",), ("--repair",)):
        found = Verified(bench, capsysbinary, f"--layout={layout}", *more)
        assert (found.status, found.words) == (0, [])


@pytest.mark.oracle
@pytest.mark.parametrize(("version", "layout"), [("px-3.12.6", "px"), ("px-3.11.22", "px311"), ("rx-1.0.3", "rx")])
def test_logs_of_the_real_predecessors(
    version: str, layout: str, oracle: Path, sag_anon: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    bench = Bench(tmp_path)
    shutil.copytree(oracle / version / "log", bench.log, dirs_exist_ok=True)
    sources = {path.name[5:]: path for path in sag_anon.glob("*.dcm")}
    for line in (oracle / version / "tree.txt").read_text().split():
        target = tmp_path / line
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[target.name[5:]], target)
    documents_before = {path: orjson.loads(data) for path, data in logs(bench).items()}
    assert Verified(bench, capsysbinary).words == ["moved"]
    assert Verified(bench, capsysbinary, "--repair").status == 0
    found = Verified(bench, capsysbinary, "--deep", f"--layout={layout}")
    assert (found.status, found.words) == (0, [])
    moved = {path: orjson.loads(data) for path, data in logs(bench).items()}
    old = orjson.dumps(documents_before).replace(b"/home/dicom/data/", b"")
    assert orjson.loads(orjson.dumps(moved).replace(f"{bench.data}/".encode(), b"")) == orjson.loads(old)


# -- how it is told ---------------------------------------------------------------------------------------------------


def test_without_phi_nothing_tells_of_the_patient(
    bench: Bench, run: Run, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for harm in ("a document is gone", "a size is wrong", "patient is gone", "the base is wrong"):
        if harm != "a size is wrong":
            HARMS[harm][0](bench)
    home = image(bench).parent
    (home / "P0000 again.dcm").write_text("text " * 99)
    (home / ".P0000").touch()
    (bench.log / IMAGES / "P0000").touch()
    (bench.log / "seriesData/P0000-img").mkdir()
    found = run()
    assert len(found.lines) == 7
    for arguments in ((), ("--json",)):
        command = ["verify", f"--data={bench.data}", f"--log={bench.log}", f"--state={bench.state}", *arguments]
        assert cli.main(command) == 1
        said = capsysbinary.readouterr()
        assert b"P0000" not in said.out + said.err
        assert b"Patient" not in said.out.replace(b"patient", b"")
    found = run("--phi")
    paths = [line["path"] for line in found.lines]
    assert "log/patientData/P0000.json" in paths
    assert f"data/{(home / '.P0000').relative_to(bench.data)}" in paths


def test_a_line_for_programs(bench: Bench, run: Run) -> None:
    document(bench).unlink()
    (line,) = run().lines
    assert line == {
        "difference": "no-document",
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": STUDY,
        "SOPInstanceUID": uid("instance", 0, 0, 0, 1),
        "text": WORDS["no-document"],
        "count": 1,
    }
    (line,) = run("--repair").lines
    assert line["repaired"] is True


def test_a_line_for_people(bench: Bench, run: Run, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    document(bench).unlink()
    shared("pack")(bench).unlink()
    assert cli.main(["verify", f"--data={bench.data}", f"--log={bench.log}", f"--state={bench.state}"]) == 1
    said = capsysbinary.readouterr()
    assert f"no-shared-document  series {SERIES} (pack): the document is missing\n" in said.out.decode()
    assert f"series {SERIES} instance {uid('instance', 0, 0, 0, 1)}: " in said.out.decode()
    assert b"2 differences" in said.err
    assert b"--repair" in said.err


def test_words_are_words() -> None:
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", word) for word in WORDS)
    assert not set(WORDS) & set(SET_ASIDE_REASONS)


def test_names_that_may_be_shown() -> None:
    assert public("1.2.3") == "1.2.3"
    assert public("John") == public("John") != "John"
    assert instance_in("0001-1.2.840.1.dcm") == "1.2.840.1"
    assert instance_in("Doe 1970.01.02.dcm").startswith("#")


def test_what_keep_both_puts_behind_a_name_is_where_it_should_be() -> None:
    read = Reading("1.2", "1", "1", "/d/a-1.2.dcm")
    assert expected("/d/a-1.2-0123abcd.dcm", read) == "/d/a-1.2-0123abcd.dcm"
    assert expected("/d/a-1.2.dcm", read) == expected("/d/b-0123abcd.dcm", read) == read.target


# -- beside a running service -----------------------------------------------------------------------------------------


def test_what_changed_a_moment_ago_is_looked_at_again(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the link of an instance and its document there is a moment in which it has none."""
    data = document(bench).read_bytes()
    document(bench).unlink()
    document(bench, 2).unlink()
    monkeypatch.setattr(verify, "SETTLE", 60)
    pauses = []

    def publish(seconds: float) -> None:
        pauses.append(seconds)
        (bench.log / IMAGES / f"{image(bench).name}.json").write_bytes(data)

    monkeypatch.setattr(time, "sleep", publish)
    found = run()
    assert found.words == ["no-document"]
    assert found.lines[0]["SOPInstanceUID"] == uid("instance", 0, 0, 0, 2)
    assert len(pauses) == 1
    assert 0 < pauses[0] <= 60


@pytest.mark.parametrize("kinds", [("series", "pack"), ()])
def test_a_series_that_is_just_beginning_is_not_without_instances(
    kinds: tuple[str, ...], bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own documents come first: the one below its study, then those below seriesData, and the instances' last."""
    images = bench.log / IMAGES
    images.rename(images.with_name("later"))
    for kind in {"series", "pack"} - set(kinds):
        shared(kind)(bench).rename(f"{shared(kind)(bench)}.later")
    home = image(bench).parent.rename(bench.data.with_name("later"))
    monkeypatch.setattr(verify, "SETTLE", 60)

    def publish(seconds: float) -> None:
        (images.parent / "later").rename(images)
        for path in images.parent.glob("*.later"):
            path.rename(str(path).removesuffix(".later"))
        told = orjson.loads(next(images.iterdir()).read_bytes())[SERIES]["imageObj"]
        home.rename(os.path.dirname(next(iter(told.values()))["FSlocation"]))

    monkeypatch.setattr(time, "sleep", publish)
    assert run().words == []


def test_verifying_while_instances_are_published(bench: Bench, run: Run) -> None:
    for number in range(10, 15):
        bench.publish(str(number), number=number)
        assert run("--deep").status == 0


def test_no_permission_is_told(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied", str(bench.data / "P0000"))

    monkeypatch.setattr(verify, "series_in", refuse)
    found = run()
    assert found.status == 2
    assert "no permission" in found.said
    assert "P0000" not in found.said


def test_memory_does_not_grow_with_the_instances(bench: Bench, run: Run) -> None:
    """Five hundred more instances in fifty series cost less than two kilobytes a series, and not one an instance."""

    def peak() -> int:
        gc.collect()
        tracemalloc.start()
        try:
            assert run().status == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak()
    before = peak()
    text = document(bench).read_text()
    for series in range(50):
        other = f"{SERIES}.{series}"
        home = bench.data / f"one/{series:03}/home"
        home.mkdir(parents=True)
        images = bench.log / f"seriesData/{other}-img"
        images.mkdir()
        for number in range(10):
            os.link(image(bench), home / f"{number}.dcm")
            told = text.replace(image(bench).name, f"{number}.dcm").replace(str(image(bench).parent), str(home))
            (images / f"{number}.dcm.json").write_text(told)
        for ending in ("meta", "pack"):
            shutil.copy(
                bench.log / f"seriesData/{SERIES}-{ending}.json", bench.log / f"seriesData/{other}-{ending}.json"
            )
        meta = (bench.log / f"studyData/{STUDY}-series/{SERIES}-meta.json").read_text()
        (bench.log / f"studyData/{STUDY}-series/{other}-meta.json").write_text(
            meta.replace(str(image(bench).parent), str(home))
        )
    grown = peak() - before
    assert grown < 100 * 1024, grown


def test_a_remedy_is_told_where_it_is_not_done() -> None:
    detail = "The ledger is damaged, or is none; move it away and run 'listener verify --repair', which makes it anew."
    told = {done: as_line(Difference("bad-ledger", "/p", detail=detail), done, "")["text"] for done in (None, True)}
    assert told[None] == detail
    assert told[True] == "The ledger is damaged, or is none"
    moved = Difference("moved", "/p")
    assert "--repair" in as_line(moved, None, "")["text"]
    assert "--repair" not in as_line(moved, True, "")["text"]
