"""Pages that share a document: looked up once a second, made as often, framed by their site."""

from __future__ import annotations

from typing import Any

import pytest

from listener.status.document import LedgerView, document
from listener.status.rendering import Rendering
from listener.status.site import COLLECTION, Site
from listener.telemetry.http_messages import Request, Response

STAGE = Site("listener example", "listener.status", (("/", "Start"), ("/more", "More")), ("/metrics",))


class Looking:
    def __init__(self, site: Site = COLLECTION) -> None:
        self.looks = self.made = 0
        self.rendering = Rendering(site, self.look)

    def look(self) -> dict[str, Any]:
        self.looks += 1
        return document(None, None, LedgerView(), 1_700_000_000_000_000_000)

    def make(self, request: Request) -> Response:
        self.made += 1
        return self.rendering.missing(404, request, "Nothing is here")

    def ask(self, path: str) -> Response:
        return self.rendering.route(self.make)(Request("GET", path))


def test_a_page_is_made_once_a_second() -> None:
    looking = Looking()
    assert [looking.ask(path).status for path in ("/a", "/a", "/b")] == [404, 404, 404]
    assert (looking.looks, looking.made) == (1, 2)
    looking.rendering._made -= 2
    looking.ask("/a")
    assert (looking.looks, looking.made) == (2, 3)


def test_few_pages_are_kept() -> None:
    looking = Looking()
    for number in range(200):
        looking.ask(f"/{number}")
    assert len(looking.rendering._answers) <= 64


@pytest.mark.parametrize("site", [COLLECTION, STAGE])
def test_a_page_stands_in_the_frame_of_its_site(site: Site) -> None:
    body = Looking(site).ask("/x").body.decode()
    assert f'<a href="/">{site.name}</a>' in body
    for path, name in site.pages:
        assert f'<a href="{path}">{name}</a>' in body
    for path in site.links:
        assert f'<a href="{path}">{path}</a>' in body


def test_a_template_that_is_nowhere_is_an_error() -> None:
    looking = Looking()
    looking.rendering.document()
    with pytest.raises(FileNotFoundError):
        looking.rendering.page(200, "none", Request("GET", "/"))
