"""What a frame cache logs."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class Lines:
    """A logging factory that keeps lines, as (level, message, items)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def create_logger(self, signature: Mapping[str, Any] | None = None) -> Any:
        def write(level: str, message: str, *more: Mapping[str, Any]) -> None:
            items: dict[str, Any] = {}
            for mapping in (*more, signature or {}):
                items |= mapping
            self.lines.append((level, message, items))

        return SimpleNamespace(
            **{level: lambda *line, level=level: write(level, *line) for level in ("debug", "info", "warning", "error")}
        )

    def warned(self) -> list[str]:
        return [message for level, message, _ in self.lines if level == "warning"]

    def failed(self) -> list[str]:
        return [message for level, message, _ in self.lines if level == "error"]
