"""px-status as of 3.11, inside any version: LOG STUDY SERIES; the status goes out as JSON.

In 3.12.6 the script prints an error about a coroutine, and the class it used to call stops in a forgotten debugger.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def main() -> None:
    """Ask and print."""
    debugger: Any = importlib.import_module("pudb")
    debugger.set_trace = lambda *_, **__: None
    status = importlib.import_module("pypx.status").Status
    log, study, series = sys.argv[1:]
    question = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "verifySeriesInStudy": True}
    answer = status({"dblogbasepath": log, "verbosity": 0, "json": True}).run(question)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


main()
