"""A real Prometheus on the loopback interface, and what it says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.dicomnet import free_port, stop
from tests.waiting import until

#: How often it scrapes and looks at its rules, in seconds.
INTERVAL = 1

#: One series of an answer: its labels, and (time, value) pairs.
Series = tuple[dict[str, str], list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    port: int
    output: Path

    def _ask(self, path: str, **parameters: object) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=120) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """An instant query."""
        data = self._ask("query", query=expression, **({} if at is None else {"time": at}))
        return [(one["metric"], [_pair(one["value"])]) for one in data["result"]]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """A range query, as a graph asks it."""
        data = self._ask("query_range", query=expression, start=start, end=end, step=step)
        return [(one["metric"], [_pair(pair) for pair in one["values"]]) for one in data["result"]]

    def value(self, expression: str) -> float | None:
        """The single number of an instant query; None where there is none."""
        found = self.query(expression)
        return found[0][1][0][1] if found else None

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values of a label, as Grafana asks for a variable's."""
        found: list[str] = self._ask(f"label/{label}/values", **{"match[]": selector})
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def _pair(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


#: Alerts that look at the disks of the machine, which are not the scene's.
_OF_THE_MACHINE = ("ListenerVolumeAlmostFull", "ListenerVolumeInodesLow", "ListenerVolumeFillingUp")


def hastened(rules: str, seconds: int = 2, window: int = 15, **thresholds: float) -> str:
    """A rules file in which alerts wait for `seconds` only and look back over `window` seconds, for who cannot wait.

    Those that look at the machine's disks are left out. `thresholds`: by alert name without prefix, what stands behind
    the last comparison instead.
    """
    document = yaml.safe_load(rules)
    (group,) = document["groups"]
    group["rules"] = [rule for rule in group["rules"] if rule["alert"] not in _OF_THE_MACHINE]
    for rule in group["rules"]:
        rule["for"] = f"{seconds}s"
        rule["expr"] = re.sub(r"\[\d+m\]", f"[{window}s]", rule["expr"])
        name = rule["alert"].removeprefix("Listener")
        if name in thresholds:
            rule["expr"] = re.sub(r"([<>]) \d+$", rf"\1 {thresholds[name]:g}", rule["expr"])
    return str(yaml.safe_dump(document, sort_keys=False))


@contextmanager
def prometheus(
    folder: Path,
    target: str,
    rules: str,
    labels: Mapping[str, str] | None = None,
    jobs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Prometheus]:
    """A server that scrapes `target` (ADDR:PORT) as the job `listener`, or as `jobs` with what each has besides.

    It is stopped when the block is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(rules)
    targets = [{"targets": [target], "labels": dict(labels or {})}]
    scrapes = [{"job_name": name, "static_configs": targets, **how} for name, how in (jobs or {"listener": {}}).items()]
    pace = {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"}
    config = {"global": pace, "rule_files": ["rules.yaml"], "scrape_configs": scrapes}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    server = Prometheus(port, folder / "prometheus.txt")
    with server.output.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, process_group=0, cwd=folder
        )
    try:
        until(lambda: process.poll() is not None or _ready(port), 20, what="Prometheus is ready")
        assert process.poll() is None, server.output.read_text()
        yield server
    finally:
        stop(process)


def _ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
