"""Files of the operator's: the key, words, safe private elements."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.deidentify import inputs
from listener.errors import ConfigError


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    inputs.new_key(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert len(inputs.read_key(path)) == 32
    with pytest.raises(ConfigError, match="File exists"):
        inputs.new_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    inputs.new_key(str(path))
    path.chmod(mode)
    if mode & 0o044 or mode & 0o002:
        with pytest.raises(ConfigError, match="chmod 600"):
            inputs.read_key(str(path))


@pytest.mark.parametrize("data", [b"", b"short", bytes(33)])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="32 bytes"):
        inputs.read_key(str(path))


def test_no_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="new-key"):
        inputs.read_key(str(tmp_path / "none"))


def test_words_of_files_join_those_that_are_shipped(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("\ufeffScout2 # of ours\nleg-long\n", encoding="utf-8")
    words = inputs.read_words((str(tmp_path / "more"),))
    assert {"scout2", "leg", "long", "sagittal"} <= words
    assert "ours" not in words


@pytest.mark.parametrize("data", [b"\xff\xfe", None])
def test_words_that_cannot_be_read_are_refused(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "more").write_bytes(data)
    with pytest.raises(ConfigError):
        inputs.read_words((str(tmp_path / "more"),))


def test_safe_private_elements(tmp_path: Path) -> None:
    path = tmp_path / "safe"
    path.write_bytes(b'\xef\xbb\xbf7053,Philips PET Private Group,00\r\n\r\n# more\n2001,"Philips, 001",03\n')
    expected = {("Philips PET Private Group", 0x7053, 0), ("Philips, 001", 0x2001, 3)}
    shipped = inputs.read_safe_private()
    assert inputs.read_safe_private(str(path)) == shipped | expected
    assert ("Philips, 001", 0x2001, 3) not in shipped


@pytest.mark.parametrize("line", ["7053,ACME", "7054,ACME,00", "7053,ACME,1000", "x"])
def test_a_line_that_is_no_private_element_is_told_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "safe"
    path.write_text(f"7053,ACME,00\n{line}\n")
    with pytest.raises(ConfigError, match="line 2"):
        inputs.read_safe_private(str(path))
