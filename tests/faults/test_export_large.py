"""An instance of 6 GiB, sparse where it lies: whole in the bucket, and whole when rclone brings it back."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from listener.export import manifest
from tests.export.collection import Collection, grown
from tests.export.stores import Store, versitygw_of_the_environment

pytestmark = [pytest.mark.real, pytest.mark.soak, pytest.mark.timeout(1800)]

GiB = 2**30

#: What the store needs: the parts, and the object that it makes of them; or the object and the copy.
ROOM = 14 * GiB

#: Of larger parts there are fewer: what versitygw knows of 769 has no room in ext4's attributes (4 KB).
PARTS = ["--part", "64MiB"]


def enlarge(path: Path) -> None:
    """Let an instance have 3 GiB of pixels, and as much DataSetTrailingPadding behind them: a length has 32 bits."""
    grown(path, 3 * GiB)
    with path.open("ab") as file:
        file.write(b"\xfc\xff\xfc\xffOB\0\0" + (3 * GiB).to_bytes(4, "little"))
    os.truncate(path, path.stat().st_size + 3 * GiB)


def environment(store: Store) -> dict[str, str]:
    """What rclone is told."""
    given = {"ENDPOINT": store.endpoint, "ENV_AUTH": "true", "PROVIDER": "Other", "REGION": "us-east-1"}
    kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}  # Old rclones stumble.
    return {**kept, "RCLONE_CONFIG": os.devnull, **{f"RCLONE_S3_{name}": value for name, value in given.items()}}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("flags", [[], ["--archive", "series", "--volume", "10GiB"]], ids=["object", "archive"])
def test_an_instance_of_6_gib_goes_there_and_back(tmp_path: Path, flags: list[str]) -> None:
    if shutil.disk_usage(tmp_path).free < ROOM:
        pytest.skip("there are not 14 GiB of room")
    rclone = shutil.which("rclone")
    if not rclone:
        pytest.skip("rclone is not installed (.ci/need rclone)")
    with closing(Collection(tmp_path)) as world, versitygw_of_the_environment(tmp_path) as store:
        words = [*store.flags()[2:], "--verify", "head", "--no-parquet", *PARTS, *flags]
        assert world.export("once", *words, to=store.to) == 0
        (path,) = world.write(0, 1)
        enlarge(path)
        world.came(0, 1)
        world.end()
        assert path.stat().st_blocks * 512 < GiB
        assert world.export("once", *words, to=store.to) == 0
        (told,) = store.folder.rglob("*.ndjson")
        (entry,) = manifest.parsed(told.read_bytes()).entries
        source = f":s3:{store.to.removeprefix('s3://')}/{entry.key}"
        part = [f"--offset={max(0, entry.offset)}", f"--count={entry.size}"]
        copy = tmp_path / "copy"
        with copy.open("wb") as file:
            subprocess.run([rclone, "cat", *part, source], env=environment(store), stdout=file, check=True)
        assert entry.sha256 == sha256(path) == sha256(copy)
        assert world.export("audit", *store.flags()[2:], to=store.to) == 0
