"""A service that cannot start stays, says why, and tries again (--retry-start). In a pod, where one container that
leaves makes the whole pod unready, a stage without its key or bucket would keep files from being received.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from listener import parse, streams
from listener.config import ENVIRONMENT_PREFIX, STAGE_VERBS, STAGES
from listener.errors import FatalFault

_OPTION = "retry_start"

#: Commands that are services, where no word says otherwise.
_SERVICES = STAGE_VERBS | {"run"}

_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})


def pause_of(given: argparse.Namespace | None, environment: Mapping[str, str]) -> float:
    """Return after how many seconds a command line is to be tried again that failed; 0: never, as for all that is no
    service. What the file says counts once that could be read: then all that was said is in `given.pause`.
    """
    if given is None or given.command not in _SERVICES or _has_words(given):
        return 0.0
    if hasattr(given, "pause"):
        return float(given.pause)
    said = getattr(given, _OPTION, None)
    with suppress(ValueError):  # An option that is wrong itself is among the problems.
        return parse.seconds(0)(said[-1] if said else environment.get(_variable(_OPTION), "0"))
    return 0.0


def _has_words(given: argparse.Namespace) -> bool:
    return any(getattr(given, name, None) for name in ("word", "words", "deed"))


def start_again(given: argparse.Namespace, environment: Mapping[str, str], lines: Sequence[str], pause: float) -> None:
    """Tell `lines`, why it cannot start, on its port for `pause` seconds, and replace this process by the same command
    line. Return at a signal that stops it.
    """
    print(f"listener: tried again in {pause:g} s (--retry-start)", file=sys.stderr, flush=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)  # Before there are threads: they inherit it.
    try:
        with _answering(given, environment, lines):
            stopped = signal.sigtimedwait(_STOPPING, pause)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not stopped:
        _replace()


def _replace() -> NoReturn:
    for number in (signal.SIGHUP, signal.SIGIO):  # What is ignored would stay so.
        signal.signal(number, signal.SIG_DFL)
    streams.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - it is this program


@contextmanager
def _answering(given: argparse.Namespace, environment: Mapping[str, str], lines: Sequence[str]) -> Iterator[None]:
    """Answer on the port of the service, where that is known and can be had: it lives, and is not ready."""
    from listener.telemetry.access import access_of
    from listener.telemetry.health import verdict
    from listener.telemetry.http_messages import Response
    from listener.telemetry.server import Server

    address = _address(given, environment)
    if address in ("", "off"):
        yield
        return
    alive = Response.json(200, verdict({"start": (True, "it tries to start")}, "alive", "stuck")[1])
    unready = Response.json(503, verdict({"start": (False, "; ".join(lines))}, "ready", "not-ready")[1])
    routes = {"/healthz": lambda _: alive, "/readyz": lambda _: unready}
    cert, key = (environment.get(_variable(name), "") for name in ("http_cert", "http_key"))
    server = Server(address, routes, lambda _: None, access=access_of("", cert, key, ""))
    try:
        server.start()
    except (FatalFault, ValueError):  # The address or the certificate may be what is wrong.
        yield
        return
    try:
        yield
    finally:
        server.stop()


def _address(given: argparse.Namespace, environment: Mapping[str, str]) -> str:
    stage = f"{given.command}_" if given.command in STAGES else ""
    said = getattr(given, "http", None) or environment.get(_variable(f"{stage}http"), "")
    return said[-1] if isinstance(said, list) else said


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()
