"""How long a store that is too busy wants to be left alone: obstore does not show the header fields of an error."""

from __future__ import annotations

from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from listener.ledger.delivery_retry import NOT_NOW, retry_after

#: Seconds in which the answer must be there; it has no body.
_SECONDS = 10.0


def asked_pause(url: str) -> float:
    """Send one HEAD to a signed URL of a store that was too busy, and return the seconds that Retry-After asks for in
    its answer; 0 where it asks for nothing, or is not busy any more.
    """
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_SECONDS):  # noqa: S310 - obstore signed it
            return 0.0
    except HTTPError as error:
        with error:
            return retry_after(error.headers) if error.code in NOT_NOW else 0.0
    except (OSError, HTTPException, ValueError):
        return 0.0
