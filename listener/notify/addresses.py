"""PURE. URLs of what is told: checked, free of secrets where everybody could read them, as people read them; and why
what is there does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from listener.parse import HoldsSecret

#: How Redis begins an error, where the name of its exception does not say so already.
_REDIS_CODES = ("BUSY", "DENIED", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "OOM", "READONLY")


def checked(text: str, schemes: Sequence[str], hint: str) -> SplitResult:
    """Return the parts of a URL with one of these schemes and a host; ValueError tells by `hint` what is wrong and what
    to give.
    """
    parts = urlsplit(text)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(hint)
    parts.port  # noqa: B018 - raises ValueError for a port that is none
    return parts


def refuse_secret(found: str | None, what: str, flag: str) -> None:
    """Raise HoldsSecret for a URL of the command line in which a secret was found: `ps` shows it to everybody."""
    if found is not None:
        raise HoldsSecret(f"has {what}, which everybody on this machine could read; give {flag}")


def shown(url: str) -> str:
    """Return a URL as people read it: without user, password and query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def reason_of(error: BaseException) -> str:
    """Return why a target failed, without a text of its own: that may name a user."""
    cause = error.__cause__ or error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    code, *_ = str(cause).split(" ", 1)
    said = f" ({code})" if code in _REDIS_CODES else ""
    return getattr(cause, "strerror", None) or type(cause).__name__ + said
