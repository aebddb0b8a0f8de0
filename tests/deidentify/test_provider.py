"""Who gives pseudonyms: tables, a real web server, real programs; and what goes wrong with them."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.deidentify.faults import ProviderFailed
from listener.deidentify.provider import (
    MOST_PATIENTS,
    Address,
    Answer,
    Program,
    Request,
    Table,
    answers_in,
    rows_of,
)
from listener.deidentify.units import by_patients
from listener.deidentify.work import Identity
from listener.errors import ConfigError
from tests.deidentify import planting
from tests.deidentify.collection import Collection, batch

PATIENT = Request(planting.PLANT, "", "A1")

Reply = Callable[[list[dict[str, Any]]], tuple[int, bytes]]


class Broker:
    """A web server that answers as `reply` says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []
        self.tokens: list[str] = []
        self.reply: Reply = self.honest
        self.hangs = threading.Event()
        self.hangs.set()
        broker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                broker.asked.append(asked)
                broker.tokens.append(self.headers.get("Authorization", ""))
                broker.hangs.wait(30)
                status, text = broker.reply(asked)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/broker"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    @staticmethod
    def honest(asked: list[dict[str, Any]]) -> tuple[int, bytes]:
        for entry in asked:
            numbers = entry["AccessionNumbers"]
            entry |= {"pseudonym": f"STUDY-{len(entry['PatientID'])}", "shift_days": 7, "vars": {"site": "two"}}
            entry["accessions"] = {number: f"N{len(number)}" for number in numbers}
        return 200, json.dumps(asked).encode()


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.hangs.set()
    made.server.shutdown()
    made.server.server_close()


def test_a_web_address_answers(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    answer = Address(broker.url, str(tmp_path / "token"), 30).ask([PATIENT])[0]
    assert answer == Answer("STUDY-11", 7, "N2", (("site", "two"),))
    assert broker.asked[0][0]["AccessionNumbers"] == [] or broker.asked[0][0]["PatientID"] == planting.PLANT
    assert broker.tokens == ["Bearer secret"]


@pytest.mark.parametrize(
    "reply",
    [
        lambda _: (500, b"Plantagenet"),
        lambda _: (302, b""),
        lambda _: (200, b"not JSON Plantagenet"),
        lambda _: (200, b"{}"),
        lambda _: (200, b"[1]"),
        lambda _: (200, b"[" * 100_000),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "a", "vars": {"x": "\ud800"}}]).encode()),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "a^b"}]).encode()),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": 7}]).encode()),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "a", "shift_days": "x"}]).encode()),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "a", "accessions": {"A1": "b\\c"}}]).encode()),
        lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "a"}, {**asked[0], "pseudonym": "b"}]).encode()),
    ],
)
def test_what_makes_no_sense_fails_and_names_nobody(broker: Broker, reply: Reply) -> None:
    broker.reply = reply
    with pytest.raises(ProviderFailed) as failed:
        Address(broker.url, "", 30).ask([PATIENT])[0]
    assert planting.found_in(str(failed.value).encode()) == []


