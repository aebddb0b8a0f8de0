"""Check the options and environment of every running storescp that writes into an incoming directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from listener.checks.finding import NOTE, OK, Finding
from listener.config import Config
from listener.storescp import recommended_command

#: Recommended options: spellings, and the effect of their absence.
_WANTED = (
    (("+uf", "--unique-filenames"), "without +uf a second copy overwrites a file that still waits"),
    (("+xa", "--accept-all"), "without +xa compressed images are refused"),
)

#: Options that cause trouble: spellings, and their effect.
_UNWANTED = (
    (("-su", "--sort-on-study-uid"), "-su makes a directory a study, whose first file only a rescan finds"),
    (("-ss", "--sort-conc-studies"), "-ss makes a directory a study, whose first file only a rescan finds"),
    (("-sp", "--sort-on-patientname"), "-sp makes directories named after patients"),
    (("-rns", "--rename-on-eostudy"), "-rns renames files that are being taken"),
    (("-tn", "--timenames"), "-tn lets two copies of one moment share a name"),
    (("+B", "--bit-preserving"), "+B leaves half a file for a moment when a sender dies"),
    (("-F", "--write-dataset"), "-F writes files without the file meta information"),
    (("-xcr", "--exec-on-reception"), "-xcr runs another program on the same files"),
    (("-xcs", "--exec-on-eostudy"), "-xcs runs another program on the same files"),
    (("--ignore",), "--ignore stores nothing"),
)

_DIRECTORY = ("-od", "--output-directory")


def receivers(config: Config, *, proc: str = "/proc") -> Iterator[Finding]:
    """Yield a finding for each visible storescp that writes into an incoming directory."""
    seen = set()
    for process in _processes(proc):
        command = _command(process)
        if not command or os.path.basename(command[0]) != "storescp":
            continue
        root = next((root for root in config.incoming if _writes_to(process, command, root)), "")
        if root and (root, tuple(command)) not in seen:
            seen.add((root, tuple(command)))  # With --fork there is one process for each association.
            yield _judge(process, command, root)


def _processes(proc: str) -> list[str]:
    """Return the directories of all processes below `proc`, by number."""
    try:
        return [f"{proc}/{pid}" for pid in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int)]
    except OSError:
        return []


def _command(process: str) -> list[str]:
    try:
        with open(f"{process}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def _writes_to(process: str, command: list[str], root: str) -> bool:
    """Return whether a process's output directory is `root`, as it sees the file system (perhaps of a container)."""
    at = next((index for index, word in enumerate(command) if word in _DIRECTORY), len(command))
    directory = command[at + 1] if at + 1 < len(command) else "."
    if not os.path.isabs(directory):
        try:
            directory = os.path.join(os.readlink(f"{process}/cwd"), directory)
        except OSError:
            return False
    try:
        return os.path.samefile(f"{process}/root{directory}", root)
    except OSError:
        return os.path.realpath(directory) == os.path.realpath(root)


def _judge(process: str, command: list[str], root: str) -> Finding:
    words = set(command[1:])
    problems = [text for spellings, text in _WANTED if not words & {*spellings}]
    problems += [text for spellings, text in _UNWANTED if words & {*spellings}]
    problems += _process_problems(process)
    if not problems:
        return Finding(OK, "--incoming", f"storescp writes into '{root}' with options that fit")
    text = f"storescp writes into '{root}' with options that do not fit: {'; '.join(problems)}"
    return Finding(NOTE, "--incoming", text, f"recommended: {recommended_command(root)}")


def _process_problems(process: str) -> list[str]:
    """Return what is wrong with a process itself, as far as /proc is readable."""
    problems = []
    with contextlib.suppress(OSError), open(f"{process}/environ", "rb") as file:
        if b"TCP_NODELAY=1" not in file.read().split(b"\0"):
            problems.append("without TCP_NODELAY=1 in its environment each image can wait 40 ms")
    with contextlib.suppress(OSError), open(f"{process}/status", encoding="utf-8", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
        if lines.get("NSpid", "").split()[-1:] == ["1"]:
            problems.append("as process 1 of its container it ignores SIGTERM")
        owner = lines.get("Uid", "").split()[1:2]
        if owner and os.geteuid() not in (0, int(owner[0])):
            problems.append(f"it runs as uid {owner[0]}, and leases are given to a file's owner alone")
    return problems
