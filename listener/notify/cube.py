"""CUBE's own answer to whether a series is registered: a question to its API."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import listener
from listener.errors import NotTaken
from listener.notify.addresses import reason_of, shown
from listener.telemetry.access import mode_problems

#: Seconds to wait for an answer, and the most bytes of one.
_SECONDS, _MOST = 10.0, 1024 * 1024

_DENIED = (401, 403)


class Denied(NotTaken):
    """CUBE does not let this user ask: nothing can be confirmed until a person mends that."""


class Found(NamedTuple):
    """A series as CUBE has it: the name of its PACS, and its folder below CUBE's storage."""

    pacs: str
    folder: str


class Cube:
    """Asks a CUBE at `url`; `login_file` holds user:password or a token, and is read for each question."""

    def __init__(self, url: str, login_file: str) -> None:
        self._url = urlsplit(url)
        self._login_file = login_file
        self.shown = shown(url)

    def find(self, series: str) -> list[Found]:
        """Return what CUBE has registered under a SeriesInstanceUID. Raises Denied, and NotTaken for every answer that
        is none.
        """
        status, body = self._get(f"/api/v1/pacs/series/search/?SeriesInstanceUID={quote(series, safe='')}")
        if status in _DENIED:
            raise Denied(f"{self.shown} answered {status}: the user of --cube-login may not ask; add it to pacs_users")
        if status != http.HTTPStatus.OK:
            raise NotTaken(f"{self.shown} answered {status}")
        try:
            results = json.loads(body)["results"]
            return [_found(one) for one in results if one.get("SeriesInstanceUID") == series]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NotTaken(f"{self.shown} did not answer as CUBE does; is --cube its address?") from None

    def _get(self, target: str) -> tuple[int, bytes]:
        head = {"Accept": "application/json", "User-Agent": f"listener/{listener.__version__}", **self._login()}
        connection = self._connect()
        try:
            connection.request("GET", self._url.path.rstrip("/") + target, headers=head)
            with connection.getresponse() as answer:
                body = answer.read(_MOST + 1)
                if len(body) > _MOST:
                    raise NotTaken(f"{self.shown} answered with more than {_MOST} bytes")
                return answer.status, body
        except (OSError, http.client.HTTPException) as error:
            raise NotTaken(f"{self.shown}: {reason_of(error)}") from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)

    def _login(self) -> Mapping[str, str]:
        try:
            text = read_secret(self._login_file)
        except (OSError, ValueError) as error:
            raise Denied(f"--cube-login: {error}") from None
        if ":" in text:
            return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        return {"Authorization": f"Token {text}"}


def _found(entry: Mapping[str, Any]) -> Found:
    return Found(str(entry["pacs_identifier"]), str(entry["folder_path"]))


def read_secret(path: str) -> str:
    """Return what a file holds, without the end of its line. Raises OSError, and ValueError for a file that others can
    read or that is empty.
    """
    with open(path, encoding="utf-8") as file:
        problems = [*mode_problems(os.fstat(file.fileno()))]
        text = file.read().strip()
    if problems or not text:
        raise ValueError(f"'{path}' {problems[0] if problems else 'is empty'}")
    return text
