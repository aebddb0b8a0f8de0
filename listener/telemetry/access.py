"""Who may look at the page and its API: tokens, client certificates, the peer's address. Metrics and health are open.

Files are read again within a second of their change, by a thread of its own: a disk that hangs holds up no answer.
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64decode
from collections.abc import Callable, Iterable
from functools import lru_cache
from hmac import compare_digest
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple

from listener.diagnostics import log
from listener.planning.names import printable
from listener.telemetry.http_messages import Request, Response

if TYPE_CHECKING:
    from listener.telemetry.tls import Tls

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,512}")  # what `Bearer` can carry (RFC 6750, section 2.1)

#: Different characters that 32 random ones have at least: hexadecimal digits have fewer once in a million times.
_DIFFERENT = 8

_MAKE_ONE = "make one with 'openssl rand -hex 32'"


class Token(NamedTuple):
    """A token and who has it. Several may have one name, so that the next one can be given out before the last goes."""

    name: str
    secret: bytes


class Peer(NamedTuple):
    """The other end of a connection: its IP address, or on a Unix socket "" and the user's id; and the name in its
    certificate, "" without one.
    """

    address: str
    uid: int = -1
    certificate: str = ""


def read_tokens(path: str) -> tuple[tuple[Token, ...], list[str]]:
    """Return the tokens in a file of lines `name:token`, and what is wrong with it. No problem quotes one."""
    try:
        with open(path, encoding="utf-8") as file:
            problems = list(mode_problems(os.fstat(file.fileno())))
            lines = file.read().splitlines()
    except OSError as error:
        return (), [f"cannot be read ({error.strerror}); name a file of lines 'name:token'"]
    except UnicodeDecodeError:
        return (), ["is not UTF-8; name a file of lines 'name:token'"]
    tokens: list[Token] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        before, colon, secret = line.strip().partition(":")
        name = before if colon else ""
        problem = _line_problem(name, secret)
        if not problem and any(token.secret == secret.encode() for token in tokens):
            problem = f"another line has the same token; {_MAKE_ONE}"
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            tokens.append(Token(name, secret.encode()))
    if not tokens and not problems:
        problems.append(f"holds no token; write a line 'name:token', and {_MAKE_ONE}")
    return tuple(tokens), problems


def _line_problem(name: str, secret: str) -> str:
    if not _NAME.fullmatch(name):
        return "no name before the colon; write 'name:token', the name of letters, digits and . _ @ -"
    if not _TOKEN.fullmatch(secret):
        return f"the token is not of 32 or more letters, digits and . _ ~ + / = -; {_MAKE_ONE}"
    if len(set(secret)) < _DIFFERENT:
        return f"the token is not random; {_MAKE_ONE}"
    return ""


def mode_problems(status: os.stat_result) -> Iterable[str]:
    """Yield who else could read or change a file of secrets. A group may read what root made for it: so a container
    gets a secret (mode 0440 and the pod's group), and so does a service on a host (0640 root:listener).
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        yield f"belongs to user {status.st_uid}; give it to root or to the service's user (chown)"
    if mode & (stat.S_IRWXO | stat.S_IWGRP) or (mode & stat.S_IRGRP and status.st_uid):
        wanted = "0400, or 0440 with root as owner; a Kubernetes secret: defaultMode 0440 and fsGroup"
        yield f"is open to others (mode {mode:04o}); give it mode {wanted}"


# -- the decision ------------------------------------------------------------------------------------------------------


def visitor_of(request: Request, peer: Peer, tokens: Iterable[Token], *, guarded: bool) -> str:
    """Return as whom the peer may look: "token NAME", "certificate NAME", "uid N" or "loopback"; "" if it may not.

    `guarded`: tokens or certificates were configured; then the machine itself needs one too, for a proxy on it (or in
    its pod) would otherwise let everybody in.
    """
    if peer.uid >= 0:
        return f"uid {peer.uid}"
    if peer.certificate:
        return f"certificate {peer.certificate}"
    holder = _holder(request.authorization, tokens)
    if holder:
        return f"token {holder}"
    if not guarded and _is_loopback(peer.address) and not request.forwarded and _is_numeric(request.host):
        return "loopback"
    return ""


def _holder(authorization: str, tokens: Iterable[Token]) -> str:
    """Return whose token is in an Authorization field, Bearer (RFC 6750) or Basic (RFC 7617: name and token), or ""."""
    scheme, _, given = authorization.partition(" ")
    user, secret = None, given.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            name, _, secret = b64decode(secret, validate=True).partition(b":")
        except ValueError:
            return ""
        user = name.decode("latin-1")
    elif scheme.lower() != "bearer":
        return ""
    found = ""
    for token in tokens:  # All of them, each in constant time: how long it takes tells nothing of any.
        same = compare_digest(token.secret, secret)
        if same and user in (None, token.name):
            found = token.name
    return found


def _is_loopback(address: str) -> bool:
    numbers = address.removeprefix("::ffff:")
    return numbers == "::1" or numbers.startswith("127.")


@lru_cache(maxsize=64)
def _is_numeric(host: str) -> bool:
    """Return whether a Host field names the machine by number, or as localhost. A web page elsewhere may let its own
    name lead to 127.0.0.1 and have a browser ask here in that name (DNS rebinding).
    """
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) and not host.endswith("]") else host
    return not name or name.lower() == "localhost" or re.fullmatch(r"[\d.]+|\[[0-9A-Fa-f:.]+\]", name) is not None


# -- what was seen -----------------------------------------------------------------------------------------------------

#: Different visitors that are counted apart between two takes; the others are counted together.
_MOST = 200


