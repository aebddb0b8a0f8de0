"""CUBE's task queue: a message a series, put there by Celery itself, as oxidicom's are."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from listener.errors import ConfigError, NotTaken
from listener.notify.addresses import checked, reason_of, refuse_secret, shown
from listener.notify.registration import TASK

#: Schemes of brokers that can be used.
REDIS, AMQP = ("redis", "rediss", "sentinel"), ("amqp", "amqps")

#: A broker that refuses is not tried again by the library, which would hold up the thread.
_ONCE = {"max_retries": 0}

#: Seconds to wait for a connection, and for an answer.
_CONNECT, _ANSWER = 5.0, 10.0


#: What divides the URLs of several sentinels, and what in the query of the last one names their Redis.
_DIVIDER, _MASTER = ";", "master_name"

#: How options of TLS begin in the query of rediss://. No other query is read.
_TLS = "ssl_"


def broker_url(text: str) -> str:
    """Return the URL of a broker, or those of several sentinels; ValueError tells what is wrong and what to give."""
    schemes = ", ".join(f"{one}://" for one in REDIS + AMQP)
    parts = [checked(one, REDIS + AMQP, f"is no broker; give {schemes} and a host") for one in text.split(_DIVIDER)]
    kinds = {part.scheme for part in parts}
    if len(parts) > 1 and kinds != {"sentinel"}:
        raise ValueError("are several brokers; only sentinels may be several")
    if "sentinel" in kinds and not _master(text):
        raise ValueError(f"does not say which Redis the sentinel knows; give sentinel://HOST:26379/0?{_MASTER}=NAME")
    for part in parts:
        if any(not _is_read(part.scheme, name) for name in parse_qs(part.query, keep_blank_values=True)):
            raise ValueError("has a query that is not read; give the URL without it")
    return text


def _is_read(scheme: str, name: str) -> bool:
    """Return whether this in the query of a URL means anything."""
    return name.startswith(_TLS) if scheme == "rediss" else scheme == "sentinel" and name == _MASTER


def open_url(text: str) -> str:
    """Return the URL of a broker without a password. Raises HoldsSecret, ValueError."""
    passwords = [urlsplit(one).password for one in broker_url(text).split(_DIVIDER)]
    refuse_secret(next((one for one in passwords if one is not None), None), "a password", "--celery-file")
    return text


def _master(url: str) -> str:
    """Return the name under which a sentinel knows its Redis, "" for none."""
    return parse_qs(urlsplit(url.rsplit(_DIVIDER, maxsplit=1)[-1]).query).get(_MASTER, [""])[0]


class Broker:
    """Puts messages into a queue of the broker at `url`. Not for several threads."""

    def __init__(self, url: str, queue: str) -> None:
        self._make = _celery()
        self._url, self._queue = url, queue
        self._app: Any = None
        self._failures: tuple[type[Exception], ...] = ()
        self.shown = ", ".join(map(shown, url.split(_DIVIDER)))

    def send(self, arguments: dict[str, Any]) -> None:
        """Put a message into the queue. Raises NotTaken unless the broker answered that it has it."""
        if self._app is None:
            self._app = self._open()
            self._failures = self._errors(self._app)
        try:
            self._app.send_task(TASK, kwargs=arguments, queue=self._queue, retry=False, ignore_result=True)
        except self._failures as error:
            self.close()  # The next attempt begins with a new connection.
            raise NotTaken(f"{self.shown}: {reason_of(error)}") from None

    def check(self) -> None:
        """Raise NotTaken where the broker cannot be reached."""
        app = self._open()
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(**_ONCE, timeout=_CONNECT)
                connection.default_channel.close()
        except self._errors(app) as error:
            raise NotTaken(f"{self.shown}: {reason_of(error)}") from None
        finally:
            app.close()

    def close(self) -> None:
        """Close the connections."""
        if self._app is not None:
            self._app.close()
            self._app = None

    def _open(self) -> Any:
        # The name of a sentinel's Redis is an option of its own there, and no part of the URL.
        url = self._url.partition("?")[0] if _master(self._url) else self._url
        app = self._make(broker=url, set_as_current=False, fixups=[])
        # Attempts and their pauses are the delivery's, in the ledger.
        app.conf.broker_connection_retry = False
        app.conf.broker_transport_options = self._transport()
        app.conf.broker_use_ssl = self._tls()
        return app

    def _tls(self) -> dict[str, Any] | None:
        """Return what makes the library look at the broker's certificate and at the name in it, which it does not do by
        itself. What the URL of a Redis says of TLS comes before this.
        """
        parts = urlsplit(self._url)
        found: dict[str, dict[str, Any]] = {
            "rediss": {"ssl_cert_reqs": ssl.CERT_REQUIRED},
            "amqps": {"server_hostname": parts.hostname, "cert_reqs": ssl.CERT_REQUIRED},
        }
        return found.get(parts.scheme)

    def _transport(self) -> dict[str, Any]:
        if urlsplit(self._url).scheme in AMQP:  # Without a confirmation a message may be lost behind the socket.
            return {
                **_ONCE,
                "confirm_publish": True,
                "connect_timeout": _CONNECT,
                "read_timeout": _ANSWER,
                "write_timeout": _ANSWER,
            }
        named = {_MASTER: master} if (master := _master(self._url)) else {}
        waits = {"socket_connect_timeout": _CONNECT, "socket_timeout": _ANSWER, "retry_on_timeout": False}
        return {**_ONCE, **waits, **named}

    @staticmethod
    def _errors(app: Any) -> tuple[type[Exception], ...]:
        from kombu.exceptions import KombuError

        connection = app.connection_for_write()
        return (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)


def _celery() -> Callable[..., Any]:
    """Return the class Celery. Raises ConfigError without the extra."""
    try:
        from celery import Celery  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(["--celery needs the extra 'chris': pip install 'dicom-listener[chris]'"]) from None
    made: Callable[..., Any] = Celery
    return made