def test_a_token_that_no_header_can_hold_fails(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\r\ntwo")
    with pytest.raises(ProviderFailed):
        Address(broker.url, str(tmp_path / "token"), 30).ask([PATIENT])


def test_one_that_hangs_fails_in_time(broker: Broker) -> None:
    broker.hangs.clear()
    with pytest.raises(ProviderFailed):
        Address(broker.url, "", 0.2).ask([PATIENT])[0]


def test_one_that_is_not_there_fails() -> None:
    with pytest.raises(ProviderFailed):
        Address("http://127.0.0.1:1/", "", 5).ask([PATIENT])[0]


def test_who_is_not_known_has_no_pseudonym(broker: Broker) -> None:
    broker.reply = lambda _: (200, b"[]")
    assert Address(broker.url, "", 30).ask([PATIENT])[0] is None
    broker.reply = lambda asked: (200, json.dumps([{**asked[0], "pseudonym": None}]).encode())
    assert Address(broker.url, "", 30).ask([PATIENT])[0] is None


def test_a_program_answers(tmp_path: Path) -> None:
    script = tmp_path / "broker.py"
    script.write_text(
        "import json, sys\nasked = json.load(sys.stdin)\nprint(json.dumps([{**asked[0], 'pseudonym': 'S1'}]))\n"
    )
    assert Program(f"{sys.executable} {script}", 30).ask([PATIENT])[0] == Answer("S1")


@pytest.mark.parametrize("command", ["/none/there", "false", "sh -c 'sleep 60'", "echo Plantagenet"])
def test_a_program_that_does_not_answer_fails(command: str) -> None:
    with pytest.raises(ProviderFailed) as failed:
        Program(command, 0.3).ask([PATIENT])[0]
    assert planting.found_in(str(failed.value).encode()) == []


def test_a_table_answers_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeffPatientID,pseudonym,shift_days,arm\r\n1,S1,12,left\r\n".encode())
    table = Table(str(path))
    assert table.ask([Request("1")])[0] == Answer("S1", 12, "", (("arm", "left"),))
    assert table.ask([Request("2")])[0] is None
    path.write_text("PatientID,pseudonym\n1,S1\n2,S2\n")
    assert table.ask([Request("2")])[0] == Answer("S2")
    path.write_text("PatientID,pseudonym\n1,S1\n2,S1\n")
    with pytest.raises(ProviderFailed, match="line 3"):
        table.ask([Request("2")])[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs one column"),
        ("PatientID\n1\n", "needs one column"),
        ("PatientID,pseudonym,pseudonym\n1,a,b\n", "no name twice"),
        ("PatientID,pseudonym\n1\n", "line 2"),
        ("PatientID,pseudonym\n1,a,b\n", "line 2"),
        ("PatientID,pseudonym\n,a\n", "line 2"),
        ("PatientID,pseudonym\n1,\n", "line 2"),
        ("PatientID,pseudonym\n1,a^b\n", "line 2"),
        ("PatientID,pseudonym\n1,a\n1,b\n", "line 3"),
        ("PatientID,pseudonym,shift_days\n1,a,soon\n", "line 2"),
        ("PatientID,pseudonym,shift_days\n1,a,99999\n", "line 2"),
        ("PatientID,pseudonym,my column\n1,a,b\n", "line 2"),
        ('PatientID,pseudonym\n"1,a\n', "no CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        Table(str(path))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_an_answer_or_refused(data: bytes) -> None:
    for read in (rows_of, lambda data: answers_in(data, [PATIENT])):
        with contextlib.suppress(ProviderFailed):
            read(data)


# -- in the stage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def _clean(collection: Collection, *options: str) -> int:
    return collection.deidentify("once", *options)


def test_pseudonyms_shifts_and_accession_numbers_are_the_providers(collection: Collection, broker: Broker) -> None:
    collection.add(0, 1, 2, AccessionNumber="A1")
    collection.end()
    assert _clean(collection, "--identifiers", broker.url, "--option", "retain-modified-dates") == 0
    for made in collection.datasets():
        assert (made.PatientID, made.PatientName, made.AccessionNumber) == ("STUDY-11", "STUDY-11", "N2")
        assert made.StudyDate == "19471027"
    assert len(broker.asked) == 1
    assert broker.asked[0][0]["AccessionNumbers"] == ["A1"]
    collection.add(1, 1, AccessionNumber="A1")
    collection.end()
    broker.server.shutdown()  # What it said is in the vault.
    assert _clean(collection, "--identifiers", broker.url) == 0


def test_all_patients_of_a_batch_are_asked_for_at_once(collection: Collection, broker: Broker) -> None:
    for number in range(4):
        identity = {"PatientID": f"{number}" * (number + 2), "StudyInstanceUID": f"1.2.3.{number}"}
        collection.add(number, 1, AccessionNumber="A" * (number + 1), **identity)
    collection.add(4, 1, PatientID="00", StudyInstanceUID="1.2.3.0", AccessionNumber="AAAAAA")
    batch(collection, 0, 1, 2, 3, 4)
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 0
    assert len({one.PatientID for one in collection.datasets()}) == 4
    (asked,) = broker.asked
    assert sorted((one["PatientID"], one["AccessionNumbers"]) for one in asked) == [
        ("00", ["A", "AAAAAA"]),
        ("111", ["AA"]),
        ("2222", ["AAA"]),
        ("33333", ["AAAA"]),
    ]


def test_so_many_patients_are_asked_for_at_once_at_most() -> None:
    names = [f"{number // 2}" for number in range(2 * MOST_PATIENTS + 3)]
    parts = list(by_patients([Identity("1.2", name, "", f"A{place}", True) for place, name in enumerate(names)], 1000))
    assert [len({one.PatientID for one in part}) for part in parts] == [1000, 2]
    assert sum(map(len, parts)) == len(names)


def test_while_it_fails_nothing_passes(
    collection: Collection, broker: Broker, capfd: pytest.CaptureFixture[str]
) -> None:
    collection.add(0, 1)
    collection.end()
    broker.reply = lambda _: (500, b"Plantagenet")
    assert _clean(collection, "--identifiers", broker.url) == 1
    assert collection.handed() == []
    assert (collection.consumer().pending, collection.consumer().failed) == (1, 0)
    told = capfd.readouterr()
    assert "status 500" in told.err
    assert planting.found_in((told.out + told.err).encode()) == []


@pytest.mark.parametrize(
    ("rows", "detail"),
    [
        ("somebody,S1\n", "has none"),
        (f"{planting.PLANT},{planting.PLANT.lower()}\n", "an original as a pseudonym"),
    ],
)
def test_who_has_no_pseudonym_is_held(
    collection: Collection, tmp_path: Path, rows: str, detail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("PatientID,pseudonym\n" + rows)
    collection.add(0, 1)
    collection.end()
    assert _clean(collection, "--identifiers", str(table)) == 1
    assert collection.handed() == []
    capsys.readouterr()
    collection.deidentify("held", "--json")
    row = json.loads(capsys.readouterr().out)
    assert row["reason"] == "no-identifier"
    assert detail in row["detail"]
    table.write_text(f"PatientID,pseudonym\n{planting.PLANT},S1\n")
    assert collection.deidentify("held", "--release", collection.uid(0)) == 0
    assert _clean(collection, "--identifiers", str(table)) == 0
    (made,) = collection.datasets()
    assert made.PatientID == "S1"
    assert [code.CodeValue for code in made.DeidentificationMethodCodeSequence] == ["113100"]


def test_a_provider_that_contradicts_itself_is_not_believed(collection: Collection, broker: Broker) -> None:
    collection.add(0, 1, AccessionNumber="A1")
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 0
    broker.reply = lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "OTHER"}]).encode())
    collection.add(1, 1, AccessionNumber="A2")
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 1
    broker.reply = lambda asked: (200, json.dumps([{**asked[0], "pseudonym": "STUDY-11"}]).encode())
    collection.add(2, 1, PatientID="somebody else", StudyInstanceUID="1.2.3.4")
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 1
    assert len(collection.files()) == 1


def test_the_patient_id_of_another_one_is_no_pseudonym(collection: Collection, broker: Broker) -> None:
    collection.add(0, 1)
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 0
    broker.reply = lambda asked: (200, json.dumps([{**asked[0], "pseudonym": planting.PLANT.lower()}]).encode())
    collection.add(1, 1, PatientID="somebody else", StudyInstanceUID="1.2.3.4")
    collection.end()
    assert _clean(collection, "--identifiers", broker.url) == 1
    assert len(collection.files()) == 1
