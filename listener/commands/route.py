"""Send each instance to the right worker, a study always to the same one, and the results back to who asked."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from listener.commands import _route_words as others
from listener.commands._stages import check_word
from listener.config import Config
from listener.cpu import request_short_slices
from listener.errors import ConfigError, NotAccepted, PeerFault
from listener.parse import closest
from listener.route.options import RouteOptions
from listener.stages import options
from listener.status.formatting import several

if TYPE_CHECKING:
    from listener.network.association import Peer

EPILOG = (
    "without a word: the service; it follows the collection of --state and --data. "
    "check: is the routes file in order, and does each target answer; ping NAME: does this one answer; "
    f"{others.HELP}. "
    "Exit status: 0; 1 failed at run time, a target does not answer, what is named is not known, or drain --wait ended "
    "while studies were live; 2 the configuration is wrong"
)

#: What `listener route` does beside the service.
WORDS = ("check", "ping", *others.WORDS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"one of {', '.join(WORDS)}; none: the service")
    options.add_flags(parser, RouteOptions)
    others.add_options(parser)


def acts(given: argparse.Namespace) -> bool:
    """Return whether a word does more than print; the service looks after its output itself."""
    return bool(given.words) and others.acts(given)


def run(config: Config, given: argparse.Namespace) -> int:
    """Run the service until it has stopped, or do what a word says. Return the exit status."""
    word = given.words[0] if given.words else ""
    check_word("route", word, WORDS)
    if word in others.WORDS:
        return others.run(config, given)
    chosen = options.load(RouteOptions, "route", given, os.environ)
    if not chosen.routes:
        raise ConfigError(["--routes: is missing; name the file of workers, destinations and routes"])
    if word:
        return _ping(chosen, given.words)
    return _serve(config, chosen)


def _serve(config: Config, chosen: RouteOptions) -> int:
    from listener.route.pages import RoutePages
    from listener.route.reload import load
    from listener.route.service import Route
    from listener.stages.service import StageService, StageSettings
    from listener.telemetry.access import access_of

    # An instance is to be on its way within milliseconds, also on a busy machine and while answers are recorded.
    request_short_slices()
    sys.setswitchinterval(_SWITCH)
    route = Route(config.state, config.data, chosen, load(chosen.routes))
    access = access_of(config.token_file, config.http_cert, config.http_key, config.http_client_ca)
    settings = StageSettings(config.state, chosen.http, access, chosen.drain)
    return StageService(route, settings, RoutePages(config.state).routes(), route.reload).run()


#: Seconds after which a thread leaves the interpreter to another one; by itself 5 ms, in which several are sent.
_SWITCH = 0.0005

#: What a person can do about a target that does not answer, by cause; see errors.PEER_CAUSES.
_REMEDIES = {
    "unresolved": "see the name in its address",
    "refused": "start it, or see the port in its address",
    "unreachable": "see the network and its firewall",
    "timeout": "see whether it hangs, and its firewall",
    "tls": "see its certificate, and ca, cert and key in the routes file",
    "title": "see aet and calling in the routes file, and the AE titles that it knows",
    "rejected": "it may have too many associations: see its log",
}

_KEEP_BOTH = (
    "advice: workers send into this collection ([inside]); run the listener with --on-conflict keep-both, or a worker "
    "that alters an original replaces it"
)


def _ping(chosen: RouteOptions, words: list[str]) -> int:
    """Ask targets by C-ECHO: all of them (check), or those that are named (ping). Return 1 if one does not answer."""
    from listener.route.reload import load

    loaded = load(chosen.routes)
    word, *names = words
    if (word == "ping") != bool(names):
        raise ConfigError(["route: ping whom? give ping NAME" if word == "ping" else "route: check takes no name"])
    for name in names:
        if name not in loaded.routes.targets:
            close = closest(name, loaded.routes.targets)
            hint = f"did you mean '{close}'?" if close else f"there are {', '.join(loaded.routes.targets)}"
            raise ConfigError([f"route: there is no target '{name}'; {hint}"])
    if word == "check":
        print(f"the routes file is in order: {several(len(loaded.routes.routes), 'route', 'routes')}")
    failed = 0
    for name in names or loaded.routes.targets:
        fine, answer = _asked(loaded.peers.get(name), loaded.routes.targets[name].directory)
        failed += not fine
        print(f"{name}: {answer}")
    if word == "check" and loaded.routes.inside:
        print(_KEEP_BOTH)
    sys.stdout.flush()
    return int(failed > 0)


def _asked(peer: Peer | None, directory: str) -> tuple[bool, str]:
    """Return whether a target can be sent to, and what to say of it."""
    from listener.network.association import Association, Patience

    if peer is None:
        if os.access(directory, os.W_OK | os.X_OK):
            return True, "its directory can be written"
        return False, "its directory is not there, or cannot be written: see its mode and its mount"
    begun = time.monotonic()
    try:
        with Association(peer, (), Patience()) as association:
            status = association.echo().status
    except NotAccepted:
        return True, "answered, but does not take C-ECHO"
    except PeerFault as fault:
        detail = f" ({fault.detail})" if fault.detail else ""
        return False, f"{fault.cause}{detail}; {_REMEDIES.get(fault.cause, 'see its log')}"
    return True, f"answered C-ECHO with status {status:04X} in {time.monotonic() - begun:.3f} s"
