"""What crosses a process boundary, and nothing else: Arrival goes to a worker, Outcome or Deferral comes back."""

from __future__ import annotations

from typing import NamedTuple

from listener.reasons import system_reason

#: How an arrival was noticed; metric label.
SOURCES = ("event", "rescan", "startup", "retry", "batch")

#: How one arrival can end; metric label and event name.
OUTCOMES = ("published", "duplicate", "set-aside", "vanished")


class Missing(NamedTuple):
    """An attribute that a path or a document wanted and the file lacks (rx-repack's `missing` entry)."""

    tag: str
    name: str
    error: str


class SeriesHeader(NamedTuple):
    """What the header of a series says of patient, study and series: texts as in the data set, "" if absent."""

    PatientID: str = ""
    IssuerOfPatientID: str = ""
    PatientName: str = ""
    PatientBirthDate: str = ""
    StudyDate: str = ""
    StudyTime: str = ""
    StudyDescription: str = ""
    AccessionNumber: str = ""
    SeriesNumber: str = ""
    SeriesDescription: str = ""
    StationName: str = ""


class Arrival(NamedTuple):
    """A file that was seen in an incoming directory, or a claim that an earlier run left.

    `path` is absolute (undecodable bytes as surrogates); `root_index` the index of its incoming directory;
    `time_ns` its st_ctime in nanoseconds since the epoch (when the sender finished the file; the time of the event
    where no stat was made); `source` one of SOURCES; `claim` the claim's path when it is already claimed, else "";
    `attempts` how often a service ended while it held this claim; `size` its bytes when it was noticed; `losses`
    how often a worker died with it; `last` says that it is set aside if its place cannot be used this time either;
    `noticed` when it was noticed, in seconds on the monotonic clock (0: before the service began; inf while it delays
    only itself, and no other file waits for what it waits for).
    """

    path: str
    root_index: int
    time_ns: int
    source: str
    claim: str = ""
    attempts: int = 0
    size: int = 0
    losses: int = 0
    last: bool = False
    noticed: float = 0.0

    @property
    def key(self) -> str:
        """Return where the file lies now, which is unique: two claims may have come from one path."""
        return self.claim or self.path


class Outcome(NamedTuple):
    """How one arrival ended. One outcome feeds the event line, the metrics, the ledger and the exit status.

    `kind` is one of OUTCOMES; `reason` one of reasons.SET_ASIDE_REASONS for `set-aside`, else ""; `step` one of
    errors.STEPS where it failed, else ""; `error` a text free of patient data; times are nanoseconds since the
    epoch; `seconds` the work of the worker; `step_seconds` seconds a step in the order of errors.STEPS; `dst` the
    absolute path it was published under, or where it was set aside; `superseded` where the instance that it
    replaced is kept; `fast` whether our own header reader sufficed; `claim` what the parent unlinks to commit it
    ("" when there is nothing to let go); `sender` the calling AE title that storescp wrote into the file
    (0002,0016); `header` that of the series, from a file of which its shared documents were made (None: any other).
    UIDs, Modality and sender of what was set aside are what the walk had read.
    """

    kind: str
    path: str
    root_index: int
    arrived_ns: int
    finished_ns: int
    begun_ns: int = 0
    seconds: float = 0.0
    size: int = 0
    reason: str = ""
    step: str = ""
    error: str = ""
    dst: str = ""
    SOPInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    StudyInstanceUID: str = ""
    PatientID: str = ""
    missing: tuple[Missing, ...] = ()
    step_seconds: tuple[float, ...] = ()
    warning: str = ""
    superseded: str = ""
    fast: bool = True
    claim: str = ""
    Modality: str = ""
    sender: str = ""
    header: SeriesHeader | None = None


class Deferral(NamedTuple):
    """Why a file was not finished: it is still open for writing, or the system refused. It is offered again.

    `reason` is "busy", reasons.LOCKED or one of reasons.SYSTEM_REASONS; `claim` the claim's path when the file is
    already claimed. `place` names, free of patient data unless --phi, the place that this file alone cannot use, so no
    other file waits. "" means that the volume or the process was refused something, which the next file would meet too.
    `series` is the Series Instance UID as far as it is known.
    """

    path: str
    root_index: int
    arrived_ns: int
    reason: str
    step: str
    error: str
    claim: str = ""
    attempts: int = 0
    place: str = ""
    series: str = ""


def refusal(arrival: Arrival, step: str, error: OSError, place: str = "", series: str = "") -> Deferral:
    """Return the deferral for an error of the system. Its text holds no path; `place` and `series` as in Deferral."""
    text = error.strerror or type(error).__name__
    reason = system_reason(error)
    told = (reason, step, text, arrival.claim, arrival.attempts)
    return Deferral(arrival.path, arrival.root_index, arrival.time_ns, *told, place=place, series=series)
