"""The generator of bills of materials, and CycloneDX's own schema for what it makes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import PROJECT, script

TOOLS = PROJECT / "build/tools"


@cache
def generator() -> ModuleType:
    return script("sbom", ".ci")


def faults(bill: dict[str, Any]) -> str:
    """What CycloneDX's schema has against a bill; "" when nothing."""
    schemas = [*TOOLS.glob(".check-jsonschema/lib/python3*/site-packages/cyclonedx/schema/_res")]
    if not schemas:
        pytest.skip("CycloneDX's schemas are not there (make tools)")
    schema = schemas[0] / "bom-1.6.SNAPSHOT.schema.json"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bill.json")
        path.write_text(json.dumps(bill))
        base = f"file://{schemas[0]}/"
        command = [f"{TOOLS}/check-jsonschema", "--schemafile", str(schema), "--base-uri", base, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
