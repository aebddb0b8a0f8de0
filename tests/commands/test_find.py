"""`listener find`, `studies` and `series` show patients and studies, to people and to programs."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.commands import prune
from listener.commands._table import columns_of, table
from listener.ledger.connection import open_writer, path_of
from tests.ledger_bench import HEADER, LedgerBench

#: Whose texts would be commands of a terminal, and formulas of a spreadsheet.
HOSTILE = {
    "PatientName": "=cmd|'x'!A1\x1b[2J\x07^b",
    "PatientID": "+1\u202e2",
    "StudyDescription": "@SUM(A1)\x9b31m",
    "SpecificCharacterSet": "ISO_IR 192",
}
SECOND = {
    "PatientName": "Doe^John",
    "PatientID": "M20",
    "AccessionNumber": "B2",
    "StudyDate": "20251224",
    "StudyDescription": "Abdomen",
    "Modality": "CT",
    "sender": "CT1",
}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[LedgerBench]:
    """Three studies; the second one of two series, the last one hostile."""
    made = LedgerBench(tmp_path)
    made.receive("a", number=1, **HEADER)
    made.receive("b", patient=1, number=1, **SECOND)
    made.receive("c", patient=1, series=1, number=1, **{**SECOND, "Modality": "SR"}, sent_by="CT1")
    made.receive("d", patient=2, number=1, **HOSTILE)
    yield made
    made.clerk.close()


def ask(kept: LedgerBench, verb: str, *arguments: str) -> int:
    return cli.main([verb, f"--state={kept.state}", *arguments])


def found(kept: LedgerBench, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """PatientIDs of what is found; exactly then the exit status is 0."""
    status = ask(kept, "find", "--json", *arguments)
    answers = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == (0 if answers else 1)
    return sorted(answer["PatientID"] for answer in answers)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["doe^j*"], ["M20"]),
        (["muller"], ["M 17"]),
        (["MÜLLER^ÄNNE"], ["M 17"]),
        (["*john"], ["M20"]),
        (["d?e"], []),
        (["--mrn=m2?"], ["M20"]),
        (["--mrn", "M 17"], ["M 17"]),
        (["--accession", "b2"], ["M20"]),
        (["--study-date", "2026-01-05"], ["M 17"]),
        (["--study-date", "2026-01-01.."], ["M 17"]),
        (["--study-date", "..2025-12"], ["+1\u202e2", "M20"]),
        (["--study-date", "2025"], ["M20"]),
        (["--study-date", "20251224..2026"], ["M 17", "M20"]),
        (["--modality", "sr"], ["M20"]),
        (["--description", "SCHADEL"], ["M 17"]),
        (["--description", "t1"], ["M 17"]),
        (["--arrived", "1h"], ["+1\u202e2", "M 17", "M20"]),
        (["--arrived", "..2020"], []),
        (["--only", "open", "--modality", "ct"], ["M20"]),
        (["--only", "complete"], []),
        (["--sender", "CT1"], ["M20"]),
        ([], ["+1\u202e2", "M 17", "M20"]),
    ],
)
def test_studies_are_found(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: list[str]
) -> None:
    assert found(kept, capsys, *arguments) == wanted


def test_what_is_not_found_is_said_in_a_line(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "find", "nobody") == 1
    assert capsys.readouterr() == ("", "nothing was found\n")


@pytest.mark.parametrize("name", ["muller anne", "Müller, Änne"])
def test_a_name_as_people_say_it_is_told_how_to_be_written(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert ask(kept, "find", name) == 1
    assert "parted by ^: 'doe^jane'" in capsys.readouterr().err


def test_a_study_whose_files_were_removed_says_so(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    kept.tick(20)
    assert prune.prune(kept.config, prune.Request(set_aside=None, series=0, yes=True)) == 0
    kept.receive("again", patient=1, number=1, **SECOND)
    capsys.readouterr()
    assert ask(kept, "find", "--json") == 0
    rows = {row["PatientID"]: row for row in map(orjson.loads, capsys.readouterr().out.splitlines())}
    assert {name: bool(row["pruned"]) for name, row in rows.items()} == {"M 17": True, "M20": False, "+1\u202e2": True}
    assert ask(kept, "find", "--mrn", "M 17") == 0
    assert f"(removed {rows['M 17']['pruned'][:10]})" in capsys.readouterr().out
    assert ask(kept, "studies", rows["M 17"]["StudyInstanceUID"]) == 0
    assert "pruned" in capsys.readouterr().out


@pytest.mark.parametrize("period", ["2026-13", "2026-02-30", "yesteryear", "..", "7x", "2026-01-01...2026-02-01"])
@pytest.mark.parametrize("option", ["--study-date", "--arrived"])
def test_what_is_no_period_is_named(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str], option: str, period: str
) -> None:
    assert ask(kept, "find", option, period) == 2
    assert f"{option}: '{period}' is no period; give 2026-01-31" in capsys.readouterr().err


def test_a_limit_says_that_there_are_more(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    for limit, lines, more in ((2, 2, True), (3, 3, False), (0, 3, False)):
        assert ask(kept, "find", "--json", "--limit", str(limit)) == 0
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == lines
        assert ("--limit 0 finds all" in printed.err) == more


def test_one_row_a_study(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "find", "--mrn", "M20") == 0
    head, line = capsys.readouterr().out.splitlines()
    cells = re.split(r"  +", line)
    assert re.split(r"  +", head) == [
        *("study date", "patient", "PatientID", "description", "modality", "series", "instances", "arrived (UTC)"),
        "folder",
    ]
    assert cells[:7] == ["2025-12-24", "Doe^John", "M20", "Abdomen", "CT,SR", "0/2", "2"]
    assert Path(cells[8]).is_dir()


def test_programs_get_the_same_in_each_shape(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "find", "--mrn", "M20", "--json") == 0
    one = orjson.loads(capsys.readouterr().out)
    assert one["ModalitiesInStudy"] == ["CT", "SR"]
    texts = {name: "\\".join(value) if isinstance(value, list) else str(value) for name, value in one.items()}
    assert ask(kept, "find", "--mrn", "M20", "--csv") == 0
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out))) == [texts]
    assert ask(kept, "find", "--mrn", "M20", "--tsv") == 0
    head, values = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert dict(zip(head, values, strict=True)) == texts


@pytest.mark.parametrize("shape", ["", "--csv", "--tsv"])
@pytest.mark.parametrize("verb", ["find", "studies"])
def test_no_text_commands_a_terminal(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str], verb: str, shape: str
) -> None:
    assert ask(kept, verb, *([shape] if shape else [])) == 0
    printed = capsys.readouterr().out
    assert all(character.isprintable() or character in "\n\t" for character in printed)
    if shape == "--csv":
        cells = [cell for row in csv.reader(io.StringIO(printed)) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


# -- a terminal --------------------------------------------------------------------------------------------------------


def on_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that a command prints on a terminal so many columns wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "listener", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as running:
        os.close(theirs)
        printed = b""
        try:
            while more := os.read(ours, 65536):
                printed += more
        except OSError:  # The other end is closed.
            pass
        assert running.wait(120) == 0
    os.close(ours)
    return printed.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.real
@pytest.mark.parametrize("columns", [40, 80, 120, 1000])
def test_a_table_fits_a_terminal_and_folders_are_whole(kept: LedgerBench, columns: int) -> None:
    long = {**SECOND, "PatientName": "Featherstonehaugh^" + "X" * 40, "StudyDescription": "山田" * 30}
    kept.receive("e", patient=3, number=1, SpecificCharacterSet="ISO_IR 192", **long)
    lines = on_terminal(columns, "find", f"--state={kept.state}")
    folders = [line.strip() for line in lines if line.startswith("  ")]
    assert all(Path(folder).is_dir() for folder in folders)
    if columns >= 80:
        assert all(columns_of(line) <= columns for line in lines if not line.startswith("  "))
    assert len(folders) == (0 if columns == 1000 else 4)


def test_columns_are_cut_from_the_widest() -> None:
    rows = [["a" * 30, "b", "山田" * 10], ["c", "d", "e"]]
    assert table(("x", "y", "z"), rows, 30).splitlines() == [
        "x             y  z",
        "aaaaaaaaaaa…  b  山田山田山田…",
        "c             d  e",
    ]
    assert "a" * 30 in table(("x", "y", "z"), rows, 30, keeps=0)


# -- one study ---------------------------------------------------------------------------------------------------------


def test_one_study_is_shown_with_its_series_history_and_deliveries(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    with_consumer = open_writer(path_of(str(kept.state)))
    with_consumer.execute("INSERT INTO consumers (name, since_ns) VALUES ('export', 1)")
    with_consumer.close()
    kept.tick()
    kept.tick(11)
    assert ask(kept, "find", "--mrn", "M20", "--json") == 0
    uid = orjson.loads(capsys.readouterr().out)["StudyInstanceUID"]
    assert ask(kept, "studies", uid, "--json") == 0
    one = orjson.loads(capsys.readouterr().out)
    assert [series["Modality"] for series in one["all_series"]] == ["CT", "SR"]
    for series in one["all_series"]:
        assert [change["state"] for change in series["history"]] == ["open", "complete"]
        assert [delivery["consumer"] for delivery in series["deliveries"]] == ["export"]
        assert Path(series["folder"]).parent == Path(one["folder"])
    assert ask(kept, "studies", uid) == 0
    text = capsys.readouterr().out
    for part in (uid, "Doe^John", "2 of 2 complete", one["folder"], "history", "deliveries", "series-complete"):
        assert part in text
    for series in one["all_series"]:
        assert series["SeriesInstanceUID"] in text


def test_an_unknown_study_is_said_with_what_to_do(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "studies", "1.2.3") == 1
    assert capsys.readouterr().err == "listener: The ledger knows no such study; 'listener find' looks for one.\n"
    assert ask(kept, "studies", "1.2.3", "--csv") == 2


def test_series_tell_what_headers_say(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "series", "--json") == 0
    told = {one["PatientID"]: one for one in map(orjson.loads, capsys.readouterr().out.splitlines())}
    series = told["M 17"]
    assert (series["SeriesNumber"], series["SeriesDescription"], series["StationName"]) == ("3", "t1 ax", "MR2")
    assert Path(series["folder"]).is_dir()
    assert ask(kept, "series", series["SeriesInstanceUID"]) == 0
    assert "Müller^Änne" in capsys.readouterr().out


def test_who_cannot_be_found_yet_is_said(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    connection = open_writer(path_of(str(kept.state)))
    connection.execute("UPDATE series SET patient_id = 0")
    connection.close()
    assert ask(kept, "find", "doe") == 1
    assert "4 series are not read yet" in capsys.readouterr().err
