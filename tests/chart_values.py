"""Sets of values that administrators have, with which the chart is rendered: helm/listener/ci."""

from __future__ import annotations

from typing import Any

import yaml

from tests.conftest import PROJECT

_FOLDER = PROJECT / "helm/listener/ci"
_END = "-values.yaml"

SETS: dict[str, dict[str, Any]] = {
    path.name.removesuffix(_END).replace("-", " "): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(_FOLDER.glob(f"*{_END}"))
}
