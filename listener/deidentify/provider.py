"""Who gives pseudonyms: a table (CSV), a web address, or a program. Asked for all patients of a unit at once; what it
says is kept in the vault. Nothing that goes wrong here names a patient.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from threading import Timer
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import listener
from listener.deidentify.faults import ProviderFailed
from listener.errors import ConfigError

#: Bytes of an answer at most, and the most days that dates may go back.
_MOST, _MOST_DAYS = 4 * 1024 * 1024, 36500

#: What can stand in PatientID, PatientName and AccessionNumber, in every character set: ASCII without the delimiters of
#: values and of the parts of names (PS3.5 section 6.2).
_PSEUDONYM = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9 ._+-]{0,63}")
_ACCESSION = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9 ._+-]{0,15}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


#: Patients that are asked for at once at most.
MOST_PATIENTS = 1000


class Request(NamedTuple):
    """A patient, as the data sets name them, and the accession number at hand ("": none)."""

    PatientID: str
    IssuerOfPatientID: str = ""
    AccessionNumber: str = ""


def sent(requests: Sequence[Request]) -> bytes:
    """Return requests as they are sent: an object for each patient, with all of their accession numbers."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for request in requests:
        numbers.setdefault(request[:2], []).extend([request.AccessionNumber] if request.AccessionNumber else [])
    return json.dumps(
        [
            {"PatientID": patient, "IssuerOfPatientID": issuer, "AccessionNumbers": sorted(set(several))}
            for (patient, issuer), several in numbers.items()
        ]
    ).encode()


class Answer(NamedTuple):
    """The pseudonym of a patient; by how many days dates go back (0: derived from the key); what stands for the
    accession number ("": derived); and further values by name.
    """

    pseudonym: str
    days: int = 0
    accession: str = ""
    values: tuple[tuple[str, str], ...] = ()


class Provider(Protocol):
    """Gives pseudonyms."""

    def ask(self, requests: Sequence[Request]) -> list[Answer | None]:
        """Return the answer to each request, None if the patient has no pseudonym. `requests` name at most
        MOST_PATIENTS. Raises ProviderFailed.
        """


def answer_of(entry: Mapping[str, Any], request: Request) -> Answer | None:
    """Return what an entry says of a patient. Raises ProviderFailed for what makes no sense."""
    pseudonym = entry.get("pseudonym")
    if pseudonym in (None, ""):
        return None
    if not isinstance(pseudonym, str) or not _PSEUDONYM.fullmatch(pseudonym):
        raise ProviderFailed("a pseudonym is not 1 to 64 of the characters A-Z a-z 0-9 . _ + - and blank")
    days = entry.get("shift_days") or 0
    if not isinstance(days, int) or isinstance(days, bool) or not 0 <= days <= _MOST_DAYS:
        raise ProviderFailed(f"shift_days is no whole number from 1 to {_MOST_DAYS}")
    accessions, values = entry.get("accessions") or {}, entry.get("vars") or {}
    if not isinstance(accessions, dict) or not isinstance(values, dict):
        raise ProviderFailed("accessions or vars is no object")
    accession = accessions.get(request.AccessionNumber, "") if request.AccessionNumber else ""
    if accession and not (isinstance(accession, str) and _ACCESSION.fullmatch(accession)):
        raise ProviderFailed("what stands for an accession number is not 1 to 16 plain characters")
    # What cannot be printed (half a surrogate pair, say) can be written nowhere.
    if not all(
        _NAME.fullmatch(name) and isinstance(value, str | int | float) and str(value).isprintable()
        for name, value in values.items()
    ):
        raise ProviderFailed("a value of vars is no text or number")
    return Answer(pseudonym, days, accession, tuple(sorted((name, str(value)) for name, value in values.items())))


def answers_in(text: bytes, requests: Sequence[Request]) -> list[Answer | None]:
    """Return what a list of entries (JSON) says to each request, None if nothing. Raises ProviderFailed."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise ProviderFailed("the answer is no JSON") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProviderFailed("the answer is no list of objects")
    by_patient: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        patient = entry.get("PatientID")
        if isinstance(patient, str):
            by_patient.setdefault(patient, []).append(entry)
    return [_answer_among(by_patient.get(request.PatientID, ()), request) for request in requests]


def _answer_among(entries: Sequence[Mapping[str, Any]], request: Request) -> Answer | None:
    found = {
        answer_of(entry, request)
        for entry in entries
        if entry.get("IssuerOfPatientID", request.IssuerOfPatientID) == request.IssuerOfPatientID
    } - {None}
    if len(found) > 1:
        raise ProviderFailed("two answers for one patient")
    return found.pop() if found else None


class Table:
    """A CSV file: PatientID, pseudonym, and perhaps shift_days; each further column is a value. It is read again when
    it has changed. Raises ConfigError for one that cannot be used at the start.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._rows: Mapping[str, Answer] = {}
        try:
            self._read()
        except ProviderFailed as failure:
            raise ConfigError([f"--identifiers: {failure}"]) from None

    def ask(self, requests: Sequence[Request]) -> list[Answer | None]:
        """See Provider."""
        self._read()
        return [self._rows.get(request.PatientID) for request in requests]

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_mtime_ns, status.st_size)
                if stamp != self._stamp:
                    self._rows = rows_of(file.read())
                    self._stamp = stamp
        except OSError as error:
            raise ProviderFailed(f"the table cannot be read: {error.strerror}") from None


