"""The chart, installed: intake through the Service, monitoring, upgrades and deletions under load, full volumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from tests.accounting import account, as_stored, read_tree
from tests.authority import Authority
from tests.chart_values import SETS
from tests.cluster import senders
from tests.cluster.kube import CHART, Failed, Namespace, run
from tests.dicomnet import accepts, free_port
from tests.service_process import Places
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("cluster")]

#: The first release, which most tests use one after the other; its name is the name of its objects.
MAIN = "listener"
POD = f"{MAIN}-0"

MONITORING: dict[str, Any] = {
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}


@pytest.fixture(scope="module")
def installed(namespace: Namespace) -> Namespace:
    """The chart is installed and ready."""
    namespace.deploy(MAIN, MONITORING)
    return namespace


def places(base: Path) -> Places:
    return Places(base, (base / "incoming",), base / "data", base / "log", base / "state")


def accounted(namespace: Namespace, pod: str, base: Path, expected: Mapping[str, Path]) -> None:
    """Everything acknowledged is in the pod's tree once and whole, described, and nothing is left over. Associations
    that were cut may have left a file that was never acknowledged.
    """
    namespace.until_idle(pod)
    namespace.fetch(pod, base)
    account(
        places(base),
        as_stored(read_tree(places(base)), expected.values()),
        allowed=("incomplete", "empty", "not-dicom"),
    )


def test_the_namespace_enforces_the_restricted_level(namespace: Namespace) -> None:
    container = {"name": "x", "image": "localhost/listener:test", "securityContext": {"privileged": True}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    with pytest.raises(Failed, match="violates PodSecurity"):
        namespace.apply(pod)


def test_everything_is_admitted_and_runs(installed: Namespace) -> None:
    for kind in ("networkpolicy", "podmonitor", "prometheusrule"):
        assert installed.get(kind, MAIN)["metadata"]["name"] == MAIN
    dashboard = installed.get("configmap", f"{MAIN}-dashboard")["data"][f"{MAIN}.json"]
    assert json.loads(dashboard)["panels"]
    pod = installed.get("pod", POD)
    assert installed.is_ready(POD)
    assert [one["restartCount"] for one in pod["status"]["containerStatuses"]] == [0]
    # Native sidecar: the listener was ready to watch before storescp began.
    listener, storescp = pod["status"]["initContainerStatuses"][0], pod["status"]["containerStatuses"][0]
    assert listener["state"]["running"]["startedAt"] <= storescp["state"]["running"]["startedAt"]


@pytest.mark.parametrize("name", SETS)
def test_every_set_of_values_is_admitted(installed: Namespace, name: str) -> None:
    """By the API server itself and the monitoring CRDs, field by field; nothing is kept of it."""
    version = json.loads(installed.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    values = ("--kube-version", version, "-f", _values(installed, name))
    rendered = installed.helm("template", "other", str(CHART), *values).encode()
    installed.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=rendered)


def _values(namespace: Namespace, name: str) -> str:
    path = namespace.scratch / f"{name}.yaml"
    path.write_text(yaml.safe_dump(SETS[name]))
    return str(path)


def test_check_finds_nothing_in_the_way(installed: Namespace) -> None:
    lines = [json.loads(line) for line in installed.run_in(POD, "listener", "check", "--json").splitlines()]
    assert not [line for line in lines if line["level"] == "problem"]
    texts = " ".join(line["text"] for line in lines)
    assert "published by a link" in texts
    assert "the kernel tells whether a file is still open" in texts
    assert "with options that fit" in texts, "shareProcessNamespace lets it see storescp"


def test_instances_come_through_the_service(installed: Namespace, tmp_path: Path) -> None:
    senders.start(installed, "first", 20, MAIN)
    senders.until_acknowledged(installed, ["first"], 20)
    accounted(installed, POD, tmp_path / "volume", senders.expected("first", 20, tmp_path))
    senders.remove(installed, ["first"])


@contextmanager
def prometheus(namespace: Namespace, folder: Path) -> Iterator[str]:
    """A Prometheus that discovers the namespace's pods, with the rules of the PrometheusRule; its address."""
    rule = namespace.get("prometheusrule", MAIN)["spec"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rule))
    discovery = {"role": "pod", "kubeconfig_file": os.environ["KUBECONFIG"], "namespaces": {"names": [namespace.name]}}
    relabel = [
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    job = {"job_name": "listener", "kubernetes_sd_configs": [discovery], "relabel_configs": relabel}
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": [job]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(120)


def _asked(address: str) -> Any:
    try:
        with urllib.request.urlopen(address, timeout=120) as answer:  # noqa: S310 - our own
            return json.load(answer)["data"]
    except OSError as error:
        raise AssertionError(str(error)) from None


def test_prometheus_discovers_the_pod_and_loads_the_rules(installed: Namespace, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus with Kubernetes discovery on PATH")
    with prometheus(installed, tmp_path) as address:
        query = f"{address}/api/v1/query?query=listener_ready"

        def scraped() -> Any:
            return _asked(query)["result"]

        try:
            (found,) = until(scraped, 30, what="listener_ready is scraped")
        except AssertionError as error:
            if "kubernetes_sd" in (tmp_path / "log").read_text():
                pytest.skip("this prometheus is built without Kubernetes discovery")
            raise AssertionError(f"{error}\n{(tmp_path / 'log').read_text()[-2000:]}") from None
        assert found["metric"]["pod"] == POD
        assert found["metric"]["namespace"] == installed.name
        assert found["value"][1] == "1"
        (group,) = until(lambda: _asked(f"{address}/api/v1/rules")["groups"], 10, what="the rules are loaded")

        def evaluated() -> bool:
            rules = _asked(f"{address}/api/v1/rules")["groups"][0]["rules"]
            return all(rule["health"] == "ok" for rule in rules)

        until(evaluated, 20, what="every rule is evaluated")
        assert len(group["rules"]) >= 15
        alerts = _asked(f"{address}/api/v1/alerts")["alerts"]
        assert not [alert["labels"] for alert in alerts if alert["state"] == "firing"]


def test_the_page_is_seen_by_whom_the_cluster_lets_through(installed: Namespace) -> None:
    """Without tokens nobody outside of the pod may look; a forwarded port ends inside of it."""
    port = free_port()
    command = ["kubectl", "-n", installed.name, "port-forward", f"pod/{POD}", f"{port}:9464"]
    forwarding = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port), 20, what="the port is forwarded")
        assert "<title>" in run(["curl", "-sS", "--fail", f"http://localhost:{port}/"]).decode()
    finally:
        forwarding.terminate()
        forwarding.wait(120)
    address = installed.get("pod", POD)["status"]["podIP"]
    assert run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:9464/"]) == b"401"


