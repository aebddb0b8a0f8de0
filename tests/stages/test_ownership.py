from __future__ import annotations

from pathlib import Path

from listener.stages.ownership import Ownership


def test_one_owner_and_the_next_when_it_lets_go(tmp_path: Path) -> None:
    first, second = (Ownership(str(tmp_path / "state/stage")) for _ in range(2))
    assert first.take()
    assert first.take()
    assert not second.take()
    first.close()
    assert second.take()
    second.close()
    assert not second.is_held
