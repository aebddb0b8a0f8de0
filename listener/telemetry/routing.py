"""Which route answers a request, and that something does whatever the route raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from listener.telemetry.pages import METHODS, Request, Response, refusal, render

Route = Callable[[Request], Response]


class Router:
    """Routes by path; a path that ends in a slash (but for "/") stands for all that begins with it. `slow` ones may
    wait for a disk. `on_error` gets what a route raised (the peer gets 500 without details); it must not raise.
    """

    def __init__(
        self, routes: Mapping[str, Route], slow: Mapping[str, Route], on_error: Callable[[Exception], None]
    ) -> None:
        self._routes = {**routes, **slow}
        self._slow = frozenset(slow)
        self._on_error = on_error

    def is_slow(self, asked: Request | Response) -> bool:
        """Whether the answer may take its time."""
        return isinstance(asked, Request) and self._known(asked.path) in self._slow

    def answer(self, asked: Request | Response) -> bytes:
        """The bytes that answer a request, or that say a refusal."""
        if isinstance(asked, Response):
            return render(asked, Request("GET", ""))
        route = self._routes.get(self._known(asked.path))
        if route is None:
            return render(refusal(404), asked)
        if asked.method not in METHODS:
            return render(refusal(405), asked)
        try:
            return render(route(asked), asked)
        except Exception as error:  # noqa: BLE001 -- the boundary of the thread: one bad page must not end them all
            self._on_error(error)
            return render(refusal(500), asked)

    def _known(self, path: str) -> str:
        if path in self._routes:
            return path
        folder = path[: path.rfind("/") + 1]
        return folder if len(folder) > 1 else ""
