"""Against peers that say what they like, and against real ones: DCMTK's storescp, and pynetdicom as the judge."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from listener import network
from listener.dicom.syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from listener.errors import PEER_CAUSES, NotAccepted, PeerFault, Unsendable
from listener.network import dimse, pdu
from listener.network.association import Association, Patience, Peer, Stored
from listener.network.instance import Instance
from listener.network.stream import tls_context
from tests.conftest import PROJECT
from tests.dicomnet import Receiver, storescp
from tests.instances import element, part10, write_instance
from tests.network import peers
from tests.network.kinds import kinds, written
from tests.network.peers import Script, content_of, peer

SHORT = Patience(connect=60, associate=0.3, response=0.3)
#: Where an answer comes, however busy the machine is; where only that of an instance does not.
AMPLE, SILENT = Patience(60, 60, 60), Patience(60, 60, 0.3)
UIDS = element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.4\0") + element(0x00080018, "UI", b"1.2.3\0")
KINDS = sorted(kinds())


def send(port: int, path: Path, patience: Patience = AMPLE, **more: Any) -> Stored:
    with Instance(str(path)) as one, Association(Peer("127.0.0.1", port, "ANY", **more), [one.pair], patience) as open_:
        return open_.store(one)


def dataset_of(path: Path) -> bytes:
    with Instance(str(path)) as one:
        return content_of(one)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_instance(tmp_path / "one.dcm")


# ---- peers that say what they like ----


def answering(*answers: bytes, then: float = 0) -> Script:
    """Accept everything, read one instance, then say this, and wait so long before the end."""

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        peers.read_message(connection, has_dataset=True)
        for answer in answers:
            connection.sendall(answer)
        wait_for_the_end(connection, then)

    return script


def wait_for_the_end(connection: socket.socket, seconds: float = 2) -> None:
    connection.settimeout(max(seconds, 0.001))
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return


def saying(*words: bytes, then: float = 2) -> Script:
    """Read the request for an association, then say this."""

    def script(connection: socket.socket) -> None:
        peers.read_pdu(connection)
        for word in words:
            connection.sendall(word)
        wait_for_the_end(connection, then)

    return script


def test_the_data_set_arrives_as_it_lies_in_the_file(path: Path) -> None:
    got: list[bytes] = []

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        got.extend(peers.read_message(connection, has_dataset=True))
        connection.sendall(peers.data(3, peers.command()))
        wait_for_the_end(connection)

    with peer(script) as port:
        assert send(port, path) == Stored(dimse.Response(dimse.STORE, 1, 0))
    assert got[1] == dataset_of(path)
    assert path.read_bytes().endswith(got[1])


#: What is said instead of a response -> the cause that is told.
ANSWERS: dict[str, tuple[list[bytes], str]] = {
    "a length of 2^32": ([bytes((pdu.DATA, 0, 255, 255, 255, 255))], "protocol"),
    "a value of 2^32": ([bytes((pdu.DATA, 0, 0, 0, 0, 6, 255, 255, 255, 255, 3, 3))], "protocol"),
    "another message's response": ([peers.data(3, peers.command(e0120=2))], "protocol"),
    "another command's response": ([peers.data(3, peers.command(e0100=0x8030))], "protocol"),
    "a request": ([peers.data(3, dimse.echo_request(1))], "protocol"),
    "another context": ([peers.data(1, peers.command())], "protocol"),
    "a context never offered": ([peers.data(255, peers.command())], "protocol"),
    "a data set": ([peers.data(3, peers.command(), control=2)], "protocol"),
    "a data set behind": ([peers.data(3, peers.command(e0800=0))], "protocol"),
    "a command without end": ([peers.data(3, peers.command(), control=1)] * 600, "protocol"),
    "no status": ([peers.data(3, peers.command()[:-10])], "protocol"),
    "an association": ([peers.accepting({1: IMPLICIT_LITTLE})], "protocol"),
    "a release": ([bytes((pdu.RELEASE, 0, 0, 0, 0, 4, 0, 0, 0, 0))], "closed"),
    "the answer to a release": ([pdu.released()], "protocol"),
    "an abort": ([bytes((pdu.ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 1))], "aborted"),
    "no DICOM": ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "protocol"),
    "nothing": ([], "timeout"),
    "an empty P-DATA": ([bytes((pdu.DATA, 0, 0, 0, 0, 0))], "timeout"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_is_answered_the_peer_is_at_fault_and_the_association_over(name: str, path: Path) -> None:
    answers, cause = ANSWERS[name]
    with (
        peer(answering(*answers, then=60)) as port,
        Instance(str(path)) as one,
        Association(Peer("127.0.0.1", port, "ANY"), [one.pair], SILENT if cause == "timeout" else AMPLE) as open_,
    ):
        with pytest.raises(PeerFault) as caught:
            open_.store(one)
        assert caught.value.cause == cause
        assert not open_.is_open


#: What is said instead of accepting -> cause.
OPENINGS: dict[str, tuple[list[bytes], str]] = {
    "a length of 2^32": ([bytes((pdu.ACCEPT, 0, 255, 255, 255, 255))], "protocol"),
    "a context never offered": ([peers.accepting({255: IMPLICIT_LITTLE})], "protocol"),
    "a transfer syntax never offered": ([peers.accepting({1: EXPLICIT_BIG})], "protocol"),
    "takes nothing": ([peers.accepting({1: IMPLICIT_LITTLE}, longest=6)], "protocol"),
    "called title": ([bytes((pdu.REJECT, 0, 0, 0, 0, 4, 0, 1, 1, 7))], "title"),
    "calling title": ([bytes((pdu.REJECT, 0, 0, 0, 0, 4, 0, 1, 1, 3))], "title"),
    "congestion": ([bytes((pdu.REJECT, 0, 0, 0, 0, 4, 0, 2, 3, 1))], "rejected"),
    "reason 7 of another source": ([bytes((pdu.REJECT, 0, 0, 0, 0, 4, 0, 2, 3, 7))], "rejected"),
    "an abort": ([bytes((pdu.ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 1))], "aborted"),
    "a response": ([peers.data(1, peers.command())], "protocol"),
    "no DICOM": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "protocol"),
    "nothing": ([], "timeout"),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_whatever_opens_an_association_instead_is_told(name: str) -> None:
    words, cause = OPENINGS[name]
    patience = SHORT if cause == "timeout" else AMPLE
    with peer(saying(*words, then=60)) as port, pytest.raises(PeerFault) as caught:
        Association(Peer("127.0.0.1", port, "ANY"), [], patience)
    assert caught.value.cause == cause


def test_each_reply_cut_at_each_byte_is_the_end_of_the_connection(path: Path) -> None:
    whole = peers.accepting({1: IMPLICIT_LITTLE, 3: EXPLICIT_LITTLE})
    opening: list[Script] = [saying(whole[:count], then=0) for count in range(len(whole))]
    response = peers.data(3, peers.command())
    answers: list[Script] = [answering(response[:count]) for count in range(len(response))]
    with peer(*opening, *answers) as port:
        for _ in (*opening, *answers):
            with pytest.raises(PeerFault) as caught:
                send(port, path)
            assert caught.value.cause == "closed"


def test_a_peer_that_answers_a_byte_at_a_time_has_no_more_time_than_others(path: Path) -> None:
    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        peers.read_message(connection, has_dataset=True)
        for byte in peers.data(3, peers.command()):
            connection.sendall(bytes((byte,)))
            time.sleep(0.05)

    with peer(script) as port:
        begun = time.monotonic()
        with pytest.raises(PeerFault, match="does not answer"):
            send(port, path, SILENT)
        assert time.monotonic() - begun < 60


def test_an_answer_in_two_halves_is_whole(path: Path) -> None:
    response = peers.data(3, peers.command()[:11], control=1) + peers.data(3, peers.command()[11:])
    for count in (1, 7, len(response) - 1):

        def script(connection: socket.socket, count: int = count) -> None:
            peers.accept(connection)
            peers.read_message(connection, has_dataset=True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in (response[:count], response[count:]):
                connection.sendall(part)
                time.sleep(0.02)
            wait_for_the_end(connection)

        with peer(script) as port:
            assert send(port, path).response.status == 0


@pytest.mark.parametrize("end", [pdu.abort(), b""], ids=["abort of ten bytes", "close"])
def test_an_end_is_told_by_a_peer_that_answered_in_halves_before(end: bytes, path: Path) -> None:
    told = threading.Event()

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in (1, 2):
            peers.read_message(connection, has_dataset=True)
            response = peers.data(3, peers.command(e0120=number))
            connection.sendall(response[:12])
            connection.sendall(response[12:])
        peers.read_message(connection, has_dataset=True)
        if end:
            connection.sendall(end)
            told.wait(120)  # The connection stays.

    with peer(script) as port, Instance(str(path)) as one:
        with Association(Peer("127.0.0.1", port, "CALLED"), [one.pair], AMPLE) as open_:
            for _ in range(2):
                assert open_.store(one).response.status == 0
            with pytest.raises(PeerFault) as caught:
                open_.store(one)
        told.set()
    assert caught.value.cause == ("aborted" if end else "closed")


def test_a_peer_that_reads_nothing_is_given_up(tmp_path: Path) -> None:
    big = write_instance(tmp_path / "big.dcm", pixels=3000)

    given_up = threading.Event()

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        given_up.wait(120)

    with peer(script) as port:
        with pytest.raises(PeerFault, match="does not take"):
            send(port, big, SILENT)
        given_up.set()


def test_what_is_said_while_it_is_sent_to_is_not_lost(tmp_path: Path) -> None:
    """An abort in the middle of a long instance is told as one, and not as a connection that broke."""
    big = write_instance(tmp_path / "big.dcm", pixels=3000)

    told = threading.Event()

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        connection.sendall(bytes((pdu.ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 6)))
        told.wait(120)

    with peer(script) as port:
        with pytest.raises(PeerFault) as caught:
            send(port, big, AMPLE)
        told.set()
    assert caught.value.cause == "aborted"


def test_a_peer_that_talks_instead_of_listening_is_left(tmp_path: Path) -> None:
    big = write_instance(tmp_path / "big.dcm", pixels=3000)

    def script(connection: socket.socket) -> None:
        peers.accept(connection)
        connection.sendall(100 * peers.data(3, bytes(10000), control=1))

    with peer(script) as port, pytest.raises(PeerFault):
        send(port, big, AMPLE)


@pytest.mark.fuzz
@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 90), st.booleans())
def test_noise_in_what_a_peer_says_is_never_more_than_its_fault(noise: bytes, where: int, opens: bool) -> None:
    whole = peers.accepting({1: IMPLICIT_LITTLE}) if opens else peers.data(1, peers.command(e0100=0x8030))
    words = whole[:where] + noise + whole[where + len(noise) :]

    def script(connection: socket.socket) -> None:
        if opens:
            peers.read_pdu(connection)
        else:
            peers.accept(connection)
            peers.read_message(connection, has_dataset=False)
        connection.sendall(words)

    with (
        peer(script) as port,
        suppress(PeerFault, NotAccepted),
        Association(Peer("127.0.0.1", port, "ANY"), [], SHORT) as open_,
    ):
        open_.echo()


def test_nobody_there_is_told_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(PeerFault) as caught:
            Association(Peer("127.0.0.1", unused.getsockname()[1], "ANY"), [])
    assert caught.value.cause == "refused"


@pytest.mark.parametrize("name", ["nobody.invalid", "no..body", "n" * 64])
def test_a_name_that_does_not_resolve_is_told(name: str) -> None:
    with pytest.raises(PeerFault) as caught:
        Association(Peer(name, 104, "ANY"), [])
    assert caught.value.cause == "unresolved"


def test_what_waits_can_be_interrupted(path: Path) -> None:
    with (
        peer(answering(then=5)) as port,
        Instance(str(path)) as one,
        Association(Peer("127.0.0.1", port, "ANY"), [one.pair]) as open_,
    ):
        timer = threading.Timer(0.1, open_.interrupt)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(PeerFault) as caught:
            open_.store(one)
        timer.join()
        assert caught.value.cause == "closed"
        assert time.monotonic() - begun < 60


def test_a_file_without_a_context_leaves_the_association_as_it_is(path: Path) -> None:
    def script(connection: socket.socket) -> None:
        peers.read_pdu(connection)
        connection.sendall(peers.accepting({1: IMPLICIT_LITTLE, 3: "", 5: ""}))
        peers.read_message(connection, has_dataset=False)
        connection.sendall(peers.data(1, peers.command(e0100=0x8030)))
        wait_for_the_end(connection)

    with (
        peer(script) as port,
        Instance(str(path)) as one,
        Association(Peer("127.0.0.1", port, "ANY"), [one.pair], SHORT) as open_,
    ):
        with pytest.raises(NotAccepted, match=EXPLICIT_LITTLE):
            open_.store(one)
        assert open_.echo().status == 0


def test_a_file_that_becomes_shorter_is_its_own_fault(tmp_path: Path) -> None:
    big = write_instance(tmp_path / "big.dcm", pixels=2000)
    with (
        peer(answering(then=1)) as port,
        Instance(str(big)) as one,
        Association(Peer("127.0.0.1", port, "ANY"), [one.pair], SHORT) as open_,
    ):
        with big.open("r+b") as file:
            file.truncate(3_000_000)
        with pytest.raises(Unsendable, match="shorter"):
            open_.store(one)
        assert not open_.is_open


@pytest.mark.slow
def test_an_instance_of_a_gigabyte_needs_little_memory(tmp_path: Path) -> None:
    """A sparse file; what it needs is what a process of its own has at most."""
    big = tmp_path / "big.dcm"
    size = 2**30
    pixels = element(0x7FE00010, "OW", b"", length=size)
    big.write_bytes(part10(UIDS + pixels))
    os.truncate(big, big.stat().st_size + size)
    received: list[int] = []

    def script(connection: socket.socket) -> None:
        peers.accept(connection, 0)
        count, space = 0, bytearray(2**20)
        while count < size:
            count += connection.recv_into(space)
        received.append(count)
        connection.sendall(peers.data(3, peers.command()))
        wait_for_the_end(connection)

    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom tests.network.test_association import Patience, send\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert send(int(sys.argv[1]), Path(sys.argv[2]), Patience()).response.status == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    with peer(script) as port:
        command = [sys.executable, "-c", code, str(port), str(big)]
        done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    assert received
    assert int(done.stdout) < 16 * 1024, "KiB more than before"


def test_causes_are_a_closed_set() -> None:
    sources = "".join(path.read_text() for path in Path(network.__file__).parent.glob("*.py"))
    named = set(re.findall(r'PeerFault\(\s*"([a-z]+)"', sources)) | {"title", "rejected", "tls"}
    assert named == set(PEER_CAUSES)


# ---- real ones ----


@contextmanager
def judge(longest: int) -> Iterator[tuple[int, list[tuple[str, str, bytes]]]]:
    """A pynetdicom receiver: its port, and what it got: SOP instance UID, transfer syntax, bytes of the data set."""
    got: list[tuple[str, str, bytes]] = []

    def store(event: Any) -> int:
        command = event.request
        got.append((command.AffectedSOPInstanceUID, event.context.transfer_syntax, command.DataSet.getvalue()))
        return 0

    entity = AE(ae_title="JUDGE")
    entity.maximum_pdu_size = longest
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(dimse.VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server
    try:
        yield int(server.socket.getsockname()[1]), got  # type: ignore[union-attr]
    finally:
        server.shutdown()


@pytest.mark.parametrize("longest", [4096, 16384, 131072, 0])
def test_an_independent_library_gets_the_same_bytes_whatever_they_are(longest: int, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.dcm", n, dataset) for n, dataset in enumerate(kinds().values())]
    with judge(longest) as (port, got):
        instances = [Instance(str(path)) for path in paths]
        with Association(Peer("127.0.0.1", port, "JUDGE"), [one.pair for one in instances]) as open_:
            assert open_.echo().status == 0
            stored = [open_.store(one) for one in instances]
    assert {one.response.status for one in stored} == {0}
    assert not any(one.is_reencoded for one in stored)
    for one, path, (sop, syntax, content) in zip(instances, paths, got, strict=True):
        assert (sop, syntax) == (one.SOPInstanceUID, one.pair.TransferSyntaxUID)
        assert content == dataset_of(path)
        one.close()
    assert len(got) == len(paths)


def by_uid(receiver: Receiver) -> dict[str, Path]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in receiver.incoming.iterdir()}


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize("longest", ["4096", "16384", "131072"])
def test_storescp_stores_every_kind_as_it_is(longest: str, tmp_path: Path) -> None:
    """+B: bit preserving."""
    paths = [written(tmp_path / f"{n}.dcm", n, dataset) for n, dataset in enumerate(kinds().values())]
    with storescp(tmp_path / "in", "+B", "+uf", "+xa", "-pm", "-pdu", longest) as receiver:
        instances = [Instance(str(path)) for path in paths]
        with Association(Peer("127.0.0.1", receiver.port, "ANY"), [one.pair for one in instances]) as open_:
            assert [open_.store(one).response.status for one in instances] == [0] * len(instances)
        stored = by_uid(receiver)
        for one, path in zip(instances, paths, strict=True):
            with Instance(str(stored[one.SOPInstanceUID])) as there:
                assert there.pair == one.pair
            assert dataset_of(stored[one.SOPInstanceUID]) == dataset_of(path)
            one.close()


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_a_receiver_of_implicit_only_gets_the_same_values(tmp_path: Path) -> None:
    paths = {name: written(tmp_path / f"{n}.dcm", n, dataset) for n, (name, dataset) in enumerate(kinds().items())}
    plain = [name for name in KINDS if not name.startswith(("JPEG", "RLE", "video"))]
    with storescp(tmp_path / "in", "+uf", "+xi", "-pm") as receiver:
        for name, path in paths.items():
            if name in plain:
                done = send(receiver.port, path, Patience())
                assert done.response.status == 0
                assert done.is_reencoded == (name not in ("implicit", "RTSTRUCT"))
            else:
                with pytest.raises(NotAccepted):
                    send(receiver.port, path, Patience())
        stored = by_uid(receiver)
        assert len(stored) == len(plain)
        for name in plain:
            was = dcmread(paths[name])
            now = dcmread(stored[str(was.SOPInstanceUID)])
            assert now.file_meta.TransferSyntaxUID == IMPLICIT_LITTLE
            if name == "big endian":
                was.PixelData = b"".join(was.PixelData[i : i + 2][::-1] for i in range(0, len(was.PixelData), 2))
            assert now == was


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize(
    ("option", "cause"), [("--refuse", "rejected"), ("--abort-during", "aborted"), ("--abort-after", "aborted")]
)
def test_faults_that_storescp_makes_itself_are_told(option: str, cause: str, path: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "in", "+uf", "+xa", option) as receiver, pytest.raises(PeerFault) as caught:
        send(receiver.port, path, Patience())
    assert caught.value.cause == cause


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_a_receiver_whose_folder_is_gone_is_full(path: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "in", "+uf", "+xa") as receiver:
        receiver.incoming.rmdir()
        assert send(receiver.port, path, Patience()).response.status == 0xA700
        receiver.incoming.mkdir()


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_a_hundred_instances_do_not_wait_for_nagle(tmp_path: Path) -> None:
    """A receiver that leaves Nagle on answers in two halves; without quick acknowledgements each costs 40 ms."""
    paths = [write_instance(tmp_path / f"{n}.dcm", number=n, pixels=64) for n in range(1, 101)]
    with storescp(tmp_path / "in", "+uf", "+xa", "-pm", nodelay=False) as receiver:
        with Instance(str(paths[0])) as first:
            pair = first.pair
        with Association(Peer("127.0.0.1", receiver.port, "ANY"), [pair]) as open_:
            took = []
            for path in paths:
                with Instance(str(path)) as one:
                    begun = time.monotonic()
                    assert open_.store(one).response.status == 0
                    took.append(time.monotonic() - begun)
    # The quicker ones: the others may have waited for a busy machine.
    assert sorted(took)[20] < 0.04 * 0.7, took


def certificates(folder: Path) -> None:
    """A certificate for localhost, one for another name, one that has expired; each signed by itself."""
    for name, subject, days in (
        ("right", "localhost", "2"),
        ("other", "elsewhere", "2"),
        ("expired", "localhost", "-1"),
    ):
        key, request, certificate = (f"{folder}/{name}.{kind}" for kind in ("key", "csr", "pem"))
        about = ("-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}")
        signing = ("-signkey", key, "-days", days, "-copy_extensions", "copy")
        for command in (
            ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, *about],
            ["openssl", "x509", "-req", "-in", request, "-out", certificate, *signing],
        ):
            subprocess.run(command, check=True, capture_output=True)


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_tls_with_a_right_a_foreign_a_wrong_and_an_expired_certificate(path: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificates(tmp_path)
    big = write_instance(tmp_path / "big.dcm", pixels=1500)

    def sent(shown: str, trusted: str, path: Path) -> int:
        options = ("+tls", f"{tmp_path}/{shown}.key", f"{tmp_path}/{shown}.pem", "-ic", "+uf", "+xa")
        context = tls_context(f"{tmp_path}/{trusted}.pem")
        with storescp(tmp_path / shown, *options) as receiver, Instance(str(path)) as one:
            peer_ = Peer("localhost", receiver.port, "ANY", tls=context)
            with Association(peer_, [one.pair], Patience()) as open_:
                return open_.store(one).response.status

    assert sent("right", "right", path) == 0
    assert sent("right", "right", big) == 0
    for shown, trusted, told in (
        ("right", "other", "certificate"),
        ("other", "other", "mismatch"),
        ("expired", "expired", "expired"),
    ):
        with pytest.raises(PeerFault, match=told) as caught:
            sent(shown, trusted, path)
        assert caught.value.cause == "tls"


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_tls_to_a_receiver_that_has_none_is_told(path: Path, tmp_path: Path) -> None:
    context = tls_context()
    with storescp(tmp_path / "in", "+uf", "+xa") as receiver, pytest.raises(PeerFault):
        send(receiver.port, path, SHORT, tls=context)
