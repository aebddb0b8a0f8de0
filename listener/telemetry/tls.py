"""TLS for the HTTP port. Imported where a certificate was given: with its library it takes some MB."""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import Any, cast

from listener.planning.names import printable


class Tls:
    """A certificate with its key, and whose client certificates are taken ("" for none); TLS 1.2 and 1.3.

    A client may show a certificate and need not: metrics and health are open to who has none. One of another issuer
    ends the handshake. Raises ValueError when a file cannot be used.
    """

    def __init__(self, cert: str, key: str, client_ca: str = "") -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.options |= ssl.OP_NO_RENEGOTIATION
        self._context.set_alpn_protocols(["http/1.1"])
        try:
            # A passphrase would be asked for on a terminal that a service does not have.
            self._context.load_cert_chain(cert, key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            remedy = "name a certificate and its own key without a passphrase, in PEM"
            text = f"--http-cert: '{printable(cert)}' and '{printable(key)}' cannot be used ({_why(error)}); {remedy}"
            raise ValueError(text) from error
        if client_ca:
            self._context.verify_mode = ssl.CERT_OPTIONAL
            try:
                self._context.load_verify_locations(client_ca)
            except (OSError, ValueError) as error:
                text = f"'{printable(client_ca)}' cannot be used ({_why(error)}); name certificates in PEM"
                raise ValueError(f"--http-client-ca: {text}") from error

    def wrap(self, peer: socket.socket) -> ssl.SSLSocket:
        """Return the encrypted socket of a connection; the handshake is still to be done. Raises OSError."""
        return self._context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)

    @staticmethod
    def shake_hands(peer: socket.socket) -> str:
        """Go on with the handshake; return the name in the client's certificate, "" without one. Raises OSError."""
        encrypted = cast("ssl.SSLSocket", peer)
        encrypted.do_handshake()
        return _name_in(encrypted.getpeercert())

    @staticmethod
    def send_close_notify(peer: socket.socket) -> None:
        """Tell the client that nothing follows, so that it can tell an end from a cut. Raises OSError."""
        cast("ssl.SSLSocket", peer).unwrap()

    @staticmethod
    def is_plain(error: OSError) -> bool:
        """Return whether a handshake failed because the client spoke HTTP in the clear."""
        return getattr(error, "reason", "") == "HTTP_REQUEST"

    @staticmethod
    def awaits(error: OSError) -> int:
        """Return the event that a connection waits for, by the error that it raised; 0 if it failed."""
        if isinstance(error, ssl.SSLWantReadError):
            return selectors.EVENT_READ
        return selectors.EVENT_WRITE if isinstance(error, ssl.SSLWantWriteError) else 0


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else getattr(error, "strerror", None) or str(error)


def _name_in(certificate: dict[str, Any] | None) -> str:
    """Return the common name of a certificate as SSLSocket.getpeercert returns it, or an alternative name."""
    if not certificate:
        return ""
    subject = dict(pair for part in certificate.get("subject", ()) for pair in part)
    names = [name for _, name in certificate.get("subjectAltName", ())]
    return printable(subject.get("commonName") or next(iter(names), "") or "without a name")
