"""The middle image of a series as PNG, by DCMTK's dcmj2pnm in a process with limits; kept for a day below state.

Only for `--page phi`: images show patients, and may have names burned in.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from hashlib import blake2b

from listener.disk import files

#: Names of the program: the second cannot read JPEG.
PROGRAMS = ("dcmj2pnm", "dcm2pnm")

#: What one drawing may take: seconds, seconds of the processor, bytes of memory, bytes of what it writes; and the
#: largest file that is drawn.
SECONDS, _CPU, _MEMORY, _OUTPUT, _INPUT = 4.0, 3, 2**30, 8 * 2**20, 256 * 2**20

#: Pixels across, images that are kept, and for how long in seconds.
WIDTH = 384
_KEPT, _DAY = 200, 86_400.0


class NoPreview(Exception):
    """There is no preview; the text says why."""


def program() -> str:
    """Return the path of DCMTK's program; "" where it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), "")


def forget(state_dir: str) -> None:
    """Remove all previews that an earlier service kept: this one may have been told not to show patients."""
    shutil.rmtree(os.path.join(state_dir, "preview"), ignore_errors=True)


class Previews:
    """Draws and keeps previews in `<state_dir>/preview`."""

    def __init__(self, state_dir: str) -> None:
        self._folder = os.path.join(state_dir, "preview")

    def of(self, path: str) -> bytes:
        """Return the PNG of a DICOM file. Raises NoPreview."""
        try:
            status = os.stat(path)
            if status.st_size > _INPUT:
                raise NoPreview(f"the file is larger than {_INPUT // 2**20} MiB")
            name = blake2b(f"{path}\0{status.st_mtime_ns}\0{status.st_size}".encode(errors="replace"), digest_size=16)
            kept = os.path.join(self._folder, f"{name.hexdigest()}.png")
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if not os.path.exists(kept):
                self._make_room()
                _draw(path, kept)
            with open(kept, "rb") as file:
                return file.read()
        except OSError as error:
            raise NoPreview(f"the file cannot be read ({error.strerror})") from None

    def _make_room(self) -> None:
        """Remove what is older than a day, and the oldest beyond what is kept."""
        with os.scandir(self._folder) as found:
            entries = sorted(((entry.stat().st_mtime, entry.path) for entry in found), reverse=True)
        oldest = time.time() - _DAY
        for number, (made, path) in enumerate(entries):
            if number >= _KEPT - 1 or made < oldest:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def _draw(path: str, target: str) -> None:
    """Write the PNG of a file beside `target` and rename it. Raises NoPreview or OSError."""
    command = program()
    if not command:
        raise NoPreview("DCMTK's dcmj2pnm is not installed here")
    made = f"{target}.part"
    arguments = [command, "--write-png", "--scale-x-size", str(WIDTH), "--min-max-window"]
    try:
        # By descriptor: whoever is on the machine sees arguments, and the path names the patient.
        with files.opened(path) as descriptor:
            status = _run([*arguments, f"/dev/fd/{descriptor}", made], descriptor)
        if status != 0 or not os.path.exists(made):
            raise NoPreview("DCMTK cannot draw it: it holds no image, or one of an unknown kind")
        os.replace(made, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)


def _run(arguments: list[str], descriptor: int) -> int:
    """Run a program within the limits, with a descriptor; return its exit status. Raises NoPreview or OSError."""
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
        pass_fds=(descriptor,),
    )
    try:
        # The kernel holds these from here on; the program has not read its file yet.
        for limit, most in (
            (resource.RLIMIT_AS, _MEMORY),
            (resource.RLIMIT_CPU, _CPU),
            (resource.RLIMIT_FSIZE, _OUTPUT),
        ):
            resource.prlimit(process.pid, limit, (most, most))
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        raise NoPreview(f"drawing it took longer than {SECONDS:g} s") from None
    finally:
        process.kill()
        process.wait()
