"""The real pypx in an environment of its own: built once, kept in a cache, its programs as functions.

pypx = Pypx.get("3.12.6")            # raises Unreachable when PyPI cannot be asked
pypx.repack(incoming, data, log)
pypx.counts(log, study_uid, series_uid)   # what px-status says
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.environments import environment

VERSIONS = ("3.11.22", "3.12.6")

_INSIDE = Path(__file__).parent / "inside"
_RUN_SECONDS = 120
_SCRATCH = "scratch"


@dataclass(frozen=True)
class Pypx:
    """One installed version of pypx."""

    version: str
    folder: Path

    @classmethod
    def get(cls, version: str) -> Pypx:
        """The environment of `version`, built first if need be."""
        return cls(version, environment(f"pypx-{version}", [f"pypx=={version}", "pydicom<3"]))

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment, by name, until it ends; its exit status is the caller's to judge."""
        return subprocess.run(
            [self.folder / "bin" / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_RUN_SECONDS,
            check=False,
            cwd=self._scratch(),
            env=self._environment(),
        )

    def repack(self, incoming: Path, data: Path, log: Path, substring: str = ".", *more: str) -> None:
        """px-repack over all files of a folder whose names hold `substring`; it does not say what it could not do."""
        files: tuple[str | Path, ...] = ("--xcrdir", incoming, "--parseAllFilesWithSubStr", substring)
        done = self.run("px-repack", *files, "--datadir", data, "--logdir", log, "--verbosity", "0", *more)
        assert done.returncode == 0, done.stderr

    def status(self, log: Path, study: str, series: str) -> dict[str, Any]:
        """All that px-status says of a series (of 3.12.6: what it would say if its released script worked)."""
        if self.version.startswith("3.11"):
            named = ("--StudyInstanceUID", study, "--SeriesInstanceUID", series)
            return _json(self.run("px-status", "--dblogbasepath", log, *named, "--verifySeriesInStudy", "--json"))
        return _last_line(self._script("status", log, study, series))

    def counts(self, log: Path, study: str, series: str) -> dict[str, int]:
        """px-status's numbers."""
        return counts_of(self.status(log, study, series))

    def smdb(self, log: Path, action: str, argument: str) -> dict[str, Any]:
        """px-smdb's answer: actions imageDirsPatientID, imageDirsSeriesInstanceUID, mapsUpdateForPatient."""
        return _json(self.run("px-smdb", "--logdir", log, "--action", action, "--actionArgs", argument))

    def report(self, log: Path) -> list[dict[str, Any]]:
        """px-report over every study of a log directory: for each its `header`, `body` and `bodySeriesUID`."""
        question = self._scratch() / f"report-{os.getpid()}.json"
        question.write_text(json.dumps(report_input(log)), encoding="utf-8")
        answer = self.run("px-report", "--reportDataFile", question, "--printReport", "json")
        question.unlink()
        studies: list[dict[str, Any]] = json.loads(answer.stdout)
        return studies

    def push(self, log: Path, folder: Path, store: Path) -> dict[str, Any]:
        """px-push of a folder's .dcm files to file-system storage under `store`."""
        storage = ("--storeBaseLocation", store, "--swiftServicesPACS", "COMPAT", "--json", "--verbosity", "0")
        files = ("--xcrdir", folder, "--parseAllFilesWithSubStr", "dcm")
        return _last_line(self._script("push", "--db", log, *files, *storage))

    @contextmanager
    def templates(self) -> Iterator[Callable[[dict[str, str], str], str]]:
        """A function that asks pypx what a template gives for some tags."""
        command = [str(self.folder / "bin" / "python"), "-W", "ignore", str(_INSIDE / "templates.py")]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._scratch(),
            env=self._environment(),
        ) as server:
            assert server.stdin
            assert server.stdout
            put, get = server.stdin, server.stdout

            def ask(tags: dict[str, str], template: str) -> str:
                put.write(json.dumps({"tags": tags, "template": template}) + "\n")
                put.flush()
                answer: str = json.loads(get.readline())
                return answer

            yield ask
            put.close()

    def _script(self, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-W", "ignore", _INSIDE / f"{name}.py", *arguments)

    def _scratch(self) -> Path:
        """Where programs run: px-repack leaves a file `-not applicable-` in the working directory at times."""
        folder = self.folder / _SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's; pudb, which pypx imports, writes its settings into the home directory."""
        home = str(self._scratch())
        return {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.defpath}", "HOME": home, "LANG": "C.UTF-8"}


def counts_of(status: dict[str, Any]) -> dict[str, int]:
    """The numbers in what px-status says: received, requested, packed, pushed, registered."""
    return {name: told["count"] for name, told in status["images"].items() if isinstance(told, dict)}


def report_input(log: Path) -> dict[str, Any]:
    """What px-report takes (px-find's answer), made of a log directory's study-series documents."""
    studies = []
    for folder in sorted((log / "studyData").glob("*-series")):
        documents = [json.loads(path.read_bytes()) for path in sorted(folder.iterdir())]
        series = [dict(next(iter(each.values()))["DICOM"]) for each in documents]
        studies.append({**series[0], "series": series})
    wanted = "PatientName PatientBirthDate StudyDate PatientAge PatientSex AccessionNumber PatientID StudyDescription"
    return {"status": "success", "command": f"findscu {wanted} Modality", "data": studies}


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{done.args} printed no JSON:\n{done.stdout}\n{done.stderr}") from None
    return answer


def _last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
