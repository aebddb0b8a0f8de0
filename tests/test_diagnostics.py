"""Diagnostics: JSON lines for programs, words for people, and a count of each level."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import select
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from listener import diagnostics
from listener.diagnostics import count_into, in_colour, log, set_up
from tests.conftest import PROJECT
from tests.instances import write_instance
from tests.service_process import Places, command, environment, service, settled


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The program's logger is a global: put back what set_up() changed."""
    before = log.handlers, log.propagate, log.level
    watchdog = logging.getLogger("watchdog").propagate
    yield
    log.handlers, log.propagate, log.level = before
    logging.getLogger("watchdog").propagate = watchdog


def said(monkeypatch: pytest.MonkeyPatch, level: str = "info", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up(level)
    return stream


def test_a_json_line_a_record_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = said(monkeypatch)
    log.warning("%d files of %s\nleft", 3, "x")
    (line,) = stream.getvalue().splitlines()
    record = orjson.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("time"))
    assert record == {"level": "warning", "text": "3 files of x\nleft"}


def test_fields_stand_beside_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = said(monkeypatch)
    log.info("x", extra={"fields": {"reason": "no-space"}})
    assert orjson.loads(stream.getvalue())["reason"] == "no-space"


def test_a_name_that_is_not_utf_8_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = said(monkeypatch)
    log.error("cannot read '%s'", "a\udcff")
    assert orjson.loads(stream.getvalue())["text"] == "cannot read 'a\\xff'"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_a_floor(level: str, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = said(monkeypatch, level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [orjson.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


def test_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = said(monkeypatch, stream=Screen())
    log.info("ready")
    log.warning("slow")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "listener: ready"
    assert "listener: warning: slow" in lines[1]
    assert lines[1].endswith("\033[0m")


def test_every_record_is_counted_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    counts: Counter[str] = Counter()
    count_into(lambda level: counts.update([level]))
    log.debug("below the floor")
    log.info("x")
    log.error("x")
    log.error("x")
    assert counts == {"info": 1, "error": 2}


def test_set_up_twice_says_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    stream = said(monkeypatch)
    log.info("x")
    assert len(stream.getvalue().splitlines()) == 1


def test_the_program_has_one_logger() -> None:
    assert diagnostics.log is logging.getLogger("listener")


def test_a_reader_that_does_not_read_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What found no room is counted, and told once it reads again."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as pipe, os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up("info")
        sent = 0
        while select.select([], [stream], [], 0)[1]:
            log.info("%d %s", sent, "x" * 1000)
            sent += 1
        for _ in range(20):
            log.info("nobody reads")
        texts = _texts(pipe)
        assert [text.split()[0] for text in texts] == [str(number) for number in range(sent)]
        log.info("again")
        assert _texts(pipe) == ["standard error was not read: 20 lines left out", "again"]


def test_a_reader_that_went_away_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    set_up("info")
    log.info("to nobody")
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def _texts(pipe: io.FileIO) -> list[str]:
    read = b""
    while select.select([pipe], [], [], 0)[0]:
        read += pipe.read(65536)
    return [orjson.loads(line)["text"] for line in read.splitlines()]


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False)])
def test_no_color_is_obeyed(value: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", value)
    assert in_colour(Screen()) is coloured
    assert not in_colour(io.StringIO())
    stream = said(monkeypatch, stream=Screen())
    log.warning("slow")
    assert ("\033[" in stream.getvalue()) is coloured


def test_whoever_writes_in_colours_asks_whether_to() -> None:
    """Codes that end in m; those that end in another letter move the cursor."""
    sources = {path: path.read_text(encoding="utf-8") for path in (PROJECT / "listener").rglob("*.py")}
    colours = {path.name for path, text in sources.items() if re.search(r"\\(033|x1b)\[\d+m", text)}
    assert colours == {path.name for path, text in sources.items() if "in_colour(" in text}


@pytest.mark.real
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_file_s_descriptor(closed: str, places: Places) -> None:
    """What is opened next would have its number: events would be written into a patient's file."""
    sent = [write_instance(places.incoming / f"{number}", number=number) for number in range(3)]
    whole = {path.read_bytes() for path in sent}
    line = shlex.join(command("once", *places.flags(), "--min-free", "0", "--workers", "1"))
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], env=environment(), capture_output=True, check=False)
    assert (done.returncode, list(places.incoming.glob("[0-9]*"))) == (0, [])
    assert {path.read_bytes() for path in places.data.rglob("*.dcm")} == whole
    for path in places.log.rglob("*.json"):
        orjson.loads(path.read_bytes())


@pytest.mark.real
def test_a_service_without_standard_error_runs(places: Places) -> None:
    with service(places, through=["sh", "-c", 'exec "$@" 2>&-', "sh"]) as running:
        write_instance(places.incoming / "a")
        settled(running, 1)
        assert running.stderr == ""
