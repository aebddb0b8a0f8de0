"""`listener deidentify` beside dicom-anonymizer, deid and dcmanon: processor time a file, each in one process; then
with two workers. Verification and the vault are part of ours; the others verify nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from listener.benchmark.corpus import Corpus
from listener.benchmark.figures import Sample
from listener.benchmark.repackers import finish, listener
from listener.benchmark.stage_runs import Ready, Span, measured, publish
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs, WorkDir, settle

#: A recipe as data managers write them: filters, and lines of every kind.
_RECIPE = """\
FORMAT dicom
%filter blacklist
LABEL Dose reports
  contains Modality CT
  + contains SeriesDescription dose || contains ImageType SCREEN SAVE
%header
REMOVE endswith:Time
KEEP StudyTime
BLANK PatientComments
REPLACE StudyDescription Study
ADD ClinicalTrialProtocolID trial-1
JITTER AcquisitionDate 3
"""

#: Ways of `listener deidentify` that are measured, with their options; "RECIPE" stands for a file with _RECIPE.
WAYS = {
    "deidentify": ["--workers=1"],
    "deidentify, modified dates and a recipe": ["--workers=1", "--option=retain-modified-dates", "--recipe=RECIPE"],
    "deidentify --workers 2": ["--workers=2"],
}

#: Stands in the line of each unit, also of one that is held.
_DONE = b'"unit":'

#: The others as loops over the same files, with what their own documentation uses. Each says when it begins, after a
#: file that is not counted: its start and imports are not measured.
_LOOP = """
import logging, os, sys, warnings
from pathlib import Path
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
data, into = sys.argv[1:3]
{}
files = sorted(map(str, Path(data).rglob("*.dcm")))
clean(files[0], os.path.join(into, os.path.basename(files[0])))
print('"started"', flush=True)
for file in files:
    clean(file, os.path.join(into, os.path.basename(file)))
"""

#: By the package that is imported: the program's name, and what cleans one file.
PEERS = {
    "dicomanonymizer": (
        "dicom-anonymizer",
        """
from dicomanonymizer import anonymize_dicom_file
def clean(source, target):
    anonymize_dicom_file(source, target, {}, True)
""",
    ),
    "deid": (
        "deid",
        """
from deid.config import DeidRecipe
from deid.dicom import replace_identifiers
recipe = DeidRecipe()
def clean(source, target):
    replace_identifiers([source], deid=recipe, save=True, overwrite=True, output_folder=into)
""",
    ),
    "dcmanon": (
        "dcmanon",
        """
from dcmanon import Anonymizer
anonymizer = Anonymizer()
def clean(source, target):
    Path(target).write_bytes(anonymizer.anonymize(source))
""",
    ),
}


def peers() -> Iterator[tuple[str, list[str]]]:
    """Yield name and command line, without its directories, of each program that is there: they are packages of the
    Python that dicom-anonymizer or deid on PATH is run by.
    """
    for package, (name, code) in PEERS.items():
        python = next((found for found in map(_python_of, ("dicom-anonymizer", "deid")) if _has(found, package)), None)
        if python:
            yield name, [python, "-c", _LOOP.format(code)]


def _python_of(program: str) -> str:
    """Return the interpreter in the first line of a program on PATH, "" if there is none."""
    path = shutil.which(program)
    if not path:
        return ""
    with open(path, "rb") as file:
        line = file.readline(4096)
    return line[2:].strip().decode(errors="replace") if line.startswith(b"#!/") else ""


def _has(python: str, package: str) -> bool:
    """Return whether the environment of an interpreter has a package."""
    folder = Path(python).parent.parent
    return bool(python) and any(folder.glob(f"lib/python*/site-packages/{package}/__init__.py"))


class Deidentifying:
    """Measures programs that clean one collection."""

    def __init__(self, workdir: WorkDir, corpus: Corpus) -> None:
        self._workdir, self._corpus = workdir, corpus
        self._key, self._recipe = workdir.home / "key", workdir.home / "recipe"
        self._ready: Ready | None = None

    def programs(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """Yield each program with what measures one run of it; the first is what the others are compared with."""
        for name, flags in WAYS.items():
            yield name, partial(self._ours, name, flags)
        for name, command in peers():
            yield name, partial(self._theirs, name, command)

    def _collection(self) -> Ready:
        """Publish the corpus, which waits for a stage that was begun before it came."""
        if not self._ready:
            nowhere = self._workdir.home / "clean"
            nowhere.mkdir()
            self._recipe.write_text(_RECIPE, encoding="utf-8")
            finish(listener("deidentify", "new-key", str(self._key)))
            register = ["deidentify", "once", f"--into={nowhere}", f"--key-file={self._key}", "--http=off"]
            self._ready = publish(RunDirs(self._workdir.home / "cleaned"), self._corpus, register)
        return self._ready

    def _ours(self, name: str, flags: Sequence[str]) -> Sample:
        """Measure all units but those at the beginning, one for each worker, with which its process starts."""
        ready = self._collection()
        with self._workdir.place() as place:
            shutil.copytree(ready.place.state, place.state)
            into = _folder(place, ready)
            where = [f"--state={place.state}", f"--data={ready.place.data}", f"--into={into}"]
            more = [word.replace("RECIPE", str(self._recipe)) for word in flags]
            words = [*where, f"--key-file={self._key}", "--fsync=none", "--http=off", *more]
            workers = int(flags[0].partition("=")[2])
            span = Span(_DONE, _DONE, workers, ready.series)
            took = measured(listener("deidentify", *words), place.base / "said", span, os.environ)
            _check(name, into, ready)
            counted = ready.files * (ready.series - workers) // ready.series
            size = ready.size * counted // ready.files
            return Sample(name, counted, size, took.cpu / counted, took.wall, *took.rest)

    def _theirs(self, name: str, command: Sequence[str]) -> Sample:
        ready = self._collection()
        with self._workdir.place() as place:
            into = _folder(place, ready)
            words = [*command, str(ready.place.data), str(into)]
            took = measured(words, place.base / "said", Span(b'"started"'), os.environ)
            _check(name, into, ready)
            return Sample(name, ready.files, ready.size, took.cpu / ready.files, took.wall, *took.rest)


def _folder(place: RunDirs, ready: Ready) -> Path:
    into = place.base / "into"
    into.mkdir()
    settle(place, ready.size)
    return into


def _check(name: str, into: Path, ready: Ready) -> None:
    """Raise Unfinished unless every instance came out, with its pixels."""
    sizes = [path.stat().st_size for path in into.rglob("*.dcm")]
    if len(sizes) != ready.files or min(sizes) == 0:
        raise Unfinished(f"{name}: {len(sizes)} of {ready.files} files came out")
