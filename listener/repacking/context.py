"""What a worker needs for each file: settings, layout, staging directories and locks."""

from __future__ import annotations

import itertools
import os
from contextlib import AbstractContextManager
from hashlib import blake2b

from listener.config import Config
from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted
from listener.disk import files, locks
from listener.disk.directories import Directories
from listener.planning import documents, plan
from listener.planning.names import short_hash
from listener.planning.plan import INSTANCE_KEYWORDS, SHARED_KEYWORDS, Layout, Plan
from listener.records import Arrival

#: What happens to a source: claimed by a rename (the service), copied and left, moved without a claim (`repack
#: --cleanup`), or linked and left (a folder that goes when all of it has passed).
CLAIM, COPY, MOVE, LINK = "claim", "copy", "move", "link"

#: In these a lease is held from the look at the source to its release.
HOLDING = (CLAIM, LINK)


class PathKeys:
    """Keys of 16 bytes by which a part of a backfill knows files: made of the path below incoming, so that they are the
    same on all hosts, wherever these mount it.
    """

    def __init__(self, directories: Directories) -> None:
        roots = zip(directories.incoming, directories.root_names, strict=True)
        self._roots = [(len(root), os.fsencode(name)) for root, name in roots]

    def of(self, root_index: int, path: str) -> bytes:
        """Return the key of `path`, which lies below the incoming directory with this index."""
        length, name = self._roots[root_index]
        return blake2b(name + os.fsencode(path[length:]), digest_size=16).digest()


class WorkerContext:
    """Settings, layout, staging directories and locks of one worker; made once. `lock_timeout` is in seconds."""

    def __init__(
        self, config: Config, directories: Directories, mode: str = CLAIM, lock_timeout: float = locks.WORKER_SECONDS
    ) -> None:
        self.config = config
        self.directories = directories
        self.mode = mode
        self.limits = Limits(config.max_header, config.max_depth)
        self.layout = Layout(
            plan.choose_preset(
                config.layout,
                config.root_template,
                config.study_template,
                config.series_template,
                config.image_template,
            )
        )
        keywords = self.layout.keywords - {"SourceApplicationEntityTitle"}
        self.wanted = Wanted.of({*keywords, *INSTANCE_KEYWORDS})
        self.wanted_shared = Wanted.of({*keywords, *INSTANCE_KEYWORDS, *SHARED_KEYWORDS})
        # Data and log may be one directory: the names of temporaries must differ.
        self.data_staging = files.StagingDir(directories.data_staging, "data")
        self.log_staging = files.StagingDir(directories.log_staging, "log")
        self.state_staging = files.StagingDir(directories.state_staging, "state")
        self.locks = locks.Locks(lock_timeout)
        # On a network file system leases and cached reads say nothing of what other machines do.
        self.network = tuple(map(directories.is_network, directories.incoming))
        self.network_log = directories.is_network(directories.log)
        self.syncs = config.fsync != "none"
        self.serial = itertools.count()
        self._process = f"{os.getpid():x}"
        self._keys = PathKeys(directories) if config.part else None

    def claim_name(self, arrival: Arrival) -> str:
        """Return a unique name for a claim: arrival time, process, serial, attempts, original name (cut to fit 255
        bytes). In a part of a backfill the key of the file's path stands behind the serial.
        """
        serial = f"{self._process}-{next(self.serial):x}"
        if self._keys:
            serial += f"-{self._keys.of(arrival.root_index, arrival.path).hex()}"
        prefix = f"{arrival.time_ns:019d}.{serial}.{arrival.attempts}."
        return files.cut_name(prefix, os.path.basename(arrival.path))

    def target(self, place: Plan) -> str:
        """Return the absolute path of an instance in the tree."""
        return f"{self.directories.data}/{place.directory}/{place.name}"

    def document(self, series: str, name: str) -> str:
        """Return the absolute path of the document of the instance that is called `name`."""
        return f"{self.directories.log}/{documents.instance_path(series, name)}"

    def locked_place(self, path: str) -> AbstractContextManager[int]:
        """Hold the lock under which is decided what becomes of the instance at `path`: whether another one is its
        duplicate or replaces it, and whether it leaves the tree. Raises LockHeld.
        """
        # By the path in the tree, which may be mounted elsewhere on another machine.
        below = path.removeprefix(f"{self.directories.data}/")
        return self.locks.locked(self.directories.locks, f"place-{short_hash(below, 2)}")
