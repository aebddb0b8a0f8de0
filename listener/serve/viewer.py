"""A viewer's files, on the same origin as the images. OHIF's build gets a configuration that points here."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from hashlib import blake2b
from urllib.parse import unquote

import orjson

from listener.serve.answers import Answer, Fields, fixed
from listener.serve.faults import NotFound
from listener.serve.ranges import is_known

#: The configuration that OHIF's page asks for.
_OHIF = "app-config.js"

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}


class Viewer:
    """Files of a directory; a path without one is the viewer's own, so that its page is sent. `base` is the address of
    DICOMweb as the page sees it.
    """

    def __init__(self, folder: str, base: str) -> None:
        self._folder = os.path.realpath(folder)
        self._base = base

    async def answer(self, path: str, known: str) -> Answer:
        """Return a file, the page for what has no dot in its last name. Raises NotFound."""
        return await asyncio.to_thread(self._answer, unquote(path).lstrip("/"), known)

    def _answer(self, path: str, known: str) -> Answer:
        name = path or "index.html"
        if name == _OHIF:
            return _file(name, ohif(self._base), known)
        data = self._read(name)
        if data is None and "." not in name.rpartition("/")[2]:
            name, data = "index.html", self._read("index.html")
        if data is None:
            raise NotFound
        return _file(name, data, known)

    def _read(self, name: str) -> bytes | None:
        target = os.path.realpath(os.path.join(self._folder, name)) if "\0" not in name else ""
        if not target.startswith(self._folder + os.sep) or not os.path.isfile(target):
            return None
        with open(target, "rb") as file:
            return file.read()


def _file(name: str, data: bytes, known: str) -> Answer:
    etag = f'"{blake2b(data, digest_size=12).hexdigest()}"'
    fields: Fields = [("etag", etag), ("cache-control", "no-cache"), ("x-content-type-options", "nosniff")]
    if is_known(known, etag):
        return Answer(304, fields)
    kind = _TYPES.get(os.path.splitext(name)[1]) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Answer(200, [("content-type", kind), *fields], [fixed(data)])


def ohif(base: str) -> bytes:
    """Return OHIF's configuration with one data source: this service."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "listener",
        "configuration": {
            "friendlyName": "listener",
            "name": "listener",
            "qidoRoot": base,
            "wadoRoot": base,
            "wadoUriRoot": base,
            "qidoSupportsIncludeField": True,
            "supportsReject": False,
            "supportsStow": False,
            "supportsFuzzyMatching": True,
            "supportsWildcard": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "singlepart": "bulkdata,video,pdf",
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    config = {
        "routerBasename": "/",
        "showStudyList": True,
        "extensions": [],
        "modes": [],
        "dataSources": [source],
        "defaultDataSourceName": "listener",
    }
    return b"window.config = " + orjson.dumps(config) + b";\n"
