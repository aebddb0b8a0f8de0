"""A closed pipe, a full disk under the output: what acts is done all the same, what only prints ends as others do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from listener import verbs
from listener.arguments import parser
from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from listener.ledger.reader import reading
from listener.streams import CLOSED_PIPE
from tests.instances import write_instance
from tests.ledger_bench import LedgerBench
from tests.service_process import command, environment
from tests.workbench import contents

pytestmark = pytest.mark.real

#: More than a pipe's reader has read when it goes.
MANY = 5


@pytest.fixture
def kept(tmp_path: Path) -> LedgerBench:
    """Complete series, files that were set aside, a document that is lost, and files that wait."""
    made = LedgerBench(tmp_path)
    for number in range(MANY):
        made.receive(f"a{number}", series=number)
        bad = made.incoming / f"bad{number}"
        bad.write_bytes(b"nothing of the kind")
        made.clerk.record([made.outcome(bad)], made.now, 1)
    made.tick(10)
    for number in range(MANY):
        made.put(f"waiting{number}", series=number, number=2)
    made.clerk.close()
    return made


def lost_documents(kept: LedgerBench) -> None:
    for path in kept.log.rglob("*.dcm.json"):
        path.unlink()


def outside(kept: LedgerBench) -> str:
    folder = kept.incoming.parent / "named"
    folder.mkdir()
    for number in range(MANY):
        write_instance(folder / f"n{number}", series=number, number=3)
    return str(folder)


def registered(kept: LedgerBench) -> None:
    """A consumer of the ledger, for which series wait."""
    with closing(open_writer(path_of(str(kept.state)))) as connection:
        deliveries.register(connection, "stage", 1)


def incomplete(kept: LedgerBench) -> None:
    """Every study lacks instances."""
    with closing(open_writer(path_of(str(kept.state)))) as connection:
        connection.execute("UPDATE series SET state = 'incomplete'")


def is_acknowledged(kept: LedgerBench) -> bool:
    with reading(str(kept.state)) as reader:
        counts = reader.study_counts()
        return counts["acknowledged"] == counts["incomplete"] > 0


def is_retired(kept: LedgerBench) -> bool:
    with reading(str(kept.state)) as reader:
        return [consumer.state for consumer in reader.consumers()] == ["retired"]


def count(kept: LedgerBench, pattern: str) -> int:
    return len([name for name in contents(kept.incoming.parent) if Path(name).match(pattern)])


#: Command lines that act: what comes before, and what is there afterwards.
ACTS: dict[str, tuple[Callable[[LedgerBench], object] | None, Callable[[LedgerBench], bool]]] = {
    "prune --series 0 --yes": (None, lambda kept: count(kept, "*.dcm") == 0),
    "prune --set-aside 0 --yes --json": (None, lambda kept: count(kept, "set-aside/*/bad*") == 0),
    "retry --all": (None, lambda kept: count(kept, "incoming/bad*") == MANY),
    "verify --repair": (lost_documents, lambda kept: count(kept, "*.dcm.json") == MANY),
    "once --log-level error": (None, lambda kept: count(kept, "*.dcm.json") == 2 * MANY),
    "repack --cleanup --log-ndjson {named}": (None, lambda kept: count(kept, "named/*") == 0),
    "expect 1.2.3 4": (None, lambda kept: True),
    "acknowledge --all": (incomplete, is_acknowledged),
    "hooks retire stage --yes": (registered, is_retired),
}

#: Those that only print.
PRINTS = (
    "prune --series 0",
    "retry --all --dry-run",
    "verify",
    "check",
    "plan {waiting}",
    "series",
    "series --json",
    "find --csv",
    "set-aside",
    "acknowledge --all --dry-run",
    "studies",
    "report",
    "report --tsv",
    "status",
    "hooks",
    "hooks retire stage",
    "batches",
    "export status",
    "notify status",
)

#: Those that are not tried here: the service looks after its output itself, stages and parts are tried where they are
#: at work, and bench only prints.
ELSEWHERE = {"run", "bench", "deidentify", "parts", "route", "serve"}


def line(kept: LedgerBench, words: str) -> list[str]:
    """A command line with the directories that the command knows."""
    name = words.split(maxsplit=1)[0]
    named = [outside(kept)] if "{named}" in words else []
    waiting = [str(path) for path in sorted(kept.incoming.iterdir())] if "{waiting}" in words else []
    more = [word for word in words.split()[1:] if not word.startswith("{")] + named + waiting
    known = vars(parser().parse_args([name, *_needed(name)]))
    places = {"incoming": kept.incoming, "data": kept.data, "log": kept.log, "state": kept.state}
    flags = [f"--{option}={path}" for option, path in places.items() if option in known]
    return [name, *flags, *(["--min-free=0"] if "min_free" in known else []), *more]


def _needed(name: str) -> list[str]:
    return {"plan": ["x"], "expect": ["1.2", "1"]}.get(name, [])


def closed(words: list[str], *, errors_too: bool) -> subprocess.CompletedProcess[bytes]:
    """The command with a standard output that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        errors = writer if errors_too else subprocess.PIPE
        return subprocess.run(command(*words), stdout=writer, stderr=errors, env=environment(), timeout=90, check=False)
    finally:
        os.close(writer)


@pytest.mark.parametrize("errors_too", [False, True], ids=["stdout", "both"])
@pytest.mark.parametrize("words", ACTS)
def test_what_acts_goes_on_when_nobody_reads(words: str, errors_too: bool, kept: LedgerBench) -> None:
    before, done = ACTS[words]
    if before:
        before(kept)
    ended = closed(line(kept, words), errors_too=errors_too)
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in (ended.stderr or b"")
    assert done(kept)


@pytest.mark.parametrize("words", PRINTS)
def test_what_only_prints_ends_like_any_program(words: str, kept: LedgerBench) -> None:
    if words == "verify":
        lost_documents(kept)
    if words.startswith("acknowledge"):
        incomplete(kept)
    if words.startswith("hooks"):
        registered(kept)
    before = contents(kept.incoming.parent)
    ended = closed(line(kept, words), errors_too=False)
    assert ended.returncode == CLOSED_PIPE, ended.stderr
    assert ended.stderr == b""
    after = contents(kept.incoming.parent)
    assert {name: data for name, data in after.items() if "ledger" not in name} == {
        name: data for name, data in before.items() if "ledger" not in name
    }


def test_every_command_is_among_them() -> None:
    named = {words.split()[0] for words in (*ACTS, *PRINTS)}
    assert set(verbs.names()) - named == ELSEWHERE


def test_a_full_disk_under_the_output_stops_no_act_and_is_told(kept: LedgerBench) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            command(*line(kept, "retry --all")), stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert ended.returncode == 1
    assert b"standard output could not be written (No space left on device)" in ended.stderr
    assert count(kept, "incoming/bad*") == MANY
