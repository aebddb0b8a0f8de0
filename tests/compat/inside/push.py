"""px-push to file-system storage, as its own script would do it; px-push's arguments in, its result as JSON out.

The released script dies at once (it takes a tuple for the arguments), and the storage without --swiftPackEachDICOM.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Push and print what pypx returns."""
    pypx = importlib.import_module("pypx")
    push = importlib.import_module("pypx.push")
    arguments, _ = push.parser_interpret(push.parser_setup(""), [*sys.argv[1:], "--swiftPackEachDICOM"])
    sys.stdout.write("\n" + json.dumps(pypx.push(vars(arguments))) + "\n")


main()
