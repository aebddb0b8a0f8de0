"""CUBE's task queue: a message a series, put there by Celery itself, as oxidicom's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from listener.errors import ConfigError, NotTaken
from listener.notify.addresses import checked, reason_of, refuse_secret, shown
from listener.notify.registration import TASK

#: Schemes of brokers that can be used.
REDIS, AMQP = ("redis", "rediss", "sentinel"), ("amqp", "amqps")

#: Seconds to wait for a connection, and for an answer.
_CONNECT, _ANSWER = 5.0, 10.0


def broker_url(text: str) -> str:
    """Return the URL of a broker; ValueError tells what is wrong and what to give."""
    checked(text, REDIS + AMQP, f"is no broker; give {', '.join(f'{one}://' for one in REDIS + AMQP)} and a host")
    return text


def open_url(text: str) -> str:
    """Return the URL of a broker without a password. Raises HoldsSecret, ValueError."""
    refuse_secret(urlsplit(broker_url(text)).password, "a password", "--celery-file")
    return text


class Broker:
    """Puts messages into a queue of the broker at `url`. Not for several threads."""

    def __init__(self, url: str, queue: str) -> None:
        self._make = _celery()
        self._url, self._queue = url, queue
        self._app: Any = None
        self.shown = shown(url)

    def send(self, arguments: dict[str, Any]) -> None:
        """Put a message into the queue. Raises NotTaken unless the broker answered that it has it."""
        app = self._app = self._app or self._open()
        errors = self._errors(app)
        try:
            app.send_task(TASK, kwargs=arguments, queue=self._queue, retry=False, ignore_result=True)
        except errors as error:
            self.close()  # The next attempt begins with a new connection.
            raise NotTaken(f"{self.shown}: {reason_of(error)}") from None

    def check(self) -> None:
        """Raise NotTaken where the broker cannot be reached."""
        app = self._open()
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=_CONNECT)
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
        app = self._make(broker=self._url, set_as_current=False, fixups=[])
        # Attempts and their pauses are the delivery's, in the ledger.
        app.conf.broker_connection_retry = False
        app.conf.broker_transport_options = self._transport()
        return app

    def _transport(self) -> dict[str, Any]:
        if urlsplit(self._url).scheme in AMQP:  # Without a confirmation a message may be lost behind the socket.
            return {
                "confirm_publish": True,
                "connect_timeout": _CONNECT,
                "read_timeout": _ANSWER,
                "write_timeout": _ANSWER,
            }
        return {"socket_connect_timeout": _CONNECT, "socket_timeout": _ANSWER, "retry_on_timeout": False}

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
