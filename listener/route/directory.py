"""A destination that is a directory: the incoming directory of another collection on this machine."""

from __future__ import annotations

import errno
import os
import shutil
import time
from threading import Event, Thread

from listener.disk import sync
from listener.disk.files import open_regular
from listener.network import statuses
from listener.route.health import DOWN, UP, Standing
from listener.route.queue import File, Send
from listener.route.report import GONE, OTHER_FILE, answered, given_up
from listener.route.schema import NO_STATUS
from listener.route.sender import Line
from listener.route.window import Window

#: Seconds until a directory that cannot be written is tried again.
_RETRY = 5.0

#: What NFS and some others lack: without it a file of which a part is written would have a name.
NO_UNNAMED = "its file system has no files without a name (O_TMPFILE); use a directory on a local one"


class DirectorySender:
    """Copies what its `window` holds into a directory. See Sender, in whose place it stands."""

    def __init__(self, directory: str, line: Line) -> None:
        self._directory, self._line = directory, line
        self.window = Window()
        self.standing = Standing()
        self._stopping = Event()
        self._thread = Thread(target=self._work, name="listener-route-directory", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """Take nothing more; what is in hand is finished."""
        self._stopping.set()
        self.window.close()

    def is_finished(self) -> bool:
        """Return whether nothing is in hand any more."""
        return not self._thread.is_alive()

    def abort(self, seconds: float = 2.0) -> None:
        """Finish, and wait for so long."""
        self.finish()
        self._thread.join(seconds)

    def _work(self) -> None:
        while not self._stopping.is_set():
            send = self.window.take(1.0)
            if send is None:
                continue
            again = True
            try:
                again = not self._copy(send)
            finally:
                self.window.release(send, again=again)
            if again:
                self.window.rest(_RETRY)

    def _copy(self, send: Send) -> bool:
        """Copy one file; return False if the directory cannot be written now."""
        begun = time.monotonic()
        try:
            source = open_regular(os.path.join(self._line.data_dir, send.path))
        except FileNotFoundError:
            return self._give_up(send, GONE)
        except OSError as error:
            text = f"the file cannot be read ({error.strerror})"
            self._line.report(answered(send, statuses.UNREADABLE, NO_STATUS, text, begun))
            return True
        try:
            if File.of(os.fstat(source)) != send.file:
                return self._give_up(send, OTHER_FILE)
            put(source, os.path.join(self._directory, f"{send.SOPInstanceUID}.{send.id}-{send.round}"))
        except OSError as error:
            since = self.standing.since if self.standing.state == DOWN else begun
            text = NO_UNNAMED if error.errno == errno.EOPNOTSUPP else error.strerror or ""
            self.standing = Standing(DOWN, since, "unwritable", text)
            return False
        finally:
            os.close(source)
        self.standing = Standing(UP, self.standing.since if self.standing.state == UP else begun)
        self._line.report(answered(send, statuses.meaning(0), 0, "", begun))
        return True

    def _give_up(self, send: Send, why: str) -> bool:
        self._line.report(given_up(send, why))
        return True


def put(source: int, target: str) -> None:
    """Copy an open file to a new path, whole from the moment it has a name (O_TMPFILE), and sync both. A kill or power
    cut leaves nothing, or the whole file: where that is, it stays. Then it is closed once more after writing, which a
    listener that watches the directory notices at once.

    Raises OSError.
    """
    folder, name = os.path.split(target)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        is_new = _link(source, directory, name)
        # Also one that was put there before a kill, which may have come before this.
        _sync_names(directory)
        if is_new:
            os.close(os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory))
    finally:
        os.close(directory)


def _sync_names(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in sync.UNSUPPORTED:
            raise


def _link(source: int, directory: int, name: str) -> bool:
    """Return whether the file was not there before."""
    made = os.open(f"/proc/self/fd/{directory}", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(os.dup(source), "rb") as reader, os.fdopen(os.dup(made), "wb") as writer:
            reader.seek(0)
            shutil.copyfileobj(reader, writer, 1024 * 1024)
        os.fsync(made)
        try:
            # The name of a file without one (by its descriptor alone it would need a capability).
            os.link(f"/proc/self/fd/{made}", name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            return False  # Put there before a kill.
        return True
    finally:
        os.close(made)
