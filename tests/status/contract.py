"""The API as its OpenAPI document has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import fastjsonschema

from listener.status.api import package_file

API = json.loads(package_file("openapi.json"))


@cache
def checker(name: str) -> Callable[[Any], Any]:
    """Raises for what is not as the OpenAPI document says."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": f"#/components/schemas/{name}"}
    made: Callable[[Any], Any] = fastjsonschema.compile(schema | {"components": API["components"]})
    return made


def answer_of(path: str) -> str:
    """The schema of the answer at a path of the document."""
    schema = API["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return str(schema["$ref"].rpartition("/")[2])
