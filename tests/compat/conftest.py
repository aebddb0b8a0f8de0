"""Environments with other people's packages; a test that needs one is skipped by name where PyPI cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.environments import Unreachable
from tests.compat.pypx import VERSIONS, Pypx

HERE = Path(__file__).parent

#: Fixtures of a module that take seconds.
MADE_ONCE = {"packed", "both", "ask", "ask_newest"}


@pytest.hookimpl(tryfirst=True)  # Before xdist looks for groups.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder is `compat`, and may have to wait for an environment to be built."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.timeout(900))
            # What is packed once for a module takes long: by one worker, then.
            if isinstance(item, pytest.Function) and MADE_ONCE & set(item.fixturenames):
                given = item.callspec.params if hasattr(item, "callspec") else {}
                whose = [str(given[name]) for name in ("pypx", "packed") if name in given]
                item.add_marker(pytest.mark.xdist_group("-".join([item.path.stem, *whose])))


@pytest.fixture(scope="session", params=VERSIONS)
def pypx(request: pytest.FixtureRequest) -> Pypx:
    """Each released version of pypx that we stand in for."""
    return _get(str(request.param))


@pytest.fixture(scope="session")
def newest_pypx() -> Pypx:
    """The last version."""
    return _get(VERSIONS[-1])


def _get(version: str) -> Pypx:
    try:
        return Pypx.get(version)
    except Unreachable as error:
        pytest.skip(str(error))
