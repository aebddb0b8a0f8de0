"""What the real deid makes of files by recipes. Standard input: {"headers": [[recipe, file, {variable: value}]],
"filters": [[recipe or name of a shipped one, [file]]]}, as JSON; the answer is of the same form.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

os.environ.setdefault("MESSAGELEVEL", "QUIET")

from deid.config import DeidRecipe  # type: ignore[import-not-found]
from deid.dicom import get_identifiers, has_burned_pixels, replace_identifiers  # type: ignore[import-not-found]
from printed import values  # type: ignore[import-not-found]


def recipe(text: str) -> Any:
    if "\n" not in text:
        return DeidRecipe(deid=text)
    with tempfile.NamedTemporaryFile("w", suffix=".deid") as file:
        file.write(text)
        file.flush()
        return DeidRecipe(deid=file.name)


def header(text: str, path: str, variables: dict[str, str]) -> dict[str, str] | None:
    """What becomes of a file, None where deid fails: a value is none of its VR."""
    ids = get_identifiers([path])
    ids[path].update(variables)
    try:
        (made,) = replace_identifiers([path], deid=recipe(text), ids=ids, save=False)
    except (ValueError, TypeError):
        return None
    return dict(values(made))


def flagged(text: str, paths: list[str]) -> list[list[list[Any]]]:
    made = recipe(text)
    found = [has_burned_pixels(path, deid=made)["results"] for path in paths]
    return [sorted([one["group"], bool(one["coordinates"])] for one in results) for results in found]


asked = json.load(sys.stdin)
told = {
    "headers": [header(*one) for one in asked["headers"]],
    "filters": [flagged(*one) for one in asked["filters"]],
}
sys.stdout.write("\n" + json.dumps(told))
