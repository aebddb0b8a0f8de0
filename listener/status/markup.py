"""PURE. HTML and SVG from elements: whatever is not made here is escaped, so that no text can become markup."""

from __future__ import annotations

from html import escape

from listener.status.readable import plain

#: Elements that have no content and no end.
_VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """Markup that was made by element() or is a constant of ours; everything else is text."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value as text, escaped; what cannot be seen is shown as such."""
    return value if isinstance(value, Html) else Html(escape(plain(str(value))))


def together(*parts: object) -> Html:
    """Parts one after another."""
    return Html("".join(map(text, parts)))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. An underscore in an attribute's name is a hyphen, one at its end is dropped (`class_`); None and
    False leave the attribute out, True gives it no value.
    """
    given = ((key, value) for key, value in attributes.items() if not (value is None or value is False))
    shown = "".join(_attribute(key, value) for key, value in given)
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{together(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(plain(str(value)))}"'
