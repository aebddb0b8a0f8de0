"""The plain rules file, made from the chart's alerts and the thresholds of its values: `make docs`.

The chart does the same in helm/listener/templates/_rules.tpl; a test holds that both give the same alerts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "helm/listener"
PLAIN = CHART / "rules/listener.rules.yaml"

PREFIX = "Listener"

#: An alert's values that are not words of its texts.
_SWITCHES = ("enabled", "severity")

_HEAD = """\
# Made of alerts.yaml and the chart's values by `make docs`: change those. For a Prometheus without the operator.
"""

Alerts = dict[str, dict[str, str]]


def alerts() -> Alerts:
    """The alerts as they are written: name without prefix -> expr, summary and description, with placeholders."""
    written: Alerts = yaml.safe_load((CHART / "rules/alerts.yaml").read_text(encoding="utf-8"))
    return written


def defaults() -> dict[str, Any]:
    """The chart's `prometheusRule`: `alerts` and `runbookUrl`."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["prometheusRule"]
    return values


def filled(text: str, words: Mapping[str, object], selector: str = "") -> str:
    """A text with its placeholders replaced; without a selector no braces are left over."""
    text = text.replace("$selector", selector)
    for word, value in words.items():
        text = text.replace(f"${word}", str(value))
    return text if selector else re.sub(r"(?<!\{)\{\}(?!\})", "", text).replace(",}", "}")


def release(namespace: str, fullname: str) -> str:
    """The selector by which a release's rules keep to its own pods."""
    return f'namespace="{namespace}",pod=~"{fullname}-.*"'


def rules(settings: Mapping[str, Any], selector: str = "") -> dict[str, Any]:
    """The rules file of these settings (see defaults()), as Prometheus reads it."""
    made = []
    for name, alert in alerts().items():
        own = settings["alerts"][name]
        if not own["enabled"]:
            continue
        words = {word: value for word, value in own.items() if word not in _SWITCHES}
        made.append(
            {
                "alert": f"{PREFIX}{name}",
                "expr": filled(alert["expr"], words, selector),
                "for": own["for"],
                "labels": {"severity": own["severity"]},
                "annotations": {
                    "summary": filled(alert["summary"], words),
                    "description": filled(alert["description"], words),
                    "runbook_url": f"{settings['runbookUrl']}#{PREFIX.lower()}{name.lower()}",
                },
            }
        )
    return {"groups": [{"name": "listener", "rules": made}]}


def plain(settings: Mapping[str, Any]) -> str:
    """The text of the plain rules file."""
    return _HEAD + yaml.safe_dump(rules(settings), sort_keys=False, width=100, allow_unicode=True)


def main() -> int:
    """Write the plain rules file when it is out of date."""
    text = plain(defaults())
    if not PLAIN.exists() or PLAIN.read_text(encoding="utf-8") != text:
        PLAIN.write_text(text, encoding="utf-8")
        print(f"{PLAIN.relative_to(CHART.parent.parent)} was written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
