"""Options of the stage notify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from listener import parse
from listener.config import row
from listener.notify import broker, nats_client
from listener.notify.addresses import refuse_secret

_MOST_QUESTIONS = 1000

_URLS: dict[str, Any] = {"shown": "none", "several": True, "divider": "\n"}


def _cube(text: str) -> str:
    """Return the URL of a CUBE, without a password in it."""
    refuse_secret("@" if "@" in text else None, "a user in it", "--cube-login")
    return parse.url(text)


def _name(text: str) -> str:
    """Return the name of a queue or of a subject's root."""
    if not text or any(letter <= " " for letter in text):
        raise ValueError("is no name; give one without blanks")
    return text


def _rate(text: str) -> float:
    """Return a number of questions a second."""
    try:
        rate = float(text)
    except ValueError:
        raise ValueError("is not a number; give questions a second, above 0") from None
    if not 0 < rate <= _MOST_QUESTIONS:
        raise ValueError(f"is out of range; give questions a second, above 0 and up to {_MOST_QUESTIONS}")
    return rate


@dataclass(frozen=True, slots=True)
class NotifyOptions:
    """The options of `listener notify`."""

    nats: tuple[str, ...] = row(
        (),
        nats_client.open_url,
        "URL",
        "NATS, for progress: nats://HOST:4222; again for servers of one cluster",
        **_URLS,
    )
    nats_file: str = row("", parse.file, "FILE", "the same, a line each, where it has a secret", shown="none")
    nats_root: str = row("oxidicom", _name, "NAME", "first part of the subjects; CUBE's NATS_SUBJECT_ROOT")
    progress: float = row(0.5, parse.seconds(0.05), "SECONDS", "at least between two numbers of a series", unit="s")
    celery: str = row(
        "", broker.open_url, "URL", "CUBE's task queue: redis://HOST:6379/0, or amqp:// and others", shown="none"
    )
    celery_file: str = row("", parse.file, "FILE", "the same in a file, where it has a password", shown="none")
    celery_queue: str = row("main2", _name, "NAME", "the queue that CUBE's worker reads")
    register: str = row(
        "complete",
        parse.choice("complete", "all"),
        "WHICH",
        "which series CUBE registers; it never adds what comes later, so incomplete ones only with all",
    )
    cube: str = row("", _cube, "URL", "CUBE's address, which is asked whether a series is registered", shown="none")
    cube_login: str = row("", parse.file, "FILE", "user:password or token for --cube", shown="none")
    confirm_after: float = row(
        60.0, parse.seconds(1), "SECONDS", "a series that CUBE has not registered by then is sent again", unit="s"
    )
    cube_rate: float = row(5.0, _rate, "N", "questions to CUBE a second")
    http: str = row(
        "0.0.0.0:9468", parse.address, "ADDR:PORT", "metrics and health; port 0 picks one; or unix:PATH, or off"
    )
    drain: float = row(25.0, parse.seconds(0), "SECONDS", "how long a stopping stage may go on", unit="s")
