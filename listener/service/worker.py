"""One worker process: reads batches of arrivals from its pipe, answers with results, ends with its pipe.

Workers do not log, count or decide: they report. Started as `python -m listener.service.worker DESCRIPTOR`;
spawned, never forked.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection

from listener.errors import FatalFault
from listener.repacking.desk import Desk
from listener.repacking.repack import Repacker
from listener.service import messages
from listener.service.messages import Fatal, Hello, Setting

#: Address space of a worker beside what headers may take (--max-header), in bytes.
_MEMORY = 2**30


def main(descriptor: int) -> None:
    """Work until the pipe ends."""
    # The parent decides when to stop; a Ctrl-C reaches the whole process group. SIGIO would announce a broken lease.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    with Connection(descriptor) as pipe, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _work(pipe)


def _limit_memory(most: int) -> None:
    """Bound the address space, so that a hostile file costs this process a MemoryError and not the machine its
    memory.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _warm_up() -> None:
    """With nothing to do yet, import what the first instance of a series needs: pydicom takes 0.1 to 0.3 seconds."""
    importlib.import_module("listener.dicom.decoding")


def _work(pipe: Connection) -> None:
    setting: Setting = messages.receive(pipe)
    _limit_memory(_MEMORY + 8 * setting.config.max_header)
    repacker = Repacker(Desk(setting.config, setting.directories, setting.manner))
    messages.send(pipe, Hello(os.getpid()))
    if not pipe.poll():
        _warm_up()
    while True:
        arrivals = messages.arrivals(messages.receive(pipe))
        try:
            messages.send(pipe, messages.bare(repacker.repack(arrivals)))
        except FatalFault as fault:
            messages.send(pipe, Fatal(str(fault)))
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
