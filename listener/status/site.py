"""PURE. What frames the pages of a program: its name, its pages, the package of its templates."""

from __future__ import annotations

from typing import NamedTuple


class Site(NamedTuple):
    """`pages` are in the navigation and `links` in the footer, by path; templates that `package` lacks are those of
    listener.status.
    """

    name: str
    package: str
    pages: tuple[tuple[str, str], ...]
    links: tuple[str, ...]


#: The pages of `listener run`.
COLLECTION = Site(
    "listener",
    "listener.status",
    (
        ("/", "Overview"),
        ("/studies", "Studies"),
        ("/batches", "Batches"),
        ("/set-aside", "Set aside"),
        ("/hooks", "Hooks"),
    ),
    ("/api/v1/status", "/api/v1/openapi.json", "/metrics", "/readyz"),
)
