"""PURE. Evidence as a page for a privacy board: one file, without scripts and without anything that is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; width: 100%; margin: 0 0 2rem; }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid #ccc; padding: .3rem .8rem .3rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { overflow-wrap: anywhere; }
"""


def page(evidence: Mapping[str, Any]) -> str:
    """Return evidence as HTML."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>De-identification: evidence</title>',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>De-identification: evidence</h1>",
        "<p>This page holds no patient data, and no link from an original to what stands in its place.</p>",
        "<h2>How it was done</h2>",
        _facts(evidence),
        "<h2>What became of it</h2>",
        _counts(evidence),
        "<h2>What verification looks for, and found</h2>",
        f"<p>{escape(evidence['verification']['looks_for'])}.</p>",
        f"<p>Units in which an original was found, and which were held: {evidence['verification']['found']}.</p>",
        "<h2>What is not done</h2>",
        "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in evidence["not_done"]) + "</ul>",
        "<h2>What was done, by attribute</h2>",
        _attributes(evidence["attributes"]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _facts(evidence: Mapping[str, Any]) -> str:
    recipes = [f"{one['name']} ({one['sha256']})" for one in evidence["recipes"]]
    rows = {
        "written": evidence["time"],
        "since": evidence["since"] or "the beginning",
        "program": f"listener {evidence['version']}",
        "profile": evidence["profile"],
        "SHA-256 of its table": evidence["table_sha256"],
        "options": ", ".join(evidence["options"]) or "none",
        "recipes, with their SHA-256": ", ".join(recipes) or "none",
        "fingerprint of the key": evidence["key"],
    }
    cells = "".join(_fact(name, str(text)) for name, text in rows.items())
    return f"<table>{cells}</table>"


def _fact(name: str, text: str) -> str:
    return f"<tr><th scope=row>{escape(name)}</th><td><code>{escape(text)}</code></td></tr>"


def _counts(evidence: Mapping[str, Any]) -> str:
    rows = [("units that were handed over", "", evidence["units"]), ("instances that passed", "", evidence["passed"])]
    rows += [
        (kind, reason, number)
        for kind, name in (("left out by a recipe", "filtered"), ("held", "held"), ("released by a person", "released"))
        for reason, number in evidence[name].items()
    ]
    return _table(("what", "why", "number"), rows)


def _attributes(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(("tag", "attribute", "action", "number"), [tuple(row.values()) for row in rows])


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th scope=col>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return f"<td class=number>{value}</td>" if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
