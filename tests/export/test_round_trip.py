"""What others read back from a bucket: rclone, aws and tar give the bytes of the tree, and the manifests agree with the
ledger and the table.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listener.export import keys, manifest
from listener.export.target import whole
from listener.ledger.reader import reading
from tests.export.collection import Collection
from tests.export.stores import Store, versitygw_of_the_environment
from tests.instances import write_instance

pytestmark = pytest.mark.real

#: What trips over in shells, URLs and stores.
ODD = ("a b", "c#d", "50%", "%41", "x+y", "Zoë", "日本", "a=20b", "q?r&s", "'\"")


class World(Collection):
    """Series 0 has usual names, series 1 odd ones."""

    def place(self, folder: str, number: int, sop: str) -> str:
        name = ODD[number - 1]
        return f"p {name}/{name}.dcm" if folder.endswith("/1") else super().place(folder, number, sop)

    def odd(self) -> None:
        for number in range(1, len(ODD) + 1):
            path = Path(self.config.data, self.place("p/s/1", number, ""))
            path.parent.mkdir(parents=True)
            write_instance(path, series=1, number=number, PatientIdentityRemoved="YES")
            self.record(self.publish(1, number))

    def tree(self) -> dict[str, str]:
        """SHA-256 by path below the data directory."""
        files = Path(self.config.data).rglob("*.dcm")
        return {str(path.relative_to(self.config.data)): digest(path) for path in files}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with versitygw_of_the_environment(tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture
def world(store: Store, tmp_path: Path) -> Iterator[World]:
    shutil.rmtree(store.folder, ignore_errors=True)
    with closing(World(tmp_path)) as one:
        assert one.export("once", *store.flags()[2:], to=store.to) == 0
        one.add(0, 1, 2, 3)
        one.odd()
        one.end()
        yield one


def need(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed (.ci/need {program})")
    return found


def rclone(store: Store, into: Path) -> None:
    environment = {"RCLONE_CONFIG": os.devnull, "RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "Other"}
    environment |= {"RCLONE_CONFIG_S_ENDPOINT": store.endpoint, "RCLONE_CONFIG_S_ENV_AUTH": "true"}
    environment |= {"RCLONE_CONFIG_S_REGION": "us-east-1"}
    source = f"S:{store.to.removeprefix('s3://')}/{keys.DATA}"
    _run([need("rclone"), "copy", source, str(into)], environment)


def aws(store: Store, into: Path) -> None:
    source = f"{store.to}/{keys.DATA}"
    _run([need("aws"), "--endpoint-url", store.endpoint, "s3", "cp", "--quiet", "--recursive", source, str(into)], {})


def _run(command: list[str], environment: dict[str, str]) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}  # Old rclones stumble.
    subprocess.run(command, env={**kept, **environment}, check=True, timeout=120)


@pytest.mark.parametrize("tool", [rclone, aws], ids=["rclone", "aws"])
def test_others_read_the_tree_back(world: World, store: Store, tmp_path: Path, tool: object) -> None:
    assert world.export("once", *store.flags()[2:], to=store.to) == 0
    into = tmp_path / "restored"
    tool(store, into)  # type: ignore[operator]
    found = {str(path.relative_to(into)): digest(path) for path in into.rglob("*") if path.is_file()}
    assert {"/".join(map(keys.unescaped, key.split("/"))): value for key, value in found.items()} == world.tree()


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_others_open_the_archives_that_aws_brought(world: World, store: Store, tmp_path: Path, program: str) -> None:
    flags = [*store.flags()[2:], "--archive", "series", "--compress", "gzip"]
    assert world.export("once", *flags, to=store.to) == 0
    opened = tmp_path / "opened"
    opened.mkdir()
    with closing(store.target()) as target:
        archives = [(key, whole(target.read(key))) for key, _ in target.listed(keys.ARCHIVES)]
    assert len(archives) == 2
    for number, (_, data) in enumerate(archives):
        path = tmp_path / f"{number}.tar.gz"
        path.write_bytes(data)
        subprocess.run([need(program), "-xf", path, "-C", opened], check=True, timeout=120, env={"LC_ALL": "C.UTF-8"})
    found = {str(path.relative_to(opened)): digest(path) for path in opened.rglob("*.dcm")}
    assert found == world.tree()


def test_manifests_and_table_agree_with_the_ledger_row_by_row(world: World, store: Store, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    assert world.export("once", *store.flags()[2:], to=store.to) == 0
    with reading(world.config.state) as reader:
        ledger = {
            (row.SOPInstanceUID, row.path, row.size)
            for series in (0, 1)
            for row in reader.instances_of(world.series(series))
        }
    with closing(store.target()) as target:
        told = [manifest.parsed(whole(target.read(key))) for key, _ in target.listed(keys.MANIFESTS)]
        parts = [whole(target.read(key)) for key, _ in target.listed(keys.TABLES)]
    entries = [entry for one in told for entry in one.entries]
    assert {(one.SOPInstanceUID, one.path, one.size) for one in entries} == ledger
    for number, data in enumerate(parts):
        (tmp_path / f"{number}.parquet").write_bytes(data)
    rows = duckdb.sql(
        f"SELECT SOPInstanceUID, path, size, key, sha256 FROM '{tmp_path}/*.parquet'"  # noqa: S608 - our own path
    ).fetchall()
    assert sorted(rows) == sorted((one.SOPInstanceUID, one.path, one.size, one.key, one.sha256) for one in entries)


def test_a_member_is_fetched_by_its_range(world: World, store: Store) -> None:
    """As docs/export.md tells it, with what its manifest says."""
    assert world.export("once", *store.flags()[2:], "--archive", "series", to=store.to) == 0
    with closing(store.target()) as target:
        (key, *_) = [key for key, _ in target.listed(keys.MANIFESTS)]
        told = [json.loads(line) for line in whole(target.read(key)).splitlines()][1:]
    tree = world.tree()
    bucket, _, prefix = store.to.removeprefix("s3://").partition("/")
    for entry in told[:2]:
        begin, end = entry["offset"], entry["offset"] + entry["size"] - 1
        command = [need("aws"), "--endpoint-url", store.endpoint, "s3api", "get-object", "--bucket", bucket]
        command += ["--key", f"{prefix}/{entry['key']}", "--range", f"bytes={begin}-{end}", "/dev/stdout"]
        kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        done = subprocess.run(command, env=kept, check=True, capture_output=True, timeout=120)
        assert hashlib.sha256(done.stdout[: entry["size"]]).hexdigest() == entry["sha256"] == tree[entry["path"]]