def test_helm_test(installed: Namespace) -> None:
    told = installed.helm("test", MAIN, "--timeout", "500s")
    assert "Phase:          Succeeded" in told
    assert "repacked and counted" in installed.logs(f"{MAIN}-test", "after")


def test_upgrade_and_deletion_under_load_lose_nothing(installed: Namespace, tmp_path: Path) -> None:
    seeds, files = [f"load{number}" for number in range(4)], 250
    installed.fetch(POD, tmp_path / "before")
    for seed in seeds:
        senders.start(installed, seed, files, MAIN)
    senders.until_acknowledged(installed, seeds, 20)
    installed.deploy(MAIN, {**MONITORING, "podAnnotations": {"upgraded": "once"}}, wait=False)
    installed.kubectl("rollout", "status", f"statefulset/{MAIN}", "--timeout=500s")
    assert installed.get("pod", POD)["metadata"]["annotations"]["upgraded"] == "once"
    senders.until_acknowledged(installed, seeds, 60)
    installed.kubectl("delete", "pod", POD, "--grace-period=0", "--force")
    installed.kubectl("rollout", "status", f"statefulset/{MAIN}", "--timeout=500s")
    senders.until_acknowledged(installed, seeds, 120)
    installed.kubectl("delete", "pod", POD)
    senders.until_acknowledged(installed, seeds, files, 180)
    until(lambda: installed.is_ready(POD), 60, what="the pod is ready again")
    everything = {one.SOPInstanceUID: one.path for one in read_tree(places(tmp_path / "before")).instances}
    for seed in seeds:
        everything |= senders.expected(seed, files, tmp_path)
    accounted(installed, POD, tmp_path / "volume", everything)
    senders.remove(installed, seeds)


def test_two_shards_share_the_work(installed: Namespace, tmp_path: Path) -> None:
    installed.deploy(MAIN, {**MONITORING, "replicas": 2})
    seeds, files = [f"shards{number}" for number in range(4)], 50
    for seed in seeds:
        senders.start(installed, seed, files, MAIN)
    senders.until_acknowledged(installed, seeds, files)
    wanted: dict[str, Path] = {}
    for seed in seeds:
        wanted |= senders.expected(seed, files, tmp_path)
    for pod in (POD, f"{MAIN}-1"):
        installed.until_idle(pod)
        installed.fetch(pod, tmp_path / pod)
        tree = read_tree(places(tmp_path / pod))
        assert not tree.strange
        here = {one.SOPInstanceUID: one.digest for one in tree.instances if one.SOPInstanceUID in wanted}
        assert here, f"{pod} got nothing"
        assert as_stored(tree, [wanted.pop(uid) for uid in here]) == here
    assert not wanted, "in no tree"
    senders.remove(installed, seeds)


