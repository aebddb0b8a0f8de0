from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from threading import Barrier, Thread

from listener.dicom.decoding import quiet

#: Threads that first need pydicom at the same moment, each another part of it.
AT_ONCE = """
import sys
from threading import Barrier, Thread
from listener.dicom.attributes import dictionary_vr, is_defined, is_keyword
from listener.dicom.loading import load_pydicom

def decoding():
    load_pydicom()
    from listener.dicom import decoding
    decoding.keyword_of(0x00100010)

ways = [decoding, lambda: is_keyword("ReceiveCoilName"), lambda: is_defined(1), lambda: dictionary_vr(0x00181250)]
barrier, failed = Barrier(len(ways)), []

def work(way):
    barrier.wait()
    try:
        way()
    except BaseException as error:
        failed.append(repr(error))

threads = [Thread(target=work, args=(way,)) for way in ways]
[one.start() for one in threads]
[one.join() for one in threads]
sys.exit("; ".join(failed) or 0)
"""


def test_threads_that_need_pydicom_at_once_all_get_the_whole_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_is_quiet_while_one_thread_is_and_not_longer() -> None:
    """Two that overlap: who goes first must not let the other one be heard, who goes last must not leave it quiet."""
    logger, filters = logging.getLogger("pydicom"), list(warnings.filters)
    inside, left = Barrier(2), Barrier(2)
    seen: list[bool] = []

    def second() -> None:
        inside.wait(10)
        with quiet():
            inside.wait(10)
            left.wait(10)  # The first one has gone.
            seen.append(logger.disabled)

    thread = Thread(target=second)
    thread.start()
    with quiet():
        inside.wait(10)
        inside.wait(10)
    left.wait(10)
    thread.join(120)
    assert seen == [True]
    assert not logger.disabled
    assert list(warnings.filters) == filters
