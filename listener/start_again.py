"""A service that cannot start stays, says why, and tries again (--retry-start). In a pod, where one container that
leaves makes the whole pod unready, a stage without its key or bucket would keep files from being received.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from listener import streams
from listener.config import STAGE_VERBS, STAGES, options, variable
from listener.errors import FatalFault
from listener.settings import Sources

if TYPE_CHECKING:  # Most commands never need it.
    from listener.telemetry.server import Server

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
    said = _said(_OPTION, given, environment)
    with suppress(ValueError):  # An option that is wrong itself is among the problems.
        return float(options()[_OPTION].parse(said)) if said else 0.0
    return 0.0


def _has_words(given: argparse.Namespace) -> bool:
    return any(getattr(given, name, None) for name in ("word", "words", "deed"))


def start_again(given: argparse.Namespace, environment: Mapping[str, str], lines: Sequence[str], pause: float) -> None:
    """Tell `lines`, why it cannot start, on its port for `pause` seconds, and replace this process by the same command
    line. Return at a signal that stops it.
    """
    print(f"listener: tried again in {pause:g} s (--retry-start)", file=sys.stderr, flush=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)  # Before there are threads: they inherit it.
    server = _started(given, environment, lines)
    try:
        stopped = signal.sigtimedwait(_STOPPING, pause)
    finally:
        if server:
            server.stop()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not stopped:
        _replace()


def _replace() -> NoReturn:
    for number in (signal.SIGHUP, signal.SIGIO):  # What is ignored would stay so.
        signal.signal(number, signal.SIG_DFL)
    streams.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - it is this program


def _started(given: argparse.Namespace, environment: Mapping[str, str], lines: Sequence[str]) -> Server | None:
    """Return what answers on the port of the service that it lives, and is not ready; None where the port is not known
    or cannot be had.
    """
    from listener.telemetry.access import access_of
    from listener.telemetry.health import verdict
    from listener.telemetry.http_messages import Response
    from listener.telemetry.server import Server

    address = _said("http", given, environment, given.command if given.command in STAGES else "")
    if address in ("", "off"):
        return None
    alive = Response.json(200, verdict({"start": (True, "it tries to start")}, "alive", "stuck")[1])
    unready = Response.json(503, verdict({"start": (False, "; ".join(lines))}, "ready", "not-ready")[1])
    routes = {"/healthz": lambda _: alive, "/readyz": lambda _: unready}
    cert, key = (environment.get(variable(name), "") for name in ("http_cert", "http_key"))
    server = Server(address, routes, lambda _: None, access=access_of("", cert, key, ""))
    try:
        server.start()
    except (FatalFault, ValueError):  # The address or the certificate may be what is wrong.
        return None
    return server


def _said(name: str, given: argparse.Namespace, environment: Mapping[str, str], stage: str = "") -> str:
    """Return what flag or variable say of an option; "" where neither does."""
    sources = Sources({name: getattr(given, name, None)}, environment, {}, stage=stage)
    _, texts = sources.find(name, options()[name])
    return texts[-1] if texts else ""
