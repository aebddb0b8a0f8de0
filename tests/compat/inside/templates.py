"""Answer questions about templates with pypx's own function: a JSON line in, a JSON line out.

In: {"tags": {keyword: text}, "template": text}. Out: the raw text, or "!" and the name of the exception.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Serve until standard input ends."""
    process = importlib.import_module("pypx.repack").Process
    repack = process.__new__(process)
    for line in sys.stdin:
        question = json.loads(line)
        tags = question["tags"]
        try:
            # dir() of a pydicom data set gives the keywords in order
            header = {"l_tagRaw": sorted(tags), "d_dicomSimple": dict(tags)}
            answer = repack.tagsInString_process(header, question["template"])["str_result"]
        except Exception as error:  # noqa: BLE001 - whatever it dies of is the answer
            answer = "!" + type(error).__name__
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
