"""A worker process: receives batches of arrivals through its pipe, sends back results, ends when the pipe is closed.

Workers do not log, count or decide. Started as `python -m listener.service.worker DESCRIPTOR`; spawned, never forked.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection

from listener.cpu import let_others_first
from listener.errors import FatalFault
from listener.repacking.context import WorkerContext
from listener.repacking.repack import Repacker
from listener.service import protocol
from listener.service.protocol import Fatal, Ready, WorkerConfig

#: Address space of a worker beside that for headers (--max-header), in bytes.
_MEMORY = 2**30


def main(descriptor: int) -> None:
    """Work until the pipe is closed."""
    # The parent decides when to stop, but Ctrl-C reaches the whole process group. A broken lease raises SIGIO.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    with Connection(descriptor) as pipe, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _work(pipe)


def _limit_memory(most: int) -> None:
    """Limit the address space to `most` bytes: a hostile file then raises MemoryError here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


#: Synthetic elements of the VRs that pydicom decodes in most files.
_SAMPLE = (
    (0x00080005, b"CS", b"ISO_IR 192"),
    (0x00080008, b"CS", b"ORIGINAL\\PRIMARY "),
    (0x00100010, b"PN", "Nobody^Ä=無^人".encode()),
    (0x00180050, b"DS", b"1.50"),
    (0x00200013, b"IS", b"01"),
    (0x00200032, b"DS", b"-1.0\\2\\+3.50"),
    (0x00280009, b"AT", b"\x18\x00\x63\x10"),
    (0x00280010, b"US", b"\0\1"),
)


def _warm_up() -> None:
    """Import pydicom and decode sample values, so that the first file is not 80 ms slower."""
    from listener.dicom.decoding import Raw, Syntax, texts
    from listener.dicom.walk import Element

    raws = {tag: Raw(Element(tag, vr, 0, len(value), len(value)), value) for tag, vr, value in _SAMPLE}
    texts(raws, Syntax(implicit=False, little=True), {})


def _work(pipe: Connection) -> None:
    worker_config: WorkerConfig = protocol.receive(pipe)
    if worker_config.niceness:
        let_others_first(worker_config.niceness)
    _limit_memory(_MEMORY + 8 * worker_config.config.max_header)
    repacker = Repacker(WorkerContext(worker_config.config, worker_config.directories, worker_config.mode))
    # Files that wait already would wait longer, and not all of them need pydicom.
    if not pipe.poll():
        _warm_up()
    protocol.send(pipe, Ready(os.getpid()))
    while True:
        arrivals = protocol.unpack_arrivals(protocol.receive(pipe))
        try:
            protocol.send(pipe, protocol.pack_results(repacker.repack(arrivals)))
        except FatalFault as fault:
            protocol.send(pipe, Fatal(str(fault)))
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
