"""Configurations with their directories, and the findings of `check` about them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from listener.checks import check
from listener.checks.check import Finding
from listener.config import Config
from tests.workbench import make_config


def made(base: Path, **changes: Any) -> Config:
    config = make_config(base, **changes)
    for path in (*config.incoming, config.data, config.log, config.state):
        os.makedirs(path, exist_ok=True)
    return config


def about(config: Config, level: str) -> list[str]:
    return texts(check.findings(config), level)


def texts(findings: Iterable[Finding], level: str) -> list[str]:
    return [f"{one.about}: {one.text}; {one.remedy}" for one in findings if one.level == level]
