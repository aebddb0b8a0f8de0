from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.export import manifest
from listener.export.flow import Flow
from listener.export.manifest import Archive, Entry, Manifest, NoManifest
from listener.export.manifests import Manifests
from listener.export.upload import Rules, Uploader
from tests.export.memory import MemoryTarget

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRIES = st.builds(Entry, TEXTS, TEXTS, st.integers(0, 2**40), TEXTS, TEXTS, st.integers(-1, 2**40))
ARCHIVES = st.builds(Archive, TEXTS, st.integers(0, 2**40), TEXTS)
MANIFESTS = st.builds(
    Manifest,
    TEXTS,
    TEXTS,
    st.integers(1, 9),
    st.sampled_from(["complete", "incomplete"]),
    st.lists(ENTRIES, max_size=4).map(tuple),
    st.lists(ARCHIVES, max_size=2).map(tuple),
    TEXTS,
)


@given(MANIFESTS)
def test_what_is_written_is_parsed(one: Manifest) -> None:
    assert manifest.parsed(manifest.written(one)) == one


@given(MANIFESTS, st.data())
def test_one_that_was_cut_is_none(one: Manifest, data: st.DataObject) -> None:
    whole = manifest.written(one)
    length = data.draw(st.integers(0, len(whole) - 2))
    with pytest.raises(NoManifest):
        manifest.parsed(whole[:length])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"no\n", b'{"manifest":2}', b"\xff", b"null\nnull"])
def test_what_is_no_manifest_is_told(data: bytes) -> None:
    with pytest.raises(NoManifest):
        manifest.parsed(data)


def test_lines_are_as_the_documents_tell() -> None:
    entries = (Entry("1.2.3", "data/a.dcm", 5, "ff", "a.dcm"), Entry("1.2.4", "archives/x.tar", 6, "ee", "b.dcm", 512))
    one = Manifest("1", "1.2", 1, "complete", entries, verified="read", program="p", time="t")
    assert manifest.written(one).decode().splitlines() == [
        (
            '{"manifest":1,"SeriesInstanceUID":"1.2","StudyInstanceUID":"1","generation":1,"state":"complete",'
            '"instances":2,"bytes":11,"archives":[],"supersedes":"","verified":"read","program":"p","time":"t"}'
        ),
        '{"SOPInstanceUID":"1.2.3","key":"data/a.dcm","size":5,"sha256":"ff","path":"a.dcm"}',
        '{"SOPInstanceUID":"1.2.4","key":"archives/x.tar","size":6,"sha256":"ee","path":"b.dcm","offset":512}',
    ]


def test_the_same_content_is_the_same_whoever_exported_it_and_when() -> None:
    one = Manifest("1", "1.2", 1, "complete", (), program="a", time="b", verified="head")
    assert manifest.is_same(one, one._replace(program="x", time="y", verified="read"))
    assert not manifest.is_same(one, one._replace(supersedes="x"))
    assert not manifest.is_same(one, one._replace(entries=(Entry("1", "2", 3, "4", "5"),)))


@pytest.mark.parametrize("reads", [True, False])
def test_a_manifest_is_read_back_whatever_is_said_of_objects(reads: bool) -> None:
    """One that was altered on its way has its size and, in its metadata, its digest."""
    target = MemoryTarget()
    altered = [lambda data: data.replace(b"a.dcm", b"b.dcm")]
    target.stored = lambda data: altered.pop()(data) if altered else data
    uploader = Uploader(target, Rules(reads=reads), Flow(), lambda _name, _amount: None)
    one = Manifest("1", "1.2", 1, "complete", (Entry("1.2.3", "data/a.dcm", 5, "ff", "a.dcm"),))
    key = Manifests(target, uploader).commit(one)
    assert "~" in key
    assert manifest.parsed(target.objects[key]) == one
