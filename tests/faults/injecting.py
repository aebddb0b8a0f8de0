"""Scenarios small enough to be interrupted at each of their system calls, and the fault injected there by strace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.accounting import Canary, data_set_digest, left_over, misdescribed, read_set_aside, read_tree
from tests.conftest import PROJECT
from tests.instances import instance, save
from tests.service_process import Places, environment, make_places

#: Every call by which the program changes anything that outlives it, and those that decide whether it may.
CALLS = [
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mknod",
    "mknodat",
    "open",
    "openat",
    "creat",
    "write",
    "pwrite64",
    "writev",
    "sendfile",
    "copy_file_range",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "utime",
    "utimes",
    "utimensat",
    "flock",
    "fcntl",
]

#: Who meets the fault: the whole program in one process, or one worker.
WHO = ("all", "worker")


@dataclass(frozen=True, slots=True)
class Item:
    """One file in incoming and what must become of it: `data` (in the tree), `dropped` (a duplicate), or a reason."""

    name: str
    end: str
    instance: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    linked: bool = False

    def write(self, places: Places) -> Path:
        path = places.incoming / self.name
        if self.body is not None:
            path.write_bytes(self.body)
        else:
            save(instance(**self.instance), path)
        if self.linked:
            outside = places.base / "outside"
            outside.mkdir(exist_ok=True)
            os.link(path, outside / self.name)
        return path


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` was repacked in an earlier, undisturbed run; `items` are there when the fault comes."""

    items: tuple[Item, ...]
    before: tuple[Item, ...] = ()
    args: tuple[str, ...] = ()
    #: What the accounts say of an undisturbed run, too.
    known: str = "not known"


FIRST, SECOND, THIRD = ({"number": number} for number in (1, 2, 3))
EDITED = {"number": 1, "StudyTime": "235959"}
RENAMED = {"number": 1, "PatientName": "Corrected^Name"}

SCENARIOS = {
    "new": Scenario(
        (
            Item("1-new", "data", FIRST),
            Item("2-second", "data", SECOND),
            Item("3-again", "dropped", {**FIRST, "sender": "OTHER"}),
            Item("4-empty", "empty", body=b""),
            Item("5-text", "not-dicom", body=b"no DICOM\n" * 30),
        )
    ),
    "again": Scenario(
        (Item("2-again", "dropped", {**FIRST, "sender": "OTHER"}), Item("3-second", "data", SECOND)),
        before=(Item("1-new", "data", FIRST),),
    ),
    "replace": Scenario((Item("2-edited", "data", EDITED),), before=(Item("1-new", "superseded", FIRST),)),
    "replace at once": Scenario((Item("1-new", "superseded", FIRST), Item("2-edited", "data", EDITED))),
    # The document of a series goes on describing the first instance that was published.
    "moved": Scenario(
        (Item("2-renamed", "data", RENAMED),),
        before=(Item("1-new", "superseded", FIRST),),
        known="but the series lies in",
    ),
    "moved at once": Scenario(
        (Item("1-new", "superseded", FIRST), Item("2-renamed", "data", RENAMED)), known="but the series lies in"
    ),
    "keep both": Scenario(
        (Item("2-edited", "data", EDITED), Item("3-edited", "dropped", {**EDITED, "sender": "OTHER"})),
        before=(Item("1-new", "data", FIRST),),
        args=("--on-conflict", "keep-both"),
    ),
    "set aside": Scenario(
        (Item("2-edited", "conflict", EDITED), Item("3-third", "data", THIRD)),
        before=(Item("1-new", "data", FIRST),),
        args=("--on-conflict", "set-aside"),
    ),
    "copied": Scenario(
        (Item("2-linked", "data", SECOND, linked=True), Item("3-edited", "data", EDITED, linked=True)),
        before=(Item("1-new", "superseded", FIRST),),
    ),
    "another study": Scenario(
        (Item("2-study", "data", {"study": 1}), Item("3-series", "data", {"series": 1})),
        before=(Item("1-new", "data", FIRST),),
    ),
    "one by one": Scenario(
        (Item("1-new", "data", FIRST), Item("2-second", "data", SECOND)), args=("--fsync", "each", "--layout", "px")
    ),
}


