"""The recommended options of storescp are the same wherever they are given."""

from __future__ import annotations

import pytest

from listener.storescp import RECOMMENDED, recommended_command
from tests.conftest import PROJECT

OPTIONS = "--fork +uf +xa -ts 60 -pm"


def test_the_options_and_the_command() -> None:
    assert " ".join(RECOMMENDED) == OPTIONS
    assert recommended_command("/in") == f"TCP_NODELAY=1 storescp {OPTIONS} -od /in PORT"


@pytest.mark.parametrize(
    "path", ["README.md", "docs/deployment.md", "docs/migration.md", "docs/systemd/storescp.service"]
)
def test_documents_and_the_unit_give_them(path: str) -> None:
    assert f"storescp {OPTIONS} -od" in (PROJECT / path).read_text(encoding="utf-8")
