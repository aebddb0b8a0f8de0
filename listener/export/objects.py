"""An object store as the target of an export: S3 and what is compatible, Google Storage, Azure; by obstore (extra
`export`), which is imported here alone.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from listener.errors import ConfigError
from listener.export import credentials
from listener.export.address import Address
from listener.export.busy import asked_pause
from listener.export.faults import Busy, NotThere, TargetFault, TargetRefuses
from listener.export.flow import Budget
from listener.export.target import PROBE, Content, Found, Pace, Piece
from listener.ledger.delivery_retry import NOT_NOW

#: Name of the metadata that hold the SHA-256 of an object's content.
DIGEST = "sha256"

#: Bytes that are read back at a time.
_PIECE = 4 * 2**20

#: Parts of one large object that are under way at once, at most; one more is being filled. More would let fewer
#: objects go at once within the same memory.
_PARTS = 2

#: Parts of one object, as S3 and Google Storage allow them.
_MOST_PARTS = 10_000

#: Objects of one page of a listing, as stores give them.
_PAGE = 1000

#: What is sent or read in one piece is held here and, for a moment, in obstore.
_TWICE = 2

#: How long the signature holds by which a busy store is asked how long it is.
_SIGNED = timedelta(minutes=1)

#: Seconds in which a request must be answered, its body included: 3 MB at 10 kB/s.
_TIMEOUT = timedelta(seconds=300)

#: Codes of stores for what passes by itself, though its status says that it was refused. NoSuchUpload: the end of an
#: upload in parts was told twice, since the store took long to answer; the next attempt finds what it made.
_PASSING = frozenset(
    (
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "SlowDown",
        "RequestTimeout",
        "NoSuchUpload",
    )
)

_REMEDIES = {
    401: "the store does not take the credentials: see that they are there and valid",
    403: "the store refuses: see the bucket's policy and the credentials",
    404: "there is no such bucket: make it, or mend --to",
    400: "the store does not understand: see --endpoint, region and credentials",
}


class ObjectTarget:
    """See Target. `part` is the size of the parts of large objects in bytes, `memory` how many bytes may be on their
    way at once.
    """

    is_conditional = True

    def __init__(self, address: Address, endpoint: str, part: int, memory: int) -> None:
        try:
            import obstore
        except ImportError:
            text = f"--to {address.scheme}://: needs the extra export: pip install 'dicom-listener[export]'"
            raise ConfigError([text]) from None
        self._store = _store(address, endpoint)
        self._obstore: Any = obstore
        self._part = part
        self._budget = Budget(max(memory, part * (_PARTS + 1)))
        self.shown = address.shown
        self.prefix = f"{address.path}/" if address.path else ""

    def probe(self) -> None:
        """Create an object that may be there already, and see whether it is refused the second time."""
        data = b"listener export: may this object be replaced?\n"
        with self._faults():
            self.is_conditional = not (self._created(PROBE, data, {}) and self._created(PROBE, data, {}))

    def _created(self, key: str, data: bytes | bytearray, attributes: dict[str, str]) -> Found | None:
        more = {"mode": "create", "use_multipart": False, "attributes": attributes or None}
        try:
            return _found(len(data), self._obstore.put(self._store, key, data, **more))
        except (self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError):
            return None

    def look(self, key: str) -> Found | None:
        """Return what is there, with the SHA-256 that its metadata tell."""
        with self._faults():
            try:
                found = self._obstore.get(self._store, key, options={"head": True})
            except FileNotFoundError:
                return None
            return _found(found.meta["size"], found.meta, found.attributes.get(DIGEST, ""))

    def look_at(self, keys: Sequence[str]) -> Mapping[str, Found]:
        """Return what a listing shows of keys of one folder, from the first of them on."""
        wanted, first = set(keys), min(keys)
        with self._faults():
            listed = self._obstore.list(
                self._store, first.rpartition("/")[0] or None, offset=first[:-1], chunk_size=_PAGE
            )
            # In a folder where much else lies among them, looking at each may be cheaper.
            pages = itertools.islice(listed, len(wanted) // _PAGE + 2)
            every = itertools.chain.from_iterable(pages)
            return {one["path"]: _found(one["size"], one) for one in every if one["path"] in wanted}

    def create(self, content: Content, pace: Pace) -> Found | None:
        """Write an object in one request that only creates, or in parts after a look. A kill within parts leaves them
        unseen in the store, whose own rule removes them; the object is not there.
        """
        if (content.size > self._part or not self.is_conditional) and self.look(content.key):
            return None
        attributes = {DIGEST: content.sha256}
        if content.size <= self._part:
            with self._budget.held(_TWICE * content.size):
                data = _joined(content)
                pace(len(data))
                with self._faults():
                    return self._created(content.key, data, attributes)
        part = part_of(content.size, self._part)
        with self._budget.held(2 * part, (_PARTS + 1) * part) as memory, self._faults():
            told = self._obstore.put(
                self._store,
                content.key,
                _parts(content, pace, part),
                attributes=attributes,
                use_multipart=True,
                chunk_size=part,
                max_concurrency=max(1, memory // part - 1),
            )
            return _found(content.size, told)

    def read(self, key: str, size: int = _PIECE) -> Iterator[Piece]:
        """Yield the bytes of an object, piece by piece; `size`: as far as it is known."""
        with self._budget.held(_TWICE * min(size, _PIECE)), self._faults():
            try:
                if 0 < size < _PIECE:  # A byte more is asked for, which tells whether there is one.
                    yield self._range(key, 0, size + 1)
                    return
                first = self._obstore.get(self._store, key, options={"range": (0, _PIECE)})
                size = first.meta["size"]
                yield memoryview(first.bytes())
                for begin in range(_PIECE, size, _PIECE):
                    yield self._range(key, begin, min(_PIECE, size - begin))
            except FileNotFoundError:
                raise NotThere from None

    def _range(self, key: str, begin: int, length: int) -> memoryview:
        """Return some bytes: a buffer, not copied, since what is read back is only hashed."""
        return memoryview(self._obstore.get_range(self._store, key, start=begin, length=length))

    def listed(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield key and size of all objects in a folder."""
        with self._faults():
            for page in self._obstore.list(self._store, folder or None, chunk_size=_PAGE):
                for one in page:
                    if not one["path"].startswith(".listener/"):
                        yield one["path"], one["size"]

    def close(self) -> None:
        """Connections end with the object."""

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Tell what obstore raises as TargetFault, with the pause that a store asks for that is too busy."""
        try:
            with _faults():
                yield
        except Busy as fault:
            seconds = self._asked_pause()
            asked = f", and asks for {seconds:.0f} s" if seconds else ""
            raise TargetFault(f"{fault.detail}{asked}", seconds) from None

    def _asked_pause(self) -> float:
        try:
            return asked_pause(self._obstore.sign(self._store, "HEAD", PROBE, _SIGNED))
        except self._obstore.exceptions.BaseError:  # It cannot sign: by a token alone, for instance.
            return 0.0


def _found(size: int, told: Mapping[str, Any], sha256: str = "") -> Found:
    """Return what a store tells of an object: some put its tag in quotes in some answers, and not in others."""
    return Found(size, sha256, (told.get("e_tag") or "").strip('"'))


def part_of(size: int, least: int) -> int:
    """Return the size of the parts of an object: `least`, or more where those would be too many for a store."""
    return max(least, -(-size // _MOST_PARTS))


def _joined(content: Content) -> bytes | bytearray:
    """Return the bytes of a small object, which are in memory once."""
    chunks = content.chunks()
    first = next(chunks, b"")
    if len(first) == content.size:
        return first
    data = bytearray(content.size)
    view, end = memoryview(data), 0
    for chunk in itertools.chain((first,), chunks):
        view[end : end + len(chunk)] = chunk
        end += len(chunk)
    return data


def _parts(content: Content, pace: Pace, size: int) -> Iterator[bytearray]:
    """Yield the bytes of a large object in its parts, each in one block: small pieces would be freed by obstore's
    threads, whose heaps keep them (see listener.export.heap).
    """
    part, end = bytearray(size), 0
    for chunk in content.chunks():
        pace(len(chunk))
        rest = memoryview(chunk)
        while rest:
            if end == size:
                yield part
                part, end = bytearray(size), 0
            taken = min(len(rest), size - end)
            part[end : end + taken] = rest[:taken]
            rest, end = rest[taken:], end + taken
    del part[end:]
    yield part


def _store(address: Address, endpoint: str) -> Any:
    from obstore.store import AzureStore, GCSStore, S3Store

    plain = endpoint.startswith("http://")
    client = {"timeout": _TIMEOUT, "connect_timeout": timedelta(seconds=10), "allow_http": plain}
    # Few: who calls looks what is there before it tries again.
    retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    given: dict[str, Any] = {"prefix": address.path or None, "client_options": client, "retry_config": retries}
    if address.scheme == "s3":
        given |= {"checksum_algorithm": "SHA256", **credentials.of_aws()}
        given |= {"endpoint": endpoint} if endpoint else {}
        return S3Store(address.bucket, **given)
    if address.scheme == "az":
        given |= {"endpoint": endpoint} if endpoint else {}
        return AzureStore(address.bucket, **given)
    given |= {"base_url": endpoint} if endpoint else {}
    return GCSStore(address.bucket, **given)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Tell what obstore raises as TargetFault: by status and code alone, since its texts hold keys."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise _fault(str(error), 404) from None
    except PermissionDeniedError as error:
        raise _fault(str(error), 403) from None
    except UnauthenticatedError as error:
        raise _fault(str(error), 401) from None
    except BaseError as error:
        raise _fault(str(error), 0) from None


def _fault(text: str, status: int) -> TargetFault:
    """Return the fault that a text of obstore's tells of."""
    found = re.search(r"status code: (\d{3})", text)
    status = int(found[1]) if found else status
    named = re.search(r"<Code>(\w{1,60})</Code>", text)
    code = named[1] if named else ""
    if status in _REMEDIES and code not in _PASSING:
        return TargetRefuses(f"{_REMEDIES[status]} ({' '.join(filter(None, (str(status), code)))})")
    if status:
        kind_of = Busy if status in NOT_NOW else TargetFault
        return kind_of(" ".join(filter(None, ("the store answers", str(status), code))))
    kind = re.search(r"kind: (Connect|Timeout|Request|Decode|Interrupted)\b", text)
    words = {"Connect": "it cannot be reached", "Timeout": "it does not answer in time"}
    return TargetFault(words.get(kind[1], "the connection broke off") if kind else "the connection broke off")
