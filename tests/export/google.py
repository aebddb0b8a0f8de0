"""A front before fake-gcs-server, which speaks Google's JSON interface: obstore speaks the XML one, to which it answers
400 ("invalid uploadType") or not at all. Names, bytes, metadata, conditions and lists are the server's own;
parts of an upload are kept here until they are put together.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

_META = "x-goog-meta-"


class Upload(NamedTuple):
    """A large object on its way: what was said of it, and its parts."""

    metadata: dict[str, str]
    parts: dict[int, bytes]


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        body = self._body()
        if "uploadId" in self._query:
            self.server.uploads[self._query["uploadId"]].parts[int(self._query["partNumber"])] = body
            self._answer(200, {"ETag": f'"{len(body)}"'})
        else:
            self._create(body, self._metadata, self.headers.get("x-goog-if-generation-match", ""))

    def do_POST(self) -> None:
        self._body()
        if "uploads" in self._query:
            number = secrets.token_hex(8)
            self.server.uploads[number] = Upload(self._metadata, {})
            self._answer(
                200, {}, f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            )
        else:
            upload = self.server.uploads.pop(self._query["uploadId"])
            self._create(b"".join(upload.parts[number] for number in sorted(upload.parts)), upload.metadata)

    def do_DELETE(self) -> None:
        self.server.uploads.pop(self._query.get("uploadId", ""), None)
        self._answer(204, {})

    def do_GET(self) -> None:
        if self._key:
            self._read()
        else:
            self._list()

    do_HEAD = do_GET

    # -- what is asked

    @property
    def _query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}

    @property
    def _bucket(self) -> str:
        return urlsplit(self.path).path.strip("/").partition("/")[0]

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path.strip("/").partition("/")[2])

    @property
    def _metadata(self) -> dict[str, str]:
        return {
            name[len(_META) :].lower(): value for name, value in self.headers.items() if name.lower().startswith(_META)
        }

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # -- what the server does

    def _create(self, body: bytes, metadata: Mapping[str, str], generation: str = "") -> None:
        about = json.dumps({"name": self._key, "metadata": metadata}).encode()
        border = secrets.token_hex(16)
        lines = f"--{border}\r\nContent-Type: application/json\r\n\r\n".encode(), about
        more = f"\r\n--{border}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(), body
        query = {"uploadType": "multipart", "name": self._key}
        query |= {"ifGenerationMatch": generation} if generation else {}
        path = f"/upload/storage/v1/b/{self._bucket}/o?{urlencode(query)}"
        data = b"".join((*lines, *more, f"\r\n--{border}--\r\n".encode()))
        status, _, answer = self._ask("POST", path, data, {"Content-Type": f"multipart/related; boundary={border}"})
        if status != 200:
            return self._answer(status, {}, f"<Error><Code>{status}</Code></Error>")
        tag = json.loads(answer).get("etag", "x").strip('"')
        done = f'<CompleteMultipartUploadResult><ETag>"{tag}"</ETag></CompleteMultipartUploadResult>'
        return self._answer(200, {"ETag": f'"{tag}"'}, done)

    def _read(self) -> None:
        path = f"/download/storage/v1/b/{self._bucket}/o/{quote(self._key, safe='')}"
        wanted = {name: value for name, value in self.headers.items() if name.lower() == "range"}
        status, headers, body = self._ask(self.command, path, b"", wanted)
        self._answer(status, {name: value for name, value in headers.items() if name.lower() != "connection"}, body)

    def _list(self) -> None:
        asked = {"prefix": self._query.get("prefix", ""), "maxResults": self._query.get("max-keys", "1000")}
        asked |= {"pageToken": token} if (token := self._query.get("continuation-token")) else {}
        status, _, body = self._ask("GET", f"/storage/v1/b/{self._bucket}/o?{urlencode(asked)}", b"", {})
        if status != 200:
            return self._answer(status, {}, "<Error><Code>NoSuchBucket</Code></Error>")
        found: dict[str, Any] = json.loads(body)
        entries = "".join(
            f"<Contents><Key>{escape(one['name'])}</Key><Size>{one['size']}</Size>"
            f"<ETag>{escape(one.get('etag', 'x'))}</ETag><LastModified>{one['updated']}</LastModified></Contents>"
            for one in found.get("items", [])
        )
        more = found.get("nextPageToken", "")
        end = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
        end += f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
        return self._answer(200, {}, f"<ListBucketResult>{entries}{end}</ListBucketResult>")

    def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.store, timeout=120)) as connection:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes | str = b"") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response_only(status)
        given = {"Content-Length": str(len(data)), **{name.title(): value for name, value in headers.items()}}
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")  # A test leaves no thread that waits for more.
        self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, store: int) -> None:
        super().__init__(("127.0.0.1", 0), _Front)
        self.store = store
        self.uploads: dict[str, Upload] = {}


@contextlib.contextmanager
def front(store: int) -> Iterator[str]:
    """The address of a front before the server on this port of ours."""
    server = _Server(store)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
