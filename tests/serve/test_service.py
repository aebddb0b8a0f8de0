"""`listener serve` beside a collection: what clients get, compared with the files and with pydicom."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.pixels.utils import pixel_array

from tests.frames.collection import Collection
from tests.frames.judge import expected
from tests.frames.making import JPEG, Maker, header, jpeg
from tests.instances import instance, save
from tests.serve.processes import Serving, serving
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::UserWarning")]

FRAMES = "application/octet-stream, image/jpeg, image/jls, image/jp2, image/dicom-rle"
TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"  # noqa: S105 - of nobody


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


def add_instances(collection: Collection, count: int = 3, **more: Any) -> list[pydicom.Dataset]:
    """Instances of one series, made by tests.instances."""
    made = []
    for number in range(1, count + 1):
        dataset = instance(number=number, **more)
        path = save(dataset, Path(collection.config.incoming[0], "one"))
        uids = (dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        collection.add(Maker("", *map(str, uids)), path.read_bytes(), Modality=dataset.Modality)
        made.append(dataset)
    return made


def url_of(dataset: pydicom.Dataset) -> str:
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    return "/studies/{}/series/{}/instances/{}".format(*uids)


def file_of(collection: Collection, uid: str) -> bytes:
    return next(collection.data.rglob(f"{uid}.dcm")).read_bytes()


def test_frames_and_instances_of_pydicom_s_files_are_what_pydicom_reads(collection: Collection) -> None:
    wanted: dict[str, tuple[bytes, list[bytes] | None]] = {}
    for number, path in enumerate(sorted(set(get_testdata_files()))):
        if not os.path.isfile(path) or "dicomdirtests" in path or "truncated" in path:
            continue
        frames = expected(path)
        if frames is None:
            continue
        data = Path(path).read_bytes()
        wanted["/" + collection.add(Maker("", f"1.9.{number}", "1.9", "1.9.9"), data)] = (data, frames)
    assert len(wanted) > 50
    with serving(collection) as running:
        for url, (data, frames) in wanted.items():
            assert frames is not None
            whole = running.get(url, accept="application/dicom")
            assert (whole.status, whole.body == data) == (200, True), url
            numbers = ",".join(str(number) for number in range(len(frames), 0, -1))
            several = running.get(f"{url}/frames/{numbers}")
            assert several.status == 200, (url, several)
            assert [content for _, content in several.parts] == frames[::-1], url
            alone = running.get(f"{url}/frames/1", accept=FRAMES)
            assert (alone.status, alone.body) == (200, frames[0]), url
            assert running.get(f"{url}/frames/{len(frames) + 1}").status == 404
        study = running.get("/studies/1.9")
        assert sorted(content for _, content in study.parts) == sorted(data for data, _ in wanted.values())


def test_an_instance_comes_by_ranges_and_is_known_by_its_tag(collection: Collection) -> None:
    (made, *_) = add_instances(collection, 1)
    url, data = url_of(made), file_of(collection, made.SOPInstanceUID)
    with serving(collection, "--max-age", "60") as running:
        whole = running.get(url, accept="application/dicom")
        assert whole.fields["content-length"] == str(len(data))
        assert whole.fields["cache-control"] == "private, max-age=60"
        part = running.get(url, accept="application/dicom", range="bytes=100-199")
        assert (part.status, part.body) == (206, data[100:200])
        assert part.fields["content-range"] == f"bytes 100-199/{len(data)}"
        assert running.get(url, accept="application/dicom", range=f"bytes={len(data)}-").status == 416
        tag = whole.fields["etag"]
        known = running.get(url, accept="application/dicom", if_none_match=tag)
        assert (known.status, known.body) == (304, b"")
        assert running.get(url, accept="application/dicom", if_none_match='"x"').status == 200
        head = running.get(url, method="HEAD", accept="application/dicom")
        assert (head.status, head.body, head.fields["content-length"]) == (200, b"", str(len(data)))
        assert running.get(url, method="POST").status == 405


def test_an_instance_in_implicit_vr_comes_in_explicit_vr_where_that_is_asked_for(collection: Collection) -> None:
    path = next(path for path in get_testdata_files() if path.endswith("MR_small_implicit.dcm"))
    url = "/" + collection.add(Maker("", "1.9.1", "1.9", "1.9.9"), Path(path).read_bytes())
    with serving(collection) as running:
        for accept in ("application/dicom", "application/dicom; transfer-syntax=*"):
            assert running.get(url, accept=accept).body == Path(path).read_bytes()
        got = running.get(url, accept="application/dicom; transfer-syntax=1.2.840.10008.1.2.1")
        made, wanted = pydicom.dcmread(io.BytesIO(got.body)), pydicom.dcmread(path)
        assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert made == wanted
        explicit = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'
        assert running.get(url, accept=explicit).parts[0][1] == got.body
        assert running.get(url, accept="application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50").status == 406


def test_the_rest_of_a_file_comes_only_of_the_same_file(collection: Collection) -> None:
    (made, *_) = add_instances(collection, 1)
    url, data = url_of(made), file_of(collection, made.SOPInstanceUID)
    with serving(collection) as running:
        tag = running.get(url, accept="application/dicom").fields["etag"]
        rest: dict[str, Any] = {"accept": "application/dicom", "range": "bytes=10-"}
        got = running.get(url, if_range=tag, **rest)
        assert (got.status, got.body) == (206, data[10:])
        other = running.get(url, if_range='"of another one"', **rest)
        assert (other.status, other.body) == (200, data)


def test_an_answer_does_not_wait_for_an_acknowledgement(collection: Collection) -> None:
    """Head and body are written apart: without TCP_NODELAY the second waits 40 ms, each time."""
    url, frames = collection.slide(3)
    with serving(collection) as running, contextlib.closing(http.client.HTTPConnection(running.address)) as connection:
        times: list[float] = []
        while len(times) < 300 and min(times, default=9) >= 0.03:  # A busy machine is seldom quick.
            begin = time.perf_counter()
            connection.request("GET", f"/dicom-web/{url}/frames/2", headers={"accept": "image/jpeg"})
            assert connection.getresponse().read() == frames[1]
            times.append(time.perf_counter() - begin)
        assert min(times) < 0.03


def test_values_that_are_asked_for_at_once_are_not_mixed_up(collection: Collection) -> None:
    values = [bytes([number]) * 3000 for number in range(8)]
    urls = []
    for number, value in enumerate(values, 1):
        dataset = instance(number=number, EncapsulatedDocument=value)
        path = save(dataset, Path(collection.config.incoming[0], "one"))
        uids = (dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        collection.add(Maker("", *map(str, uids)), path.read_bytes())
        urls.append(f"{url_of(dataset)}/bulkdata/00420011")
    with serving(collection) as running, ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            got = list(pool.map(lambda url: running.get(url, accept="application/octet-stream").body, urls))
            assert got == values
        assert not list(Path(collection.state, "serve").glob("bulk-*"))


def test_several_processes_answer_and_are_counted_as_one(collection: Collection) -> None:
    url, frames = collection.slide(5)
    with serving(collection, "--processes", "3") as running:
        running.ready()
        for _ in range(40):
            assert running.get(f"/{url}/frames/2", accept="image/jpeg").body == frames[1]
        counted = 'listener_serve_requests_total{resource="frames",status="2xx"} 40.0'
        until(lambda: counted in running.health("/metrics").body.decode(), 20)
        others = [pid for pid in running.workers() if b"listener.serve.child" in cmdline(pid)]
        assert len(others) == 2
        os.kill(others[0], signal.SIGKILL)
        until(lambda: running.health("/readyz").status == 503, 20)
        running.ready()
        assert running.get("/studies").json[0]["0020000D"]["Value"] == ["1.2.3"]
        running.process.terminate()
        assert running.process.wait(120) == 0
        assert sum(one["requests"] for one in running.events() if one["event"] == "read") == 40
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in others), 20)


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_other_processes_end_with_a_killed_service(collection: Collection) -> None:
    collection.slide(1)
    with serving(collection, "--processes", "2") as running:
        running.ready()
        others = running.workers()
        running.process.kill()
        running.process.wait()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in others), 20)


def test_a_proxy_is_believed_and_limits_count_behind_it(collection: Collection) -> None:
    collection.slide(1)
    with serving(collection, "--behind-proxy", "127.0.0.0/8") as running, contextlib.ExitStack() as stack:
        assert running.get("/studies").status == 200
        assert running.get("/studies", x_forwarded_for="192.0.2.1").status == 401
        host, _, port = running.address.rpartition(":")
        many = [stack.enter_context(socket.create_connection((host, int(port)), 120)) for _ in range(20)]
        assert running.get("/studies").status == 200
        assert len(many) == 20


def test_what_fails_within_an_answer_is_told_without_a_path(collection: Collection) -> None:
    deflated = next(path for path in get_testdata_files() if path.endswith("image_dfl.dcm"))
    gone = "/" + collection.add(Maker("", "1.9.1", "1.9", "1.9.9"), Path(deflated).read_bytes())
    url, _ = collection.slide(2000)
    with serving(collection) as running:
        assert running.get(f"{gone}/frames/1").status == 200
        collection.path("1.9.1").unlink()
        assert running.get(f"{gone}/frames/1").status == 404
        assert running.get(f"/{url}/frames/1").status == 200
        connection = http.client.HTTPConnection(running.address, timeout=120)
        with contextlib.closing(connection):
            connection.request("GET", f"/dicom-web/{url}", headers={"accept": "application/dicom"})
            os.truncate(collection.path(), 5000)
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                connection.getresponse().read()
        assert running.get(f"/{url}/frames/1").status == 404
        assert "patient/study" not in str(running)
        assert "Traceback" not in str(running)


def test_answers_go_on_where_the_index_is_full(collection: Collection, tmp_path: Path) -> None:
    url, frames = collection.slide(5)
    index = tmp_path / "index"
    index.mkdir()
    (index / "series").write_bytes(b"where a directory should be")
    with serving(collection, "--index", str(index), TMPDIR=str(tmp_path)) as running:
        assert running.get(f"/{url}/frames/2", accept="image/jpeg").body == frames[1]
        assert running.get(f"/{url}/metadata").json[0]["00080018"]["Value"] == ["1.2.3.4"]
    assert not list(tmp_path.glob("listener-serve-*"))


def test_complete_series_are_indexed_ahead_within_the_space(collection: Collection) -> None:
    collection.slide(5)
    collection.complete()
    with serving(collection) as running:
        folder = Path(collection.state, "serve", "series")
        until(lambda: list(folder.rglob("*.json.gz")), 20)
        url, frames = collection.slide(5, salt=3)
        until(lambda: running.get(f"/{url}/frames/1", accept="image/jpeg").body == frames[0], 20)
    with serving(collection, "--ahead", "off", "--index", str(collection.data.parent / "other")) as running:
        running.ready()
        assert not (collection.data.parent / "other" / "series").exists()


def test_metadata_come_again_when_their_document_went(collection: Collection) -> None:
    url, _ = collection.slide(2)
    with serving(collection) as running:
        first = running.get(f"/{url}/metadata")
        for document in Path(collection.state, "serve", "series").rglob("*.json.gz"):
            document.unlink()
        assert running.get(f"/{url}/metadata").body == first.body


def test_metadata_are_what_pydicom_makes_of_the_file(collection: Collection) -> None:
    sequence = pydicom.Sequence([pydicom.Dataset()])
    sequence[0].EncapsulatedDocument = b"nested" * 300
    made = add_instances(
        collection, 3, PatientName="Müller^Jürgen", RequestAttributesSequence=sequence, AccessionNumber=""
    )
    study, series = made[0].StudyInstanceUID, made[0].SeriesInstanceUID
    with serving(collection) as running:
        path = f"/studies/{study}/series/{series}/metadata"
        got = running.get(path)
        assert (got.status, got.fields["content-type"]) == (200, "application/dicom+json")
        assert len(got.json) == 3
        for found, dataset in zip(got.json, made, strict=True):
            wanted = dataset.to_json_dict(1024, lambda element: "")
            url = f"{running.base}{url_of(dataset)}"
            assert found.pop("00081190") == {"vr": "UR", "Value": [url]}
            assert found.pop("00083002") == {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}
            assert found.pop("00080005") == {"vr": "CS", "Value": ["ISO_IR 192"]}
            assert found.pop("7FE00010") == {"vr": "OW", "BulkDataURI": f"{url}/bulkdata/7FE00010"}
            nested = found.pop("00400275")["Value"][0]["00420011"]
            assert nested == {"vr": "OB", "BulkDataURI": f"{url}/bulkdata/00400275/1/00420011"}
            for tag in ("00080005", "7FE00010", "00400275"):
                del wanted[tag]
            assert found == wanted
            assert found["00080050"] == {"vr": "SH"}
            bulk = running.get(f"{url_of(dataset)}/bulkdata/00400275/1/00420011", accept="application/octet-stream")
            assert (bulk.status, bulk.body) == (200, b"nested" * 300)
            pixels = running.get(f"{url_of(dataset)}/bulkdata/7fe00010")
            assert pixels.parts == [
                ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", dataset.PixelData)
            ]
            one = running.get(f"{url_of(dataset)}/metadata", accept="application/json")
            assert [one.json[0]["00080018"]["Value"][0]] == [dataset.SOPInstanceUID]
        packed = running.get(path, accept_encoding="gzip, deflate")
        assert packed.fields["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == got.body
        assert running.get(f"/studies/{study}/metadata").body == got.body
        assert running.get(f"{url_of(made[0])}/bulkdata/00100010").status == 404


def test_searches_find_what_the_headers_say(collection: Collection) -> None:
    first = add_instances(collection, 2, PatientName="Müller^Jürgen")
    second = add_instances(
        collection, 1, study=1, patient=1, Modality="CT", PatientName="Doe^[Jane]", StudyTime="235959"
    )
    with serving(collection, "--max-results", "50") as running:
        running.ready()

        def studies(query: str) -> list[str]:
            got = running.get(f"/studies?{query}")
            assert got.status == 200, got
            return sorted(one["0020000D"]["Value"][0] for one in got.json)

        uids = [str(first[0].StudyInstanceUID), str(second[0].StudyInstanceUID)]
        assert studies("") == sorted(uids)
        for query in (
            "PatientName=mueller*", "PatientName=MULLER*", "PatientName=*j%C3%BCrg*", "00100020=P0000",
            "patientid=P000?&PatientName=M*", "ModalitiesInStudy=MR", "StudyTime=1011", "StudyTime=10-11",
            "fuzzymatching=true&PatientName=jurgen", f"StudyInstanceUID={uids[0]},9.9", "StudyDate=20240101",
            "StudyDate=-20240101",
        ):  # fmt: skip
            assert studies(query) == ([] if "mueller" in query else [uids[0]]), query
        assert studies("PatientName=*[Jane]*") == [uids[1]]
        assert studies("StudyDate=20240101-20240102") == sorted(uids)
        assert studies("PatientName=nobody") == []
        page = running.get("/studies?limit=1&offset=0")
        assert (len(page.json), page.fields["warning"][:3]) == (1, "299")
        (one,) = running.get(f"/studies?StudyInstanceUID={uids[0]}").json
        assert one["00201206"] == {"vr": "IS", "Value": [1]}
        assert one["00201208"] == {"vr": "IS", "Value": [2]}
        assert one["00080090"] == {"vr": "PN"}
        assert one["00081190"]["Value"] == [f"{running.base}/studies/{uids[0]}"]
        (series,) = running.get(f"/studies/{uids[0]}/series").json
        assert series["00201209"] == {"vr": "IS", "Value": [2]}
        assert not {"00100010", "0020000D", "00080020"} & series.keys()
        (series,) = running.get("/series?Modality=CT&includefield=Manufacturer").json
        assert series["00100010"]["Value"] == [{"Alphabetic": "Doe^[Jane]"}]
        found = running.get(f"/studies/{uids[0]}/instances?InstanceNumber=2").json
        assert [one["00080018"]["Value"][0] for one in found] == [first[1].SOPInstanceUID]
        assert len(running.get("/instances").json) == 3
        assert all("00020010" not in one for one in running.get("/instances?includefield=all").json)
        for name in ("00020010", "TransferSyntaxUID"):
            asked = running.get(f"/instances?includefield={name}").json
            assert [one["00020010"]["Value"] for one in asked] == [["1.2.840.10008.1.2.1"]] * 3
        assert len(running.get("/instances?offset=1&limit=1").json) == 1
        assert running.get("/studies?Foo=bar").json == {
            "status": 400,
            "error": "Foo cannot be matched in a search for studies",
        }
        late = add_instances(collection, 1, study=2, patient=2)
        until(lambda: str(late[0].StudyInstanceUID) in studies("PatientID=P0002"), 20)


def test_a_slide_s_frames_come_in_the_order_asked_for(collection: Collection) -> None:
    url, frames = collection.slide(40)
    with serving(collection, "--max-frames", "30") as running:
        got = running.get(f"/{url}/frames/7,3,7", accept='multipart/related; type="image/jpeg"; transfer-syntax=*')
        assert got.parts == [(f"image/jpeg; transfer-syntax={JPEG}", frames[number - 1]) for number in (7, 3, 7)]
        assert got.fields["content-length"] == str(len(got.body))
        assert running.get(f"/{url}/frames/7%2C3").parts[1][1] == frames[2]
        for bad in ("0", "-1", str(2**64), "1,,2", ",".join(["1"] * 31)):
            assert running.get(f"/{url}/frames/{bad}").status == 400
        refused = running.get(f"/{url}/frames/1", accept="image/png")
        assert (refused.status, "image/jpeg" in refused.json["error"]) == (406, True)
        assert running.get(f"/{url}/frames/1?accept=image/png").status == 406
        page = running.health("/metrics").body.decode()
        assert 'listener_serve_requests_total{resource="frames",status="2xx"} 2.0' in page
        assert "listener_serve_frames_total 5.0" in page


def test_a_replaced_instance_comes_as_it_is_now(collection: Collection) -> None:
    url, frames = collection.slide(5)
    with serving(collection) as running:
        accept: dict[str, Any] = {"accept": "image/jpeg"}
        assert running.get(f"/{url}/frames/2", **accept).body == frames[1]
        _, others = collection.slide(5, salt=9)
        until(lambda: running.get(f"/{url}/frames/2", **accept).body == others[1], 20)
        collection.path().write_bytes(b"short")
        assert running.get(f"/{url}/frames/2", **accept).status == 404
        collection.path().unlink()
        assert running.get(f"/{url}/frames/2", **accept).status == 404


def test_the_index_may_be_removed_and_workers_may_die(collection: Collection) -> None:
    url, frames = collection.slide(5)
    with serving(collection, "--index", str(collection.data.parent / "index")) as running:
        assert running.get(f"/{url}/frames/2", accept="image/jpeg").body == frames[1]
        for worker in running.workers():
            os.kill(worker, signal.SIGKILL)
        other, more = collection.slide(5, "1.2.3.5", salt=3)
        until(lambda: running.get(f"/{other}/frames/2", accept="image/jpeg").body == more[1], 20)
        assert not (Path(collection.state) / "serve").exists()
        workers = running.workers()
        running.process.kill()
        running.process.wait()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 20)


def test_frames_of_several_fragments_and_without_a_table_are_right_or_refused(collection: Collection) -> None:
    pictures = [jpeg(number, 30) for number in range(3)]
    maker = Maker(JPEG, SOPInstanceUID="1.2.3.7")
    split = [[picture[:20], picture[20:]] for picture in pictures]
    joined = collection.add(maker, maker.encapsulated(header(frames=3), split))
    unclear = Maker("1.2.840.10008.1.2.5", SOPInstanceUID="1.2.3.8")
    refused = collection.add(unclear, unclear.encapsulated(header(frames=2), [[b"ab", b"cd"], [b"ef"]]))
    video = Maker("1.2.840.10008.1.2.4.102", SOPInstanceUID="1.2.3.9")
    film = collection.add(video, video.encapsulated(header(frames=9), [[b"ab"]]))
    with serving(collection) as running:
        assert [content for _, content in running.get(f"/{joined}/frames/1,2,3").parts] == pictures
        for url, word in ((refused, "frames-unclear"), (film, "video")):
            got = running.get(f"/{url}/frames/1")
            assert (got.status, word in got.json["error"]) == (406, True)
            assert running.get(f"/{url}").status == 200


def test_pictures_and_decoded_frames_come_as_pydicom_and_numpy_have_them(collection: Collection) -> None:
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    (made, *_) = add_instances(collection, 1)
    url = url_of(made)
    rle = next(path for path in get_testdata_files() if path.endswith("SC_rgb_rle_2frame.dcm"))
    both = "/" + collection.add(Maker("", "1.9.1", "1.9", "1.9.9"), Path(rle).read_bytes())
    pixels = pixel_array(rle)
    with serving(collection) as running:
        octets: dict[str, Any] = {"accept": "application/octet-stream"}
        for number in (1, 2):
            got = running.get(f"{both}/frames/{number}", **octets)
            assert (got.status, got.body) == (200, pixels[number - 1].tobytes())
            assert got.fields["content-type"] == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
        explicit = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
        got = running.get(f"{both}/frames/2,1", accept=explicit)
        assert [content for _, content in got.parts] == [pixels[1].tobytes(), pixels[0].tobytes()]
        as_stored = running.get(f"{both}/frames/1", accept="application/octet-stream; transfer-syntax=*")
        assert as_stored.fields["content-type"].endswith("1.2.840.10008.1.2.5")
        png = running.get(f"{both}/frames/2/rendered", accept="image/png")
        shown = numpy.asarray(image.open(io.BytesIO(png.body)))
        assert (png.status, png.fields["content-type"], (shown == pixels[1]).all()) == (200, "image/png", True)
        again = running.get(f"{both}/frames/2/rendered", accept="image/png", if_none_match=png.fields["etag"])
        assert again.status == 304
        small = running.get(f"{both}/thumbnail?viewport=20,10")
        assert (small.fields["content-type"], image.open(io.BytesIO(small.body)).size) == ("image/jpeg", (10, 10))
        several = running.get(f"{both}/frames/1,2/rendered?quality=50")
        assert [media for media, _ in several.parts] == ["image/jpeg"] * 2
        grey = running.get(f"{url}/rendered?window=100,50,linear&iccprofile=yes")
        assert (grey.status, image.open(io.BytesIO(grey.body)).mode) == (200, "L")
        for wrong in ("quality=0", "window=1", "viewport=x", "viewport=10,10,9999,0", "annotation=patient"):
            assert running.get(f"{url}/rendered?{wrong}").status in (400, 406), wrong
        assert running.get(f"{both}/frames/3/rendered").status == 404
        assert running.get(f"{url}/rendered", accept="video/mp4").status == 406
        assert running.get("/studies/1.9/rendered").status == 406
        broken = Maker(JPEG, SOPInstanceUID="1.2.3.4")
        bad = collection.add(broken, broken.encapsulated(header(frames=1), [[jpeg(1)]]))
        refused = running.get(f"/{bad}/rendered")
        assert (refused.status, "cannot be shown" in refused.json["error"]) == (406, True)
        assert running.get(f"{both}/rendered").status == 200
        assert not list(Path(collection.state, "serve").glob("bulk-*"))


def test_tokens_are_wanted_where_there_are_any(collection: Collection, tmp_path: Path) -> None:
    url, frames = collection.slide(3)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"viewer:{TOKEN}\n")
    tokens.chmod(0o400)
    with serving(collection, "--token-file", str(tokens), "--cors", "https://viewer.example.org") as running:
        bearer: dict[str, Any] = {"authorization": f"Bearer {TOKEN}", "accept": "image/jpeg"}
        assert running.get(f"/{url}/frames/1", **bearer).body == frames[0]
        refused = running.get(f"/{url}/frames/1", origin="https://viewer.example.org")
        assert (refused.status, refused.fields["www-authenticate"]) == (401, 'Bearer realm="listener"')
        assert refused.fields["access-control-allow-origin"] == "https://viewer.example.org"
        assert running.get("/studies", authorization="Bearer wrong").status == 401
        asked: dict[str, Any] = {
            "origin": "https://viewer.example.org",
            "access_control_request_headers": "authorization",
        }
        preflight = running.get("/studies", method="OPTIONS", **asked)
        assert (preflight.status, preflight.fields["access-control-allow-headers"]) == (204, "authorization")
        elsewhere = running.get("/studies", method="OPTIONS", origin="https://evil.example.org")
        assert "access-control-allow-origin" not in elsewhere.fields
        running.process.terminate()
        assert running.process.wait(120) == 0
        reads = [event for event in running.events() if event["event"] == "read"]
        mine = next(event for event in reads if event["client"] == "viewer")
        assert (mine["StudyInstanceUID"], mine["resource"], mine["requests"]) == ("1.2.3", "frames", 1)


def test_half_sent_heads_and_long_ones_are_dropped(collection: Collection) -> None:
    collection.slide(2)
    with serving(collection) as running, contextlib.ExitStack() as stack:
        host, _, port = running.address.rpartition(":")

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), 120))

        half = [connect() for _ in range(16)]
        for one in half:
            one.sendall(b"GET /dicom-web/studies HTTP/1.1\r\nhost: x\r\n")
        more = connect()
        assert more.recv(100).startswith(b"HTTP/1.1 429 ")
        for one in half:
            assert one.recv(100) == b""
        long = connect()
        with contextlib.suppress(ConnectionError):
            long.sendall(b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000)
            assert long.recv(100).startswith(b"HTTP/1.1 431 ")
        assert running.get("/studies").status == 200


def test_no_ledger_is_503_and_no_patient_is_told(collection: Collection) -> None:
    add_instances(collection, 1, PatientName="Canary^Bird", PatientID="CANARY")
    with serving(collection) as running:
        assert running.get("/studies?PatientName=Canary*").status == 200
        ledger = Path(collection.state, "ledger.sqlite")
        collection.close()
        ledger.rename(ledger.with_name("away"))
        got = running.get("/studies")
        assert (got.status, got.fields["retry-after"]) == (503, "1")
        until(lambda: running.health("/readyz").status == 503, 20)
        ledger.with_name("away").rename(ledger)
        until(lambda: running.get("/studies").status == 200, 20)
        told = str(running) + running.health("/metrics").body.decode() + got.body.decode()
    assert "canary" not in told.lower()


def test_a_viewer_s_files_lie_on_the_same_origin(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "viewer"
    folder.mkdir()
    (folder / "index.html").write_text("<html>viewer</html>")
    (folder / "app.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    with serving(collection, "--viewer", str(folder)) as running:
        for path in ("/", "/viewer?StudyInstanceUIDs=1.2"):
            assert running.get(path, whole=True).body == b"<html>viewer</html>"
        assert running.get("/app.js", whole=True).fields["content-type"].startswith("text/javascript")
        assert b'"wadoRoot":"/dicom-web"' in running.get("/app-config.js", whole=True).body
        for path in ("/nothing.js", "/a%00.js", "/../secret.txt"):
            assert running.get(path, whole=True).status == 404
        for path in ("/../secret", "/%2e%2e/secret"):
            assert running.get(path, whole=True).body == b"<html>viewer</html>"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--dicomweb", "0.0.0.0:0"], "--token-file"),
        (["--viewer", "/"], "index.html"),
        (["--cors", "nonsense"], "origin"),
        (["--prefix", "a b"], "prefix"),
    ],
)
def test_what_cannot_work_is_said(args: list[str], words: str, collection: Collection) -> None:
    from tests.service_process import finish, start

    done = finish(start("serve", "--data", str(collection.data), "--state", collection.state, *args))
    assert (done.status, words in done.stderr) == (2, True), done.stderr


def test_serving_is_a_reader(collection: Collection) -> None:
    """It registers no consumer, and holds nothing back."""
    from listener.ledger.reader import reading

    collection.slide(2)
    with serving(collection) as running:
        running.ready()
        with reading(collection.state) as reader:
            assert reader.consumers() == []
        assert isinstance(running, Serving)