def rows_of(data: bytes) -> dict[str, Answer]:
    """Return the rows of a CSV table by PatientID. Raises ProviderFailed with the number of a line that cannot be."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProviderFailed(f"the table is no CSV in UTF-8 ({type(error).__name__})") from None
    if not {"PatientID", "pseudonym"} <= set(names) or len(set(names)) != len(names):
        raise ProviderFailed("the table needs one column PatientID and one pseudonym, and no name twice")
    reader.fieldnames = names
    found: dict[str, Answer] = {}
    taken: dict[str, str] = {}
    try:
        for row in reader:
            _add_row(found, taken, row, reader.line_num)
    except csv.Error:
        raise ProviderFailed(f"line {reader.line_num} of the table is no CSV") from None
    return found


def _add_row(found: dict[str, Answer], taken: dict[str, str], row: Mapping[Any, Any], line: int) -> None:
    where = f"line {line} of the table"
    if None in row or None in row.values():
        raise ProviderFailed(f"{where} has more or fewer values than its head")
    patient, text = row["PatientID"].strip(), row.get("shift_days", "").strip()
    if text and not text.isdecimal():
        raise ProviderFailed(f"{where}: shift_days is no number")
    values = {name: value.strip() for name, value in row.items() if name not in _COLUMNS and value.strip()}
    entry = {"pseudonym": row["pseudonym"].strip(), "shift_days": int(text or 0), "vars": values}
    try:
        answer = answer_of(entry, Request(patient))
    except ProviderFailed as failure:
        raise ProviderFailed(f"{where}: {failure.detail}") from None
    if not patient or answer is None:
        raise ProviderFailed(f"{where} has no PatientID or no pseudonym")
    if patient in found or taken.setdefault(answer.pseudonym, patient) != patient:
        raise ProviderFailed(f"{where} names a patient or a pseudonym for the second time")
    found[patient] = answer


_COLUMNS = ("PatientID", "pseudonym", "shift_days")


class Address:
    """A web address, which gets a POST. `token_file` holds a bearer token; `seconds` is for all of a request."""

    def __init__(self, url: str, token_file: str, seconds: float) -> None:
        self._url, self._token_file, self._seconds = urlsplit(url), token_file, seconds

    def ask(self, requests: Sequence[Request]) -> list[Answer | None]:
        """See Provider."""
        head = {"Content-Type": "application/json", "Accept": "application/json"}
        head["User-Agent"] = f"listener/{listener.__version__}"
        if self._token_file:
            head["Authorization"] = f"Bearer {self._token()}"
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        body = sent(requests)
        try:
            with self._connected() as connection:
                connection.request("POST", target, body, head)
                with connection.getresponse() as answer:
                    status, text = answer.status, answer.read(_MOST + 1)
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # ValueError: a token that no header can hold.
            raise ProviderFailed(f"it does not answer: {type(error).__name__}") from None
        if status != 200 or len(text) > _MOST:
            raise ProviderFailed(f"it answered with status {status}" if status != 200 else "its answer is too long")
        return answers_in(text, requests)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        """Connect, and cut the connection when time is up, whatever it does then."""
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=self._seconds, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._seconds)
        connection.connect()
        cut = Timer(self._seconds, _cut, [connection])
        cut.daemon = True
        cut.start()
        try:
            yield connection
        finally:
            cut.cancel()
            connection.close()

    def _token(self) -> str:
        try:
            with open(self._token_file, encoding="utf-8") as file:
                return file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ProviderFailed(f"its token cannot be read: {type(error).__name__}") from None


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError):
        if connection.sock:
            connection.sock.shutdown(2)


class Program:
    """A program, which gets the request on standard input and answers on standard output."""

    def __init__(self, command: str, seconds: float) -> None:
        self._words: Sequence[str] = shlex.split(command)
        self._seconds = seconds

    def ask(self, requests: Sequence[Request]) -> list[Answer | None]:
        """See Provider."""
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderFailed(f"the program cannot be started: {error.strerror}") from None
        with process:
            try:
                text, _ = process.communicate(sent(requests), self._seconds)
            except subprocess.TimeoutExpired:
                raise ProviderFailed("the program does not end") from None
            finally:
                # Whatever it started, too.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise ProviderFailed(f"the program ended with status {process.returncode}")
        if len(text) > _MOST:
            raise ProviderFailed("its answer is too long")
        return answers_in(text, requests)


def provider_of(where: str, command: str, token_file: str, seconds: float) -> Provider | None:
    """Return the provider that the options name, None where none is. Raises ConfigError."""
    if command:
        return Program(command, seconds)
    if where.startswith(("http://", "https://")):
        return Address(where, token_file, seconds)
    return Table(where) if where else None