def test_a_claim_grows_while_the_pod_goes_on(installed: Namespace) -> None:
    """As docs/deployment.md says; whether the volume grows is its driver's matter, and there is none here."""
    before = installed.get("pod", POD)["metadata"]["uid"]
    wanted = json.dumps({"spec": {"resources": {"requests": {"storage": "200Mi"}}}})
    installed.kubectl("patch", "pvc", f"dicom-{POD}", "--type", "merge", "--patch", wanted)
    values = {**MONITORING, "replicas": 2, "persistence": {"size": "200Mi"}}
    with pytest.raises(Failed, match="updates to statefulset spec"):
        installed.deploy(MAIN, values)
    installed.kubectl("delete", "statefulset", MAIN, "--cascade=orphan")
    installed.deploy(MAIN, values)
    (template,) = installed.get("statefulset", MAIN)["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "200Mi"
    assert installed.get("pod", POD)["metadata"]["uid"] == before
    assert installed.is_ready(POD)


def test_uninstall_keeps_the_claims(installed: Namespace, tmp_path: Path) -> None:
    before = installed.metric(POD, "ready")
    installed.helm("uninstall", MAIN, "--wait")
    claims = {one["metadata"]["name"]: one["status"]["phase"] for one in installed.get("pvc")["items"]}
    claims = {name: phase for name, phase in claims.items() if name.startswith("dicom-")}  # Others hold archives.
    assert claims == {f"dicom-{MAIN}-0": "Bound", f"dicom-{MAIN}-1": "Bound"}
    installed.deploy(MAIN, MONITORING)
    assert before == installed.metric(POD, "ready") == 1
    installed.fetch(POD, tmp_path / "volume")
    tree = read_tree(places(tmp_path / "volume"))
    assert senders.expected("first", 20, tmp_path).keys() <= {one.SOPInstanceUID for one in tree.instances}
    installed.helm("uninstall", MAIN, "--wait")


def test_a_full_volume_leaves_the_service_and_comes_back(namespace: Namespace) -> None:
    small = f"{namespace.storage}-small"
    try:
        namespace.kubectl("get", "pv", small)
    except Failed:
        pytest.skip("no small volume that could be filled (needs a loop mount on a node that is this machine)")
    namespace.deploy("small", {"persistence": {"storageClass": small}, "fullnameOverride": "small"})
    until(lambda: _addresses(namespace) == 1, 30, what="the pod is in the Service")
    namespace.run_in(
        "small-0", "sh", "-c", "fallocate -l $(($(df -B1 --output=avail /dicom | tail -1) - 8388608)) /dicom/filler"
    )
    until(lambda: not namespace.is_ready("small-0"), 30, what="the pod is not ready")
    until(lambda: _addresses(namespace) == 0, 30, what="the pod has left the Service")
    told = json.loads(namespace.page("small-0", "/readyz"))["checks"]["space"]
    assert not told["ok"]
    assert "make room" in told["text"]
    senders.start(namespace, "full", 3, "small")
    until(lambda: "again" in namespace.logs("sender-full", "send"), 60, what="the sender is refused")
    assert senders.acknowledged(namespace, "full") == 0, "nothing is acknowledged that could not be kept"
    namespace.run_in("small-0", "rm", "/dicom/filler")
    until(lambda: _addresses(namespace) == 1, 30, what="the pod is in the Service again")
    senders.until_acknowledged(namespace, ["full"], 3, 60)
    statuses = namespace.get("pod", "small-0")["status"]
    assert statuses["initContainerStatuses"][0]["restartCount"] == 0, "not ready is no reason to restart"
    senders.remove(namespace, ["full"])
    namespace.helm("uninstall", "small", "--wait")


def _addresses(namespace: Namespace) -> int:
    """Pods that the Service leads to."""
    slices = namespace.get("endpointslices", "-l", "kubernetes.io/service-name=small")["items"]
    ends = [one for each in slices for one in each.get("endpoints") or []]
    return sum(bool(one["conditions"].get("ready")) for one in ends)


def test_the_page_behind_a_token_and_both_ports_by_tls(namespace: Namespace, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    host = f"guarded-page-0.{namespace.name}.svc"
    namespace.secret("guarded-tls", authority.certify("guarded", host))
    first = _token(namespace, tmp_path)
    secret = {"secretName": "guarded-tls"}
    values = {
        "fullnameOverride": "guarded",
        "persistence": {"enabled": False},
        "listener": {"tokens": {"secretName": "guarded-tokens"}, "tls": secret},
        "storescp": {"tls": secret},
        "page": {"enabled": True, "port": 443},
    }
    notes = namespace.deploy("guarded", values)
    assert "https://localhost:8080/" in notes
    address = namespace.get("service", "guarded-page-0")["spec"]["clusterIP"]
    asked = ["curl", "-sS", "--resolve", f"{host}:443:{address}", "-o", "/dev/null", "-w", "%{http_code}"]

    def status(path: str, *more: str) -> int:
        return int(run([*asked, "--cacert", str(authority.folder / "ca.crt"), *more, f"https://{host}{path}"]))

    until(lambda: status("/metrics") == 200, 30, what="the Service leads to the pod")
    with pytest.raises(Failed, match="certificate"):
        run([*asked, f"https://{host}/"])
    for path in ("/", "/api/v1/status"):
        assert status(path) == status(path, "-u", f"anna:{'x' * 64}") == 401
        assert status(path, "-u", f"anna:{first}") == status(path, "-H", f"Authorization: Bearer {first}") == 200
    told = namespace.helm("test", "guarded", "--timeout", "500s")
    assert "Phase:          Succeeded" in told, "sent by TLS, counted by HTTPS"
    second = _token(namespace, tmp_path)
    until(lambda: status("/", "-u", f"anna:{second}") == 200, 150, what="the new token is taken")
    assert status("/", "-u", f"anna:{first}") == 401, "the old one is not"
    listener = namespace.get("pod", "guarded-0")["status"]["initContainerStatuses"][0]
    assert listener["restartCount"] == 0
    namespace.helm("uninstall", "guarded", "--wait")


#: Prints the body of each POST and whether it was signed.
_STAGE = """
import http.server
class Stage(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).decode()
        print(bool(self.headers['webhook-signature']), self.headers['X-Site'], body, flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        "Standard error may come before what was printed: the log holds that alone."
http.server.HTTPServer(('', 8080), Stage).serve_forever()
"""


def test_a_hook_is_told_of_a_study_signed(namespace: Namespace, tmp_path: Path) -> None:
    namespace.apply(*senders.server("stage", _STAGE, 8080))
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/key").write_text(token_hex(32))
    (tmp_path / "hook/headers").write_text("X-Site: north\n")
    namespace.secret("hook", tmp_path / "hook")
    hook = {"events": ["study-complete"], "secret-file": "/run/secrets/hook/key"}
    values = {
        "fullnameOverride": "telling",
        "persistence": {"enabled": False},
        "networkPolicy": {"enabled": True},
        "listener": {
            "options": {"series-quiet": 2, "study-quiet": 1},
            "hooks": {"stage": {"url": "http://stage:8080/", "headers-from": "/run/secrets/hook/headers", **hook}},
            "secrets": ["hook"],
        },
    }
    namespace.deploy("telling", values)
    senders.start(namespace, "told", 3, "telling")
    senders.until_acknowledged(namespace, ["told"], 3)
    told = until(lambda: namespace.logs("stage", "stage").splitlines(), 60, what="the stage is told")
    signed, site, body = told[0].split(" ", 2)
    assert (signed, site) == ("True", "north")
    assert json.loads(body)["event"] == "study-complete"
    namespace.helm("uninstall", "telling", "--wait")
    namespace.kubectl("delete", "pod/stage", "service/stage")
    senders.remove(namespace, ["told"])


def _token(namespace: Namespace, folder: Path) -> str:
    """A new token of anna's, which the Secret holds alone."""
    made = token_hex(32)
    (folder / "secret").mkdir(exist_ok=True)
    (folder / "secret/tokens").write_text(f"anna:{made}\n")
    namespace.secret("guarded-tokens", folder / "secret")
    return made


def test_a_wrong_option_is_told_in_the_pod_s_status(namespace: Namespace) -> None:
    """The pod is not ready, storescp takes nothing, and one line says what to mend."""
    values = {
        "persistence": {"enabled": False},
        "listener": {"options": {"root-template": "%_foo|3_PatientID"}},
        "fullnameOverride": "wrong",
    }
    notes = namespace.deploy("wrong", values, wait=False)
    assert "WARNING: persistence.enabled is off" in notes
    assert "exec wrong-0 -c listener -- listener check" in notes

    def message() -> str:
        statuses = namespace.get("pod", "wrong-0")["status"].get("initContainerStatuses", [{}])
        found = [statuses[0].get(key, {}).get("terminated", {}).get("message", "") for key in ("state", "lastState")]
        return "".join(found)

    told = until(message, 60, what="the status tells why")
    assert told.strip().startswith("listener: LISTENER_ROOT_TEMPLATE")
    pod = namespace.get("pod", "wrong-0")
    assert not namespace.is_ready("wrong-0")
    assert "running" not in pod["status"]["containerStatuses"][0]["state"], "storescp waits for its listener"
    namespace.helm("uninstall", "wrong")