class Forks:
    """A process that forks for each request: requests and answers are lines of JSON."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=PROJECT,
            process_group=0,
        )

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        assert self._process.wait(120) == 0

    def ask(self, request: dict[str, Any]) -> Any:
        """What it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(request) + b"\n")
        self._process.stdin.flush()
        return orjson.loads(self._process.stdout.readline())


class Zygote(Forks):
    """Runs the program (tests/faults/zygote.py)."""

    def __init__(self) -> None:
        super().__init__("tests.faults.zygote")

    def once(
        self, places: Places, args: tuple[str, ...], who: str, inject: str = "", calls: Sequence[str] = CALLS
    ) -> Ended:
        """`listener once`, with a fault if there is one to `inject`."""
        argv = ("once", *places.flags(), "--min-free", "0", "--workers", "1", *args)
        return self.command(places, argv, who, inject, calls)

    def command(
        self, places: Places, argv: Sequence[str], who: str, inject: str = "", calls: Sequence[str] = CALLS
    ) -> Ended:
        """Any command of the program."""
        out = places.base / "outside" / "said"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        answer = self.ask({"argv": list(argv), "who": who, "inject": inject, "calls": calls, "out": str(out)})
        trace = (out / "trace").read_text(errors="replace") if inject else ""
        return Ended(answer["status"], (out / "stdout").read_bytes(), (out / "stderr").read_text(), trace)


@dataclass(frozen=True, slots=True)
class Ended:
    """A `once` that has ended: its status (None: it had to be killed), what it said, and what strace saw."""

    status: int | None
    stdout: bytes
    stderr: str
    trace: str

    @property
    def hit(self) -> bool:
        return "+++ killed by SIGKILL +++" in self.trace or "(INJECTED)" in self.trace

    @property
    def met(self) -> list[str]:
        """The calls that met the fault, with the files that they were about."""
        return [line for line in self.trace.splitlines() if "INJECTED" in line or line.endswith("= ?")]

    def where(self) -> str:
        """The last of them."""
        return self.met[-1][:200] if self.met else ""