class Visits:
    """Counts requests by visitor ("" when refused), address and kind of path. Any thread may take the counts."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, visitor: str, peer: Peer, path: str) -> None:
        """Count one request: of the API, or of a page. Neither path nor query are kept: they may hold patient data."""
        what = "api" if path.startswith("/api/") else "page"
        key = (visitor, peer.address, what)
        with self._lock:
            if key not in self._counts and len(self._counts) >= _MOST:
                key = (visitor and "others", "", what)
            self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> list[dict[str, str | int]]:
        """Return what was counted since the last call, as fields of `access` events."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return [_visit(*key, number) for key, number in counts.items()]


def _visit(visitor: str, address: str, what: str, number: int) -> dict[str, str | int]:
    by, _, name = (visitor or "nobody").partition(" ")
    return {"by": by, "client": name, "address": address, "what": what, "requests": number}


# -- the files ---------------------------------------------------------------------------------------------------------

#: Seconds between two looks at the files.
_LOOK_SECONDS = 1.0

_Stamp = tuple[int, ...]


def _stamp(path: str) -> _Stamp:
    """Return what changes when a file does, also when its mode does; () while it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class TlsFiles(NamedTuple):
    """Certificate (with its chain) and key of the port, in PEM; `client_ca`: issuers whose certificates may look."""

    cert: str
    key: str
    client_ca: str = ""


class Access:
    """Who may look, by a file of tokens ("" for none) and by client certificates; and how connections are encrypted:
    `tls`, None in the clear, replaced as a whole when its files changed.
    """

    def __init__(self, token_file: str = "", tls_files: TlsFiles | None = None) -> None:
        self.visits = Visits()
        self.tls: Tls | None = None
        self._token_file = token_file
        self._tls_files = tls_files
        self._tokens: tuple[Token, ...] = ()
        self._seen: dict[str, _Stamp] = {}
        self._told: list[str] = []
        self._looking = Lock()
        self._stopping = Event()
        self._changed: Callable[[], None] = lambda: None
        self._begun = False
        self._thread = Thread(target=self._look_on, name="listener-access", daemon=True)

    def start(self, changed: Callable[[], None]) -> None:
        """Look after the files from now on; call `changed` when `tls` was replaced."""
        self._changed, self._begun = changed, True
        self._look_after()

    def stop(self) -> None:
        """Stop looking after the files."""
        self._stopping.set()
        if self._thread.ident:
            self._thread.join(_LOOK_SECONDS)

    def change(self, token_file: str) -> None:
        """Take the tokens of another file, "" for none; those of the one before hold no more."""
        with self._looking:
            if token_file != self._token_file:
                self._token_file, self._tokens, self._seen = token_file, (), {}
        self.look()
        self._look_after()

    def _look_after(self) -> None:
        """Start the thread once there are files to look after."""
        if self._begun and not self._thread.ident and (self._token_file or self._tls_files):
            self._thread.start()

    def look(self) -> list[str]:
        """Read files that changed; return what is wrong with them. Then what held before still holds."""
        with self._looking:
            problems = [*self._look_at_tokens(), *self._look_at_tls()]
            for problem in problems:
                if problem not in self._told:
                    log.error("%s; what held before still holds", problem)
            self._told = problems
            return problems

    def _look_at_tokens(self) -> list[str]:
        if not self._token_file or not self._has_changed(self._token_file):
            return [problem for problem in self._told if problem.startswith("--token-file")]
        tokens, problems = read_tokens(self._token_file)
        if not problems:
            self._tokens = tokens
            log.info("--token-file was read: %d %s", len(tokens), "token" if len(tokens) == 1 else "tokens")
        return [f"--token-file: '{printable(self._token_file)}' {problem}" for problem in problems]

    def _look_at_tls(self) -> list[str]:
        # A certificate and its key are seldom replaced in one moment: while they do not fit, each look tries again.
        failed = [problem for problem in self._told if problem.startswith("--http")]
        changed = [path for path in self._tls_files or () if path and self._has_changed(path)]
        if not self._tls_files or not (changed or failed):
            return failed
        from listener.telemetry.tls import Tls

        try:
            self.tls = Tls(*self._tls_files)
        except ValueError as error:
            return [str(error)]
        self._changed()
        log.info("--http-cert: the certificate was read")
        return []

    def _has_changed(self, path: str) -> bool:
        before, self._seen[path] = self._seen.get(path), _stamp(path)
        return before != self._seen[path]

    def _look_on(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self.look()

    @property
    def _guarded(self) -> bool:
        return bool(self._token_file or (self._tls_files and self._tls_files.client_ca))

    def visitor(self, request: Request, peer: Peer) -> str:
        """Return as whom a peer may look, "" if it may not; and count it."""
        visitor = visitor_of(request, peer, self._tokens, guarded=self._guarded)
        self.visits.add(visitor, peer, request.path)
        return visitor

    def refusal(self) -> Response:
        """Return the response to who may not look (RFC 9110, section 11.6.1)."""
        bearer = 'WWW-Authenticate: Bearer realm="listener"'
        if not self._guarded:  # No browser shall ask for a password that nobody has.
            text = "only the machine itself may look (by number or as localhost); start the service with --token-file"
            return Response.problem(401, text)._replace(fields=(bearer,))
        text = (
            "give a token of --token-file: 'Authorization: Bearer TOKEN', or its name and itself as user and password"
        )
        basic = 'WWW-Authenticate: Basic realm="listener", charset="UTF-8"'
        return Response.problem(401, text)._replace(fields=(bearer, basic))


def access_of(token_file: str, cert: str, key: str, client_ca: str) -> Access:
    """Return what these options say: files of tokens, certificate, its key ("" where that is in the certificate's
    file), and issuers of clients' certificates; "" for none.
    """
    return Access(token_file, TlsFiles(cert, key or cert, client_ca) if cert else None)
