"""Frames of a DICOMweb server (PS3.18 section 10.4), by urllib3 (extra `origins`), which is imported here alone."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from listener.dicom.attributes import Limits
from listener.errors import ConfigError
from listener.frames.errors import FramesFault, UnknownInstance
from listener.frames.image import MAX_INFLATED, ImageFile
from listener.frames.multipart import NoMessage, boundary_of, parts
from listener.frames.origins import Reading
from listener.frames.reference import InstanceReference

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

#: Frames of one request, and requests at once of loads in the background.
MOST_NUMBERS, AT_ONCE = 400, 2

#: Seconds for a connection, and between two pieces of an answer; bytes of a piece.
_CONNECT, _READ, _PIECE = 10.0, 60.0, 256 * 1024

#: What is accepted: frames, and an instance, as they are stored.
_FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
_INSTANCE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class ServerFault(FramesFault):
    """The DICOMweb server does not answer, or refuses."""

    reason = "server"


class DicomWeb:
    """An origin: the DICOMweb service at `url`. `token` is called for each request; what it returns is sent as a Bearer
    token. Nothing is tried again.
    """

    def __init__(self, url: str, token: Callable[[], str] | None, limits: Limits) -> None:
        """Raise ConfigError where the extra is missing, or the URL is none."""
        try:
            import urllib3
        except ImportError:
            text = "a frame cache with DICOMweb needs the extra origins: pip install 'dicom-listener[origins]'"
            raise ConfigError([text]) from None
        if not url.startswith(("http://", "https://")):
            raise ConfigError(["a frame cache wants the address of a DICOMweb service: https://HOST/PATH"])
        self._base, self._token, self._limits = url.rstrip("/"), token, limits
        self._errors = urllib3.exceptions
        timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
        self._http = urllib3.PoolManager(maxsize=8, retries=False, timeout=timeout)
        self._pool = ThreadPoolExecutor(AT_ONCE, "listener-dicomweb")

    def stamp(self, instance: InstanceReference) -> object:
        """See Origin: a server tells it with the frames alone."""
        return None

    @contextlib.contextmanager
    def read(self, instance: InstanceReference, numbers: Sequence[int], whole: bool) -> Iterator[Reading]:
        """See Origin."""
        # A few that are missed of an instance are asked for as such.
        if whole and (len(numbers) > MOST_NUMBERS or _begins(numbers)):
            with self._whole(instance) as (stamp, image):
                wanted = numbers if len(numbers) == image.count else range(1, image.count + 1)
                yield Reading(stamp, image.count, ((number, image.read(number - 1)) for number in wanted))
            return
        if len(numbers) == 1:
            stamp, frames = self._listed(instance, numbers)
            yield Reading(stamp, 0, iter(frames))
            return
        requests = [numbers[begin : begin + MOST_NUMBERS] for begin in range(0, len(numbers), MOST_NUMBERS)]
        answers = [self._pool.submit(self._listed, instance, request) for request in requests]
        try:
            first, _ = answers[0].result()
            yield Reading(first, 0, (one for answer in answers for one in answer.result()[1]))
        finally:
            for answer in answers:
                answer.cancel()

    def _listed(self, instance: InstanceReference, numbers: Sequence[int]) -> tuple[object, list[tuple[int, bytes]]]:
        """Return what tells versions of the instance apart (None: nothing does), and frames of one request."""
        path = f"{instance.complete_url}/frames/{','.join(map(str, numbers))}"
        with self._answer(path, _FRAMES) as answer:
            frames = list(_contents(answer))
            stamp = answer.headers.get("last-modified")
        if len(frames) != len(numbers):
            raise NoMessage(f"{len(frames)} frames came for {len(numbers)}")
        return stamp, list(zip(numbers, frames, strict=True))

    @contextlib.contextmanager
    def _whole(self, instance: InstanceReference) -> Iterator[tuple[object, ImageFile]]:
        """Fetch an instance into a file without a name that lasts."""
        with tempfile.NamedTemporaryFile(prefix="listener-frames-") as file:
            with self._answer(instance.complete_url, _INSTANCE) as answer:
                for number, content in enumerate(_contents(answer)):
                    if number:
                        raise NoMessage("several instances came for one")
                    file.write(content)
                stamp = answer.headers.get("last-modified")
            file.flush()
            with ImageFile(file.name, self._limits, cap=MAX_INFLATED) as image:
                yield stamp, image

    @contextlib.contextmanager
    def _answer(self, path: str, accepted: str) -> Iterator[BaseHTTPResponse]:
        """Ask; the answer's body is to be read within the block. Raises UnknownInstance, ServerFault."""
        fields = {"accept": accepted}
        if self._token:
            fields["authorization"] = f"Bearer {self._token()}"
        answer: Any = None
        try:
            # Nothing is followed elsewhere: the token is of this server.
            answer = self._http.request(
                "GET", f"{self._base}/{path}", headers=fields, preload_content=False, redirect=False
            )
            if answer.status == 404:
                raise UnknownInstance
            if answer.status != 200:
                raise ServerFault(f"status {answer.status}")
            yield answer
            answer.drain_conn()
        except self._errors.HTTPError as error:
            raise ServerFault(type(error).__name__) from None
        finally:
            if answer is not None:
                answer.close() if answer.status != 200 else answer.release_conn()

    def close(self) -> None:
        """See Origin."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.clear()


def _begins(numbers: Sequence[int]) -> bool:
    """Return whether these are several frames from the first on, without a gap."""
    return len(numbers) > 1 and list(numbers) == list(range(1, len(numbers) + 1))


def _contents(answer: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the contents of an answer: those of its parts, or itself."""
    boundary = boundary_of(answer.headers.get("content-type", ""))
    chunks = answer.stream(_PIECE)
    if boundary:
        yield from parts(chunks, boundary)
    else:
        yield b"".join(chunks)
