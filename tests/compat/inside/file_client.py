"""Fixtures of dicomweb-client's own tests of files, with a client of the service at BASE in place of one of files."""

from __future__ import annotations

import os
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient  # type: ignore[import-not-found]


class Client(DICOMwebClient):  # type: ignore[misc]
    """Gives frames as bytes, as the client of files does: the one of the web gives bytearrays."""

    def retrieve_instance_frames(self, *args: Any, **kwargs: Any) -> list[bytes]:
        return [bytes(frame) for frame in super().retrieve_instance_frames(*args, **kwargs)]


@pytest.fixture
def file_client() -> Client:
    return Client(os.environ["BASE"])