@contextmanager
def stand(scenario: Scenario) -> Iterator[Stand]:
    """A scenario, ready to be laid out, in memory where there is room: nothing here depends on a disk."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a private directory below it
    with tempfile.TemporaryDirectory(prefix="listener-", dir=memory) as name:
        base = Path(name)
        forks = Zygote()
        try:
            yield Stand(base, forks, scenario)
        finally:
            forks.close()


class Stand:
    """One scenario laid out in directories of its own, as often as it is needed."""

    def __init__(self, base: Path, forks: Zygote, scenario: Scenario) -> None:
        self._base = base
        self._forks = forks
        self._scenario = scenario
        self._fresh = base / "template"
        self._tree: Counter[tuple[str, str]] = Counter()
        self._aside: Counter[tuple[str, str]] = Counter()
        self.counted = ""
        self.places = make_places(base / "place")
        self._prepare()

    def _prepare(self) -> None:
        """What the earlier run left, kept to be copied."""
        for item in self._scenario.before:
            self._expect(item, item.write(self.places))
            done = self.once("all")
            assert done.status == 0, done
        for item in self._scenario.items:
            self._expect(item, item.write(self.places))
        self._canary = Canary(self.places)
        shutil.rmtree(self.places.base / "outside" / "said", ignore_errors=True)
        self.places.base.rename(self._fresh)

    def _expect(self, item: Item, path: Path) -> None:
        if item.end == "data":
            uid = str(instance(**item.instance).SOPInstanceUID)
            self._tree[uid, data_set_digest(path.read_bytes())] += 1
        elif item.end != "dropped":
            self._aside[item.end, _comparable(path)] += 1

    def lay_out(self) -> None:
        """As it was before the fault, hard links and all, with new inodes."""
        shutil.rmtree(self.places.base, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self._fresh), str(self.places.base)], check=True)
        for path in sorted(self.places.incoming.iterdir()):
            path.chmod(0o644)  # they arrive in the order of their names

    def once(self, who: str, inject: str = "", calls: Sequence[str] = CALLS, more: Sequence[str] = ()) -> Ended:
        return self._forks.once(self.places, (*self._scenario.args, *more), who, inject, calls)

    def wrong(self) -> list[str]:
        """The oracle: exactly what was expected is in the tree and set aside; L2, L3 and L5."""
        tree, lying = read_tree(self.places), read_set_aside(self.places)
        found = Counter((one.SOPInstanceUID, one.digest) for one in tree.instances)
        aside = Counter((one.reason, _comparable(one.path)) for one in lying)
        wrong = [*tree.strange, *misdescribed(self.places, tree), *left_over(self.places), *self._canary.changed()]
        wrong += [f"in the tree {count} times too often: {uid}" for (uid, _), count in (found - self._tree).items()]
        wrong += [f"in the tree {count} times too few: {uid}" for (uid, _), count in (self._tree - found).items()]
        wrong += [f"set aside {count} times too often: {key}" for key, count in (aside - self._aside).items()]
        wrong += [f"set aside {count} times too few: {key}" for key, count in (self._aside - aside).items()]
        wrong += [f"{one.path.name} has no reason file" for one in lying if not Path(f"{one.path}.json").is_file()]
        return [text for text in wrong if self._scenario.known not in text]

    def points(self, who: str, meets: Callable[[str, str], bool]) -> list[tuple[str, int]]:
        """What an undisturbed run calls, each by its number among those of its name, as far as `meets(call, line)`; and
        for each name one number more, which must not be reached. Its trace is kept as `counted`.
        """
        self.lay_out()
        counted = self.once(who, "count")
        self.counted = counted.trace
        assert counted.status == self.status, counted
        assert self.wrong() == []
        numbers: Counter[str] = Counter()
        found = []
        for line in counted.trace.splitlines():
            call, parenthesis, _ = line.partition("(")
            if parenthesis and call in CALLS:
                numbers[call] += 1
                if meets(call, line):
                    found.append((call, numbers[call]))
        return found

    def lost(self) -> list[str]:
        """A weaker oracle, for faults by which a file may be taken for unreadable: every content that came is in the
        tree or set aside, no instance is in the tree twice, and L2, L3 and L5.
        """
        tree, lying = read_tree(self.places), read_set_aside(self.places)
        there = {one.digest for one in tree.instances} | {_comparable(one.path) for one in lying}
        came = {digest for _, digest in (*self._tree, *self._aside)}
        wrong = [*tree.strange, *misdescribed(self.places, tree), *left_over(self.places), *self._canary.changed()]
        wrong += [f"lost: {digest}" for digest in came - there]
        uids = Counter((one.SOPInstanceUID, one.digest) for one in tree.instances)
        wrong += [f"in the tree {count} times: {uid}" for (uid, _), count in uids.items() if count > 1]
        wrong += [f"{one.path.name} has no reason file" for one in lying if not Path(f"{one.path}.json").is_file()]
        return [text for text in wrong if self._scenario.known not in text]

    @property
    def status(self) -> int:
        """The exit status of an undisturbed run."""
        return 1 if self.sets_aside else 0

    @property
    def sets_aside(self) -> bool:
        return any(item.end not in ("data", "dropped", "superseded") for item in self._scenario.items)


def _comparable(path: Path) -> str:
    data = path.read_bytes()
    return data_set_digest(data) if data[128:132] == b"DICM" else data.hex()
