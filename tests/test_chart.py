"""The chart, rendered: with real helm 3 and 4, held to Kubernetes' own schemas, and refusing what cannot work."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import Any

import pytest
import yaml

from listener import config, settings
from listener.deidentify.options import DeidentifyOptions
from listener.export.options import ExportOptions
from listener.notify.options import NotifyOptions
from listener.route import routes_file
from listener.route.options import RouteOptions
from listener.serve.options import ServeOptions
from listener.stages import options as stage_options
from listener.storescp import RECOMMENDED
from tests import dicomnet
from tests.authority import Authority
from tests.chart_values import SETS
from tests.conftest import PROJECT, script
from tests.instances import write_instance
from tests.observing import rules

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chart")]

CHART = PROJECT / "helm/listener"
TOOLS = PROJECT / "build/tools"
HELMS = ("helm3", "helm4")


TOKENS = {"tokens": {"secretName": "tokens"}}
CERTIFICATES = {"tls": {"secretName": "tls", "clientCa": "ca.crt"}}

every_set = pytest.mark.parametrize("name", SETS)
every_helm = pytest.mark.parametrize("helm", HELMS)


@cache
def generator() -> ModuleType:
    return script("chart")


def tool(name: str) -> str:
    """A program that `make tools` fetched, or that is on PATH."""
    path = TOOLS / name
    found = str(path) if path.exists() else shutil.which(name.rstrip("34"))
    if not found:
        pytest.skip(f"{name} is not there (make tools)")
    return found


def run(*command: str, given: str = "", seconds: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)


@cache
def template(helm: str, values: str) -> subprocess.CompletedProcess[str]:
    return run(tool(helm), "template", "intake", str(CHART), "--namespace", "ns", "-f", "-", given=values)


def rendered(name: str, helm: str = "helm3") -> list[dict[str, Any]]:
    done = template(helm, yaml.safe_dump(SETS[name]))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = [each for each in yaml.safe_load_all(done.stdout) if each]
    # Helm 3 and 4 do not agree on the order of objects of one kind.
    found.sort(key=lambda each: (each["kind"], each["metadata"]["name"]))
    return found


def one(name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in rendered(name) if each["kind"] == kind]
    return found


def pods(name: str) -> Iterator[dict[str, Any]]:
    """The specs of all pods that a set of values makes."""
    for each in rendered(name):
        if each["kind"] in ("StatefulSet", "Job"):
            yield each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield each["spec"]


def listener_of(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == "listener"]
    return found


# -- generated parts --------------------------------------------------------------------------------------------------


def test_schema_and_readme_are_up_to_date() -> None:
    assert (CHART / "values.schema.json").read_text() == generator().schema_text(), "run `make docs`"
    readme = (CHART / "README.md").read_text()
    assert generator().renewed(readme) == readme, "run `make docs`"


def test_every_value_has_a_meaning() -> None:
    defaults, told = generator().values()
    untold = [key for key in defaults if key not in told and not isinstance(defaults[key], dict)]
    assert not untold
    assert set(generator().RULES) - {""} == {
        rule for rule in generator().RULES if rule.startswith(".") or _there(defaults, rule)
    }, "a rule for a value that is not there"


def _there(defaults: Any, path: str) -> bool:
    for key in path.split("."):
        if key not in defaults:
            return False
        defaults = defaults[key]
    return True


# -- helm's own judgement ---------------------------------------------------------------------------------------------


@every_helm
@every_set
def test_lint(helm: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(SETS[name]))
    done = run(tool(helm), "lint", "--strict", str(CHART), "-f", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@every_set
def test_both_helms_render_the_same(name: str) -> None:
    assert rendered(name, "helm3") == rendered(name, "helm4")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "replicas"),
        ({"listener": {"options": {"laiout": "px"}}}, "laiout"),
        ({"listener": {"options": {"incoming": "/x"}}}, "incoming"),
        ({"listener": {"image": {"tagg": "1"}}}, "tagg"),
        ({"listener": {"image": {"digest": "latest"}}}, "digest"),
        ({"service": {"type": "Ingress"}}, "type"),
        ({"storescp": {"port": 104}}, "port"),
        ({"uid": 0}, "uid"),
        ({"listener": {"options": {"token-file": "/x"}}}, "token-file"),
        ({"route": {"options": {"bussy": 1}}}, "bussy"),
        ({"notify": {"options": {"celery-file": "/x"}}}, "celery-file"),
        ({"serve": {"options": {"token-file": "/x"}}}, "token-file"),
        ({"export": {"options": {"uploads": "many"}}}, "uploads"),
        ({"page": {"type": "Ingress"}}, "type"),
        ({"listener": {"hooks": {"archive": {"uri": "https://x/"}}}}, "uri"),
        ({"listener": {"hooks": {"archive": {}}}}, "archive"),
        ({"listener": {"hooks": {"Archive": {"url": "https://x/"}}}}, "Archive"),
        ({"global": {"imageRegistry": 5}}, "imageRegistry"),
        ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "name"),
        ({"storescp": {"tls": {"peers": "perhaps"}}}, "peers"),
        ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
        ({"topologySpreadConstraints": [{"maxSkew": 1}]}, "topologyKey"),
        ({"extraObjects": [{"kind": "Secret"}]}, "apiVersion"),
        ({"persistence": {"size": "big"}}, "size"),
        ({"persistence": {"whenDeleted": "Remove"}}, "whenDeleted"),
        ({"prometheusRule": {"alerts": {"IngestStaled": {"threshold": 1}}}}, "IngestStaled"),
        ({"prometheusRule": {"alerts": {"IngestStalled": {"for": "soon"}}}}, "for"),
    ],
)
@every_helm
def test_the_schema_names_the_wrong_key(helm: str, values: dict[str, Any], key: str) -> None:
    done = template(helm, yaml.safe_dump(values))
    assert done.returncode != 0
    assert re.search(rf"\b{key}\b", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"terminationGracePeriodSeconds": 30}, "terminationGracePeriodSeconds (30) is too short"),
        ({"listener": {"options": {"drain": 300}}}, "give at least 312"),
        ({"replicas": 2, "persistence": {"existingClaim": "x"}}, "persistence.existingClaim is one volume"),
        ({"backfill": {"enabled": True, "sourceClaim": "a"}}, "give backfill.sourceClaim, which holds the archive"),
        (
            {"backfill": {"enabled": True, "sourceClaim": "a", "sharedClaim": "a"}},
            "incoming and tree must lie side by side",
        ),
        ({"listener": {"port": 11112}}, "listener.port and storescp.port are both 11112"),
        ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "scraped twice"),
        ({"page": {"enabled": True}}, "set listener.tokens.secretName, or listener.tls.secretName with"),
        ({"page": {"enabled": True}, "listener": {"tls": {"secretName": "x"}}}, "unless it is told who may look"),
        ({"listener": {"tls": {"clientCa": "ca.crt"}}}, "set listener.tls.secretName too"),
        ({"route": {"enabled": True, "routes": "x"}, "replicas": 2}, "shards would split studies between them"),
        ({"route": {"enabled": True}}, "route.routes is empty"),
        ({"notify": {"enabled": True}}, "notify.enabled, but nobody is to be told"),
        ({"serve": {"enabled": True}}, "set one of serve.tokens.secretName"),
        (
            {"serve": {"enabled": True, "options": {"no-token": True}, "tokens": {"secretName": "x"}}},
            "set one of serve.tokens.secretName",
        ),
        ({"serve": {"enabled": True, "tokens": {"secretName": "x"}}, "replicas": 2}, "a collection of its own"),
        (
            {"serve": {"enabled": True, "tokens": {"secretName": "x"}, "port": 9464}},
            "(9464, 11112, 9464, 9469) share the pod's address",
        ),
        (
            {"notify": {"enabled": True, "options": {"celery": "redis://x"}}},
            "set listener.options.layout to oxidicom",
        ),
        (
            {"notify": {"enabled": True, "options": {"nats": ["nats://x"], "cube": "http://x"}}},
            "notify.options.cube and notify.login.secretName: set both",
        ),
        (
            {"notify": {"enabled": True, "options": {"nats": ["nats://x"]}, "nats": {"secretName": "x"}}},
            "notify.nats.secretName and notify.options.nats: set one of them",
        ),
        (
            {"notify": {"enabled": True, "options": {"nats": ["nats://x"]}, "port": 9464}},
            "(9464, 11112, 9464) share the pod's address",
        ),
        ({"export": {"enabled": True}}, "set export.options.to"),
        ({"clean": {"enabled": True}}, "set clean.key.secretName"),
        (
            {"clean": {"enabled": True, "key": {"secretName": "k"}, "collection": {"port": 9466}}},
            "ports of listener, storescp, clean, clean.collection (9464, 11112, 9466, 9466) share the pod's address",
        ),
        (
            {
                "clean": {"enabled": True, "key": {"secretName": "k"}, "persistence": {"existingClaim": "c"}},
                "replicas": 2,
            },
            "clean.persistence.existingClaim is one volume",
        ),
        (
            {"export": {"enabled": True, "options": {"to": "s3://b"}, "port": 11112}},
            "ports of listener, storescp, export (9464, 11112, 11112) share the pod's address",
        ),
        (
            {"route": {"enabled": True, "routes": "x", "port": 9464}},
            "(9464, 11112, 9464, 11113) share the pod's address",
        ),
        ({"page": {"enabled": True}, "listener": {**TOKENS, "options": {"page": "off"}}}, "the option page is off"),
        ({"page": {"ingress": {"enabled": True}}, "listener": TOKENS}, "set that too"),
        (
            {"page": {"enabled": True, "ingress": {"enabled": True, "hosts": ["x"]}}, "listener": CERTIFICATES},
            "a client's certificate ends at the Ingress",
        ),
        (
            {
                "page": {"enabled": True, "ingress": {"enabled": True, "hosts": ["x"]}},
                "listener": TOKENS,
                "replicas": 2,
            },
            "page.ingress.hosts has 1 names for 2 shards",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_told(values: dict[str, Any], text: str) -> None:
    done = template("helm3", yaml.safe_dump(values))
    assert done.returncode != 0
    assert text in done.stderr


def test_an_older_kubernetes_is_refused() -> None:
    done = run(tool("helm3"), "template", "intake", str(CHART), "--kube-version", "1.28.0")
    assert done.returncode != 0
    assert ">=1.29.0-0" in done.stderr


# -- other judges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(29, 38)])
def test_it_fits_the_schemas_of_kubernetes(version: str, tmp_path: Path) -> None:
    for name in SETS:
        theirs = [each for each in rendered(name) if "monitoring.coreos.com" not in each["apiVersion"]]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(theirs))
    files = map(str, tmp_path.glob("*.yaml"))
    done = run(tool("kubernetes-validate"), "--kubernetes-version", version, "--strict", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") >= len(SETS), done.stdout


def test_yamllint() -> None:
    rules = (
        "{extends: default, rules: {line-length: {max: 130}, document-start: disable, braces: {max-spaces-inside: 1}}}"
    )
    files = [CHART / "Chart.yaml", CHART / "values.yaml", *PROJECT.glob("compose*.yaml"), *CHART.glob("ci/*.yaml")]
    done = run(tool("yamllint"), "--strict", "-d", rules, *map(str, files))
    assert done.returncode == 0, done.stdout


#: What checkov asks for and we do not do, and why.
REFUSED = {
    "CKV_K8S_11": "no limit of CPU for storescp: throttled, it would hold up senders for nothing",
    "CKV_K8S_15": "when an image is pulled is a value",
    "CKV_K8S_43": "a digest is a value: the chart does not know the administrator's registry",
    "CKV_K8S_8": "the test pod runs once",
    "CKV_K8S_9": "the test pod runs once",
    "CKV2_K8S_6": "the test pod needs no policy: nobody reaches it",
    "CKV_DOCKER_7": "the base images are arguments, whose defaults have tags",
}


@pytest.mark.timeout(900)
def test_checkov(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text((PROJECT / "Dockerfile").read_text())
    for name in ("defaults", "everything", "page", "tls", "hooks"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered(name)))
    judged = ("--framework", "kubernetes", "dockerfile", "--directory", str(tmp_path))
    done = run(tool("checkov"), *judged, "--compact", "--quiet", "--output", "json", "--skip-download", seconds=110)
    reports = {report["check_type"]: report["results"] for report in json.loads(done.stdout)}
    assert reports.keys() == {"kubernetes", "dockerfile"}
    failed = {
        (check["check_id"], check["check_name"], check["resource"])
        for report in reports.values()
        for check in report["failed_checks"]
    }
    assert not [each for each in failed if each[0] not in REFUSED]
    assert {each[0] for each in failed} == REFUSED.keys(), "what is not refused any more goes from the list"


def test_hadolint() -> None:
    done = run(tool("hadolint"), str(PROJECT / "Dockerfile"))
    assert done.returncode == 0, done.stdout


# -- what the pods are allowed ----------------------------------------------------------------------------------------


@every_set
def test_every_pod_is_restricted(name: str) -> None:
    """Everything that the restricted Pod Security level asks for, and more."""
    for spec in pods(name):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"].get("runAsUser") == (None if name == "openshift" else 10001)
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
        for volume in spec.get("volumes", []):
            assert volume.keys() & {"hostPath"} == set()


@every_set
def test_one_volume_is_mounted_once_in_the_listener(name: str) -> None:
    spec = one(name, "StatefulSet")["spec"]["template"]["spec"]
    mounts = listener_of(spec)["volumeMounts"]
    assert [mount["name"] for mount in mounts].count("dicom") == 1
    assert {"name": "dicom", "mountPath": "/dicom"} in mounts
    (storescp,) = [each for each in spec["containers"] if each["name"] == "storescp"]
    of_it = [mount for mount in storescp["volumeMounts"] if mount["name"] == "dicom"]
    assert of_it == [{"name": "dicom", "mountPath": "/incoming", "subPath": "incoming"}]


def test_the_listener_is_a_native_sidecar_that_storescp_waits_for() -> None:
    spec = one("defaults", "StatefulSet")["spec"]["template"]["spec"]
    assert spec["shareProcessNamespace"] is True
    (sidecar,) = spec["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("listener", "Always")
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert [each["name"] for each in spec["containers"]] == ["storescp"]
    plain = one("plain container", "StatefulSet")["spec"]["template"]["spec"]
    assert [each["name"] for each in plain["containers"]] == ["storescp", "listener"]
    assert plain["initContainers"][0]["command"] == ["mkdir", "-p", "/dicom/incoming"]


@every_set
def test_storescp_waits_for_the_listener_alone(name: str) -> None:
    """A stage that cannot start must not keep files out: kubelet waits for each probe of a start, in their order."""
    for spec in pods(name):
        awaited = [each["name"] for each in spec.get("initContainers", ()) if "startupProbe" in each]
        assert awaited in ([], ["listener"])


@every_set
def test_a_stage_that_cannot_start_keeps_no_files_out(name: str) -> None:
    """A container that leaves makes the pod unready, and a Secret that is not there keeps it from starting at all."""
    for spec in pods(name):
        of_intake = set()
        for each in [*spec.get("initContainers", ()), *spec["containers"]]:
            variables = {one["name"]: one.get("value") for one in each.get("env", ())}
            if each["name"] in (*config.STAGES, "clean"):
                assert variables["LISTENER_RETRY_START"] == "30", each["name"]
                assert all(one["secretRef"]["optional"] for one in each.get("envFrom", ()))
            else:
                assert "LISTENER_RETRY_START" not in variables, each["name"]
                of_intake |= {mount["name"] for mount in each.get("volumeMounts", ())}
        for volume in spec.get("volumes", ()):
            if "secret" in volume and volume["name"] not in of_intake:
                assert volume["secret"]["optional"], volume["name"]


def test_storescp_runs_as_the_documents_say() -> None:
    spec = one("defaults", "StatefulSet")["spec"]["template"]["spec"]
    (storescp,) = spec["containers"]
    assert tuple(storescp["args"]) == (*RECOMMENDED, "-od", "/incoming", "11112")
    assert {"name": "TCP_NODELAY", "value": "1"} in storescp["env"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert "tcpSocket" in storescp[probe], "a C-ECHO would kill a receiver that is busy"


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_storescp_takes_what_is_sent_by_tls(tmp_path: Path) -> None:
    """The rendered arguments, tried: who has a certificate of the authority may send, nobody else."""
    spec = one("tls", "StatefulSet")["spec"]["template"]["spec"]
    (pod,) = [each for each in rendered("tls") if each["kind"] == "Pod"]
    authority = Authority(tmp_path / "authority")
    ours, other = authority.certify("storescp"), Authority(tmp_path / "other").certify("stranger")

    def placed(arguments: list[str], secret: Path) -> list[str]:
        return [argument.replace("/run/tls", str(secret)) for argument in arguments]

    received = placed(spec["containers"][0]["args"][:-3], ours)
    sent = next(each for each in pod["spec"]["initContainers"] if each["name"] == "store")["args"][:-3]
    instance = tmp_path / "instance.dcm"
    write_instance(instance)
    with dicomnet.storescp(tmp_path / "incoming", *received) as receiver:
        for wrong in ([], placed(sent, other)):
            assert dicomnet.storescu(receiver.port, instance, *wrong, check=False).returncode != 0
        assert not [*receiver.incoming.iterdir()]
        dicomnet.storescu(receiver.port, instance, *placed(sent, ours))
        assert len([*receiver.incoming.iterdir()]) == 1


@every_set
def test_the_listener_understands_what_it_is_given(name: str, secrets: Path) -> None:
    spec = one(name, "StatefulSet")["spec"]["template"]["spec"]
    given = {each["name"]: _of_a_secret(each["value"], secrets) for each in listener_of(spec)["env"]}
    file = str(_config(name, secrets)) if "LISTENER_CONFIG" in given else ""
    found = settings.load({}, given, "run", file)
    if name == "hooks":
        assert [(hook.name, hook.url or hook.command, hook.timeout) for hook in found.every_hook] == [
            ("webhook", "https://stage.example.org/intake", 0),
            ("webhook-2", "http://192.0.2.7:8080/", 0),
            ("archive", "http://archive.research.svc.cluster.local:8080/studies", 20),
            ("sort", "/scripts/sort --study", 0),
        ]
    assert found.incoming == ("/dicom/incoming", *(["/dicom/inside"] if name == "route" else []))
    assert found.state == "/dicom/state"
    if name == "everything":
        assert (found.layout, found.workers, found.min_free) == ("px", 4, 20 * 2**30)
        assert found.series_quiet == (("", 60.0), ("CT", 5.0))
    mounted = [mount["mountPath"] for mount in listener_of(spec)["volumeMounts"]]
    for path in (*found.incoming, found.data, found.log, found.state):
        assert any(path.startswith(f"{mount}/") or path == mount for mount in mounted), path


def _config(name: str, secrets: Path) -> Path:
    """The file of the ConfigMap, with files of Secrets that are there."""
    (made,) = [each for each in rendered(name) if each["metadata"]["name"].endswith("-config")]
    text = re.sub(r"/run/secrets/\w+", str(secrets), made["data"]["listener.toml"])
    (secrets / "listener.toml").write_text(text)
    return secrets / "listener.toml"


def _of_a_secret(value: str, secrets: Path) -> str:
    """A value that names a file of a Secret names one that is there."""
    return str(secrets / Path(value).name) if value.startswith("/run/") else value


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Secrets of all sets hold, in one folder."""
    folder = Authority(tmp_path_factory.mktemp("authority")).certify("intake")
    for name, text in (("tokens", f"anna:{token_hex(32)}\n"), ("key", token_hex(32)), ("headers", "X-Site: north\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o440)
    return folder


@pytest.mark.parametrize(("given", "expected"), [("{page: off, phi: true}", "off"), ('{page: "on", phi: on}', "on")])
def test_on_and_off_need_no_quotes(given: str, expected: str) -> None:
    done = template("helm3", f"listener: {{options: {given}}}")
    assert done.returncode == 0, done.stderr
    (spec,) = [each["spec"] for each in yaml.safe_load_all(done.stdout) if each["kind"] == "StatefulSet"]
    env = {each["name"]: each["value"] for each in listener_of(spec["template"]["spec"])["env"]}
    found = settings.load({}, env, "run")
    assert (found.page, found.phi) == (expected, True)


def test_every_option_can_be_given() -> None:
    ours = set(generator().CHARTS_OWN)
    known = json.loads((CHART / "values.schema.json").read_text())
    options = known["properties"]["listener"]["properties"]["options"]["properties"]
    expected = {name for name, row in config.options().items() if "run" in row.commands} - ours
    assert {name.replace("-", "_") for name in options} == expected


# -- what values gate -------------------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_not_made() -> None:
    kinds = sorted(each["kind"] for each in rendered("defaults"))
    assert kinds == ["Pod", "Service", "Service", "StatefulSet"]
    more = sorted({each["kind"] for each in rendered("everything")} - set(kinds))
    assert more == ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "PrometheusRule"]
    assert "ServiceMonitor" in {each["kind"] for each in rendered("claims of others")}
    assert "Pod" not in {each["kind"] for each in rendered("trial")}


def test_claims_are_kept() -> None:
    spec = one("defaults", "StatefulSet")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "dicom"


def test_the_dashboard_travels_whole() -> None:
    (data,) = [each["data"] for each in rendered("everything") if each["metadata"]["name"] == "intake-dashboard"]
    assert json.loads(data["intake.json"]) == json.loads((CHART / "dashboards/listener.json").read_text())


def test_the_rules_watch_this_release_alone() -> None:
    (group,) = one("everything", "PrometheusRule")["spec"]["groups"]
    for rule in group["rules"]:
        assert 'namespace="ns",pod=~"intake-.*"' in rule["expr"], rule["alert"]
        assert "$" not in rule["expr"]


@every_helm
def test_the_rules_are_those_of_the_plain_file(helm: str) -> None:
    (made,) = [each for each in rendered("everything", helm) if each["kind"] == "PrometheusRule"]
    settings = rules.defaults()
    settings["alerts"]["Absent"]["threshold"] = SETS["everything"]["replicas"]
    settings["runbookUrl"] = SETS["everything"]["prometheusRule"]["runbookUrl"]
    expected = rules.rules(settings, rules.release("ns", "intake"))["groups"][0]["rules"]
    found = made["spec"]["groups"][0]["rules"]
    assert found == sorted(expected, key=lambda rule: str(rule["alert"]))


def test_a_network_policy_names_ports_by_number() -> None:
    spec = one("everything", "NetworkPolicy")["spec"]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == [11112, 9464]
    assert spec["egress"] == []
    assert spec["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://stage.example.org/x", {"ports": [{"protocol": "TCP", "port": 443}]}),
        ("http://stage.example.org", {"ports": [{"protocol": "TCP", "port": 80}]}),
        (
            "http://192.0.2.7:8080",
            {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 8080}]},
        ),
        (
            "http://[2001:db8::7]:8080/x",
            {"to": [{"ipBlock": {"cidr": "2001:db8::7/128"}}], "ports": [{"protocol": "TCP", "port": 8080}]},
        ),
        ("http://stage:8080", {"to": [{"podSelector": {}}]}),
        (
            "http://stage.research.svc.cluster.local:8080",
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "research"}}}]},
        ),
    ],
)
def test_a_hook_s_address_may_be_reached(url: str, rule: dict[str, Any]) -> None:
    values = {"networkPolicy": {"enabled": True}, "listener": {"options": {"on-series-complete": url}}}
    done = template("helm3", yaml.safe_dump(values))
    assert done.returncode == 0, done.stderr
    (policy,) = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "NetworkPolicy"]
    names, address = policy["spec"]["egress"]
    assert {(one["protocol"], one["port"]) for one in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert address == rule


def test_every_hook_may_be_reached() -> None:
    rules = one("hooks", "NetworkPolicy")["spec"]["egress"]
    assert len(rules) == 4
    assert rules[1] == {"ports": [{"protocol": "TCP", "port": 443}]}
    assert rules[2]["to"] == [{"ipBlock": {"cidr": "192.0.2.7/32"}}]
    assert rules[3]["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "research"}


def test_pods_are_replaced_when_hooks_change() -> None:
    def told(hooks: dict[str, Any]) -> str:
        done = template("helm3", yaml.safe_dump({"listener": {"hooks": hooks}}))
        found = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "StatefulSet"]
        return str(found[0]["spec"]["template"]["metadata"]["annotations"].get("checksum/hooks", ""))

    sums = [told(hooks) for hooks in ({}, {"a": {"url": "https://x/"}}, {"a": {"url": "https://y/"}})]
    assert len({*sums}) == 3
    assert sums[0] == ""


def test_images_of_another_registry() -> None:
    images = {
        each["image"] for spec in pods("openshift") for each in (*spec.get("initContainers", []), *spec["containers"])
    }
    assert images == {"registry.example.org/listener:0.1.0", "registry.example.org/storescp:0.1.0"}
    for repository, expected in (
        ("docker.io/site/listener", "r.example/site/listener:0.1.0"),
        ("site/listener", "r.example/site/listener:0.1.0"),
    ):
        values = {"global": {"imageRegistry": "r.example"}, "listener": {"image": {"repository": repository}}}
        assert f"image: {expected}\n" in template("helm3", yaml.safe_dump(values)).stdout


def test_pull_secrets_of_all_and_of_this_chart() -> None:
    values = {"global": {"imagePullSecrets": ["a", {"name": "b"}]}, "imagePullSecrets": ["c"]}
    for each in yaml.safe_load_all(template("helm3", yaml.safe_dump(values)).stdout):
        if each["kind"] in ("StatefulSet", "Pod"):
            spec = each["spec"].get("template", each)["spec"]
            assert spec["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def test_a_cluster_that_chooses_users_is_given_none() -> None:
    for spec in pods("openshift"):
        assert spec["securityContext"].keys().isdisjoint({"runAsUser", "runAsGroup", "fsGroup"})


def test_secrets_are_read_where_options_say() -> None:
    spec = one("hooks", "StatefulSet")["spec"]["template"]["spec"]
    given = {each["name"]: each["value"] for each in listener_of(spec)["env"]}
    (mount,) = [each for each in listener_of(spec)["volumeMounts"] if each["name"].startswith("secret-")]
    assert given["LISTENER_HOOK_SECRET_FILE"] == f"{mount['mountPath']}/key"
    (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
    assert volume["secret"] == {"secretName": "hook", "defaultMode": 0o440}
    storescp = next(each for each in spec["containers"] if each["name"] == "storescp")
    assert mount["name"] not in {each["name"] for each in storescp["volumeMounts"]}


def test_the_page_of_each_shard_has_a_service_and_a_host() -> None:
    found = {each["metadata"]["name"]: each["spec"] for each in rendered("page") if "-page" in each["metadata"]["name"]}
    assert found.keys() == {"intake-listener-page", "intake-listener-page-0", "intake-listener-page-1"}
    for shard, host in enumerate(("a.intake.example.org", "b.intake.example.org")):
        service = found[f"intake-listener-page-{shard}"]
        assert service["selector"]["statefulset.kubernetes.io/pod-name"] == f"intake-listener-{shard}"
        assert service["publishNotReadyAddresses"], "one looks at it when something is wrong"
        rule = found["intake-listener-page"]["rules"][shard]
        assert rule["host"] == host
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": f"intake-listener-page-{shard}", "port": {"number": 443}}


def test_a_port_that_speaks_tls_is_asked_by_tls() -> None:
    spec = one("page", "StatefulSet")["spec"]["template"]["spec"]
    listener = listener_of(spec)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert listener[probe]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = one("page", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    test = one("page", "Pod")["spec"]["containers"][0]
    assert all(url.startswith("https://") for url in test["env"][0]["value"].split())
    given = {each["name"]: each["value"] for each in listener["env"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in listener["volumeMounts"]}
    secrets = {each["name"]: each["secret"] for each in spec["volumes"]}
    for name, secret in (("TOKEN_FILE", "page-tokens"), ("HTTP_CERT", "page-tls"), ("HTTP_CLIENT_CA", "page-tls")):
        volume = mounted[str(Path(given[f"LISTENER_{name}"]).parent)]
        assert secrets[volume] == {"secretName": secret, "defaultMode": 0o440}, "the mode that the listener asks for"


def test_a_policy_lets_the_page_s_readers_in() -> None:
    rules = one("page", "NetworkPolicy")["spec"]["ingress"]
    names = [
        each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for each in rules[1]["from"]
        if "namespaceSelector" in each
    ]
    assert names == ["monitoring", "ingress-nginx"]


def test_labels_of_all_objects() -> None:
    found = rendered("everything")
    assert not [each for each in found if each["metadata"].get("labels", {}).get("team") != "imaging"
                and each["metadata"]["name"] != "intake-site"]  # fmt: skip
    (spec,) = [each["spec"] for each in found if each["kind"] == "StatefulSet"]
    assert spec["template"]["metadata"]["labels"]["team"] == "imaging"
    assert "team" not in spec["selector"]["matchLabels"], "what is selected by cannot be changed"


def test_what_a_site_adds_is_filled_in() -> None:
    found = rendered("everything")
    (site,) = [each for each in found if each["metadata"]["name"] == "intake-site"]
    assert site["data"] == {"site": "north"}
    (spec,) = [each["spec"] for each in found if each["kind"] == "StatefulSet"]
    watch = next(each for each in spec["template"]["spec"]["containers"] if each["name"] == "watch")
    assert watch["image"] == listener_of(spec["template"]["spec"])["image"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"partition": 1}
    (budget,) = [each["spec"] for each in found if each["kind"] == "PodDisruptionBudget"]
    assert budget == {"maxUnavailable": 1, "selector": spec["selector"]}
    (monitor,) = [each["spec"] for each in found if each["kind"] == "PodMonitor"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["relabelings"][0]["targetLabel"] == "node"
    assert endpoint["metricRelabelings"][0]["action"] == "drop"


def test_the_runbook_lies_below_the_chart_s_home(tmp_path: Path) -> None:
    """A path stands as it is while nobody says where the project lives; the values may name an address."""
    chart = tmp_path / "listener"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for home, expected in (
        (None, "docs/runbook.md#"),
        ("https://intake.example.org/", "https://intake.example.org/docs/runbook.md#"),
    ):
        (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "home": home} if home else about))
        done = run(tool("helm3"), "template", str(chart), "--set", "prometheusRule.enabled=true")
        assert f'runbook_url: "{expected}listenerabsent"' in done.stdout, done.stderr


# -- a backfill --------------------------------------------------------------------------------------------------------


def job(name: str) -> dict[str, Any]:
    (found,) = [one for one in rendered("backfill") if one["kind"] == "Job" and one["metadata"]["name"].endswith(name)]
    spec: dict[str, Any] = found["spec"]
    return spec


def test_a_part_is_a_pod_of_an_indexed_job_and_statuses_mean_what_the_document_says() -> None:
    spec = job("-archive-1999")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 100, 10)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][:3] == ["once", "--part", "$(JOB_COMPLETION_INDEX)/100"]
    assert "--tolerate-set-aside" in container["args"]
    found = {
        rule["onExitCodes"]["values"][0]: rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule and rule["onExitCodes"]["containerName"] == container["name"]
    }
    assert found == {2: "FailJob", 1: "FailIndex"}
    assert pod["restartPolicy"] == "Never", "else no failure policy holds"


def test_a_backfill_s_options_are_read_by_the_program() -> None:
    (container,) = job("-archive-1999")["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    loaded = settings.load({}, environment, "once")
    assert (loaded.incoming, loaded.data, loaded.keep_source) == (("/archive",), "/dicom/data", True)
    assert (loaded.layout, loaded.workers, loaded.events) == ("px", 2, "off")
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert mounts["/archive"] == {"name": "source", "mountPath": "/archive", "subPath": "1999", "readOnly": True}


def test_the_last_job_waits_for_all_parts_and_says_how_they_stand() -> None:
    (container,) = job("-finish")["template"]["spec"]["containers"]
    assert container["command"][:2] == ["sh", "-c"]
    assert container["command"][4:] == ["--batch", "archive-1999", "--announce"]
    said = run(
        "sh",
        "-c",
        f"listener() {{ echo $*; [ $1 = parts ]; }}; sleep() {{ exit 7; }}; {container['command'][2]}",
        "sh",
        "x",
    )
    assert (said.stdout, said.returncode) == ("once --finish x\n", 7), "with 1 it waits"
    said = run("sh", "-c", f"listener() {{ echo $*; [ $1 = parts ] || return 2; }}; {container['command'][2]}")
    assert (said.stdout, said.returncode) == ("once --finish\n", 2), "with any other status it ends"
    said = run("sh", "-c", f"listener() {{ echo $*; }}; {container['command'][2]}")
    assert said.stdout == "once --finish\nparts\n"


def test_no_service_and_no_monitor_finds_the_pods_of_a_backfill() -> None:
    labels = job("-archive-1999")["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "backfill"
    for one in rendered("backfill"):
        selector = one.get("spec", {}).get("selector")
        if one["kind"] in ("Service", "StatefulSet") and selector:
            wanted = selector.get("matchLabels", selector)
            assert wanted.items() - labels.items(), one["metadata"]["name"]


# -- the stage route ---------------------------------------------------------------------------------------------------


def test_route_runs_beside_the_listener_with_a_receiver_for_results() -> None:
    spec = one("route", "StatefulSet")["spec"]["template"]["spec"]
    listener, route = spec["initContainers"]
    storescp, inside = spec["containers"]
    assert [each["name"] for each in (listener, route, storescp, inside)] == ["listener", "route", "storescp", "inside"]
    assert route["restartPolicy"] == "Always"
    assert route["image"] == listener["image"]
    assert tuple(inside["args"]) == (*RECOMMENDED, "-od", "/inside", "11113")
    told = {each["name"]: each["value"] for each in listener["env"]}
    of_listener = settings.load({}, told, "run")
    assert of_listener.incoming == ("/dicom/incoming", "/dicom/inside")
    assert of_listener.on_conflict == "keep-both"
    variables = {each["name"]: str(each["value"]) for each in route["env"]}
    chosen = stage_options.load(RouteOptions, "route", argparse.Namespace(config=""), variables)
    assert (chosen.busy, chosen.remember, chosen.http) == (1200.0, 7.0, "0.0.0.0:9465")
    assert variables["LISTENER_STATE"] == told["LISTENER_STATE"]
    mounts = {each["name"]: each["mountPath"] for each in route["volumeMounts"]}
    assert mounts == {"dicom": "/dicom", "routes": "/etc/route", "secret-pacs": "/run/secrets/pacs"}
    assert chosen.routes == "/etc/route/routes.toml"
    (volume,) = [each for each in spec["volumes"] if each["name"] == "routes"]
    (file,) = [each for each in rendered("route") if each["kind"] == "ConfigMap"]
    assert volume["configMap"]["name"] == file["metadata"]["name"]
    found = routes_file.read(file["data"]["routes.toml"])
    assert [*found.targets] == ["gpu1", "gpu2", "pacs"]
    assert found.inside == ("inside",)


def test_workers_find_a_service_and_the_policy_lets_out_what_targets_need() -> None:
    (service,) = [each for each in rendered("route") if each["metadata"]["name"].endswith("-inside")]
    assert service["spec"]["ports"][0]["port"] == 11113
    policy = one("route", "NetworkPolicy")["spec"]
    ports = [[port["port"] for port in each["ports"]] for each in policy["ingress"]]
    assert ports == [[11112], [9464], [9465], [11113]]
    assert policy["ingress"][3]["from"][0] == {"ipBlock": {"cidr": "10.1.0.0/24"}}
    assert policy["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.1.0.11/32"}}]
    assert policy["egress"][1]["ports"] == [{"protocol": "TCP", "port": 11112}]
    assert policy["egress"][2]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "analysis"}}}
    ]
    assert policy["egress"][3] == {"ports": [{"protocol": "TCP", "port": 104}]}
    assert len(policy["egress"]) == 4
    monitor = one("route", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [each["port"] for each in monitor] == ["http", "route"]


# -- the stage notify --------------------------------------------------------------------------------------------------


def test_notify_runs_beside_the_listener_and_only_reads_cube_s_storage() -> None:
    spec = one("notify", "StatefulSet")["spec"]["template"]["spec"]
    listener, notify = spec["initContainers"]
    assert (notify["name"], notify["restartPolicy"]) == ("notify", "Always")
    assert notify["image"] == "registry.example.org/listener-chris:0.1.0"
    told = {each["name"]: each["value"] for each in listener["env"]}
    variables = {each["name"]: str(each["value"]) for each in notify["env"]}
    for name in ("LISTENER_STATE", "LISTENER_DATA"):
        assert variables[name] == told[name]
    of_secrets = ("LISTENER_NOTIFY_CELERY_FILE", "LISTENER_NOTIFY_CUBE_LOGIN", "SSL_CERT_FILE")
    files = {name: variables.pop(name) for name in of_secrets}
    chosen = stage_options.load(NotifyOptions, "notify", argparse.Namespace(config=""), variables)
    assert chosen.nats == ("nats://chris-nats.chris.svc.cluster.local:4222",)
    assert (chosen.register, chosen.progress, chosen.http) == ("all", 1.0, "0.0.0.0:9468")
    mounts = {each["mountPath"]: each for each in notify["volumeMounts"]}
    assert mounts["/dicom-data"]["readOnly"] is True
    assert mounts["/dicom/state"]["subPath"] == "state"
    secrets = {each["name"]: each["secret"] for each in spec["volumes"] if "secret" in each}
    for path in files.values():
        folder = str(Path(path).parent)
        assert mounts[folder]["readOnly"] is True
        assert secrets[mounts[folder]["name"]]["defaultMode"] == 0o440, "others may not read it"
    assert files["LISTENER_NOTIFY_CUBE_LOGIN"].endswith("/token")


def test_several_servers_of_nats_stay_several() -> None:
    values = {"notify": {"enabled": True, "options": {"nats": ["nats://a:4222", "nats://b:4222"]}}}
    done = template("helm3", yaml.safe_dump(values))
    (found,) = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "StatefulSet"]
    notify = found["spec"]["template"]["spec"]["initContainers"][1]
    variables = {each["name"]: str(each["value"]) for each in notify["env"]}
    chosen = stage_options.load(NotifyOptions, "notify", argparse.Namespace(config=""), variables)
    assert chosen.nats == ("nats://a:4222", "nats://b:4222")
    assert {each["mountPath"] for each in notify["volumeMounts"] if each.get("readOnly")} == {"/dicom/data"}


def test_the_policy_lets_out_what_a_chris_needs() -> None:
    policy = one("notify", "NetworkPolicy")["spec"]
    assert [[port["port"] for port in each["ports"]] for each in policy["ingress"]] == [[11112], [9464], [9468]]
    inside = {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chris"}}}]}
    assert policy["egress"].count(inside) == 2
    assert policy["egress"][-1] == {"ports": [{"protocol": "TCP", "port": 6379}]}
    monitor = one("notify", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [each["port"] for each in monitor] == ["http", "notify"]


# -- the stage export --------------------------------------------------------------------------------------------------


def test_export_runs_beside_the_listener_and_only_reads_the_tree() -> None:
    spec = one("export", "StatefulSet")["spec"]["template"]["spec"]
    listener, export = spec["initContainers"]
    assert (export["name"], export["restartPolicy"]) == ("export", "Always")
    assert export["image"] == "registry.example.org/listener-export:0.1.0"
    assert export["envFrom"] == [{"secretRef": {"name": "research-bucket", "optional": True}}]
    told = {each["name"]: each["value"] for each in listener["env"]}
    variables = {each["name"]: str(each["value"]) for each in export["env"]}
    for name in ("LISTENER_STATE", "LISTENER_DATA"):
        assert variables[name] == told[name]
    assert variables["AWS_REGION"] == "eu-central-1"
    chosen = stage_options.load(ExportOptions, "export", argparse.Namespace(config=""), variables)
    assert (chosen.to, chosen.endpoint) == ("s3://research/ct", "https://s3.storage.svc.cluster.local:9000")
    assert (chosen.archive, chosen.no_parquet, chosen.http) == ("series", True, "0.0.0.0:9467")
    assert chosen.columns == ("ReceiveCoilName", "SequenceName")
    mounts = {each["mountPath"]: each for each in export["volumeMounts"]}
    assert {path for path, each in mounts.items() if each.get("readOnly")} == {"/dicom/data", "/run/export"}
    assert {each["subPath"] for each in mounts.values() if each["name"] == "dicom"} == {"state", "data"}
    (volume,) = [each for each in spec["volumes"] if each["name"] == "export-files"]
    assert volume["secret"] == {"secretName": "research-files", "optional": True, "defaultMode": 0o440}


def test_the_policy_lets_export_out_to_its_store_and_nobody_else() -> None:
    policy = one("export", "NetworkPolicy")["spec"]
    assert [[port["port"] for port in each["ports"]] for each in policy["ingress"]] == [[11112], [9464], [9467]]
    names, store = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert store == {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}]}
    monitor = one("export", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [each["port"] for each in monitor] == ["http", "export"]


@pytest.mark.parametrize(
    ("export", "egress"),
    [
        ({"to": "/export"}, []),
        ({"to": "s3://b/x"}, ["443", "80 of 169.254.169.254/32"]),
        (
            {"to": "az://b/x", "endpoint": "http://192.0.2.7:10000/account"},
            ["10000 of 192.0.2.7/32", "80 of 169.254.169.254/32"],
        ),
    ],
)
def test_what_may_leave_follows_from_the_target(export: dict[str, str], egress: list[str]) -> None:
    values = {"export": {"enabled": True, "options": export}, "networkPolicy": {"enabled": True}}
    documents = yaml.safe_load_all(template("helm4", yaml.safe_dump(values)).stdout)
    (policy,) = [each["spec"] for each in documents if each and each["kind"] == "NetworkPolicy"]
    told = []
    for rule in policy["egress"][1:]:
        (port,) = rule["ports"]
        told.append(str(port["port"]) + "".join(f" of {peer['ipBlock']['cidr']}" for peer in rule.get("to", [])))
    assert told == egress


# -- the stage deidentify ----------------------------------------------------------------------------------------------


def variables_of_the_image() -> dict[str, str]:
    """What the listener's image sets of its options, wherever it runs."""
    return dict(re.findall(r"(LISTENER_\w+)=(/\S+)", (PROJECT / "Dockerfile").read_text()))


def test_what_is_clean_is_a_collection_of_its_own() -> None:
    found = one("clean", "StatefulSet")["spec"]
    spec = found["template"]["spec"]
    listener, clean, deidentify, export = spec["initContainers"]
    assert [each["name"] for each in (clean, deidentify, export)] == ["clean", "deidentify", "export"]
    raw, pure, stage = (
        {each["name"]: str(each["value"]) for each in one["env"]} for one in (listener, clean, deidentify)
    )
    for name in ("LISTENER_STATE", "LISTENER_DATA"):
        assert stage[name] == raw[name] != pure[name]
    options = stage_options.load(DeidentifyOptions, "deidentify", argparse.Namespace(config=""), stage)
    assert options.option == ("retain-modified-dates", "clean-descriptors")
    assert (options.into, options.workers, options.http) == (pure["LISTENER_BATCHES"], 2, "0.0.0.0:9466")
    # The file of tokens is in the pod alone.
    given = {name: value for name, value in pure.items() if name != "LISTENER_TOKEN_FILE"}
    taken = settings.load({}, {**variables_of_the_image(), **given}, "run")
    assert (taken.incoming, taken.batch_source, taken.batches_at_once) == ((), "remove", 0)
    dicom, own = found["volumeClaimTemplates"]
    assert (dicom["metadata"]["name"], own["metadata"]["name"]) == ("dicom", "clean")
    assert own["spec"]["storageClassName"] == "fast"
    assert {each["name"] for each in clean["volumeMounts"]} == {"clean", "listener-tokens"}
    told = {each["name"]: each["value"] for each in export["env"]}
    for name in ("LISTENER_STATE", "LISTENER_DATA"):
        assert told[name] == pure[name], "nothing leaves that was not cleaned"
    assert {each["name"] for each in export["volumeMounts"]} == {"clean"}


def test_the_key_is_seen_by_the_stage_alone() -> None:
    spec = one("clean", "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "deidentify-key"]
    assert (volume["secret"]["secretName"], volume["secret"]["defaultMode"]) == ("deidentify", 0o440)
    holders = [
        each["name"]
        for each in [*spec["initContainers"], *spec["containers"]]
        if any(mount["name"] == "deidentify-key" for mount in each["volumeMounts"])
    ]
    assert holders == ["deidentify"]


def test_the_policy_lets_out_to_who_gives_pseudonyms_and_to_the_store() -> None:
    policy = one("clean", "NetworkPolicy")["spec"]
    ports = [each["ports"][0]["port"] for each in policy["ingress"]]
    assert ports == [11112, 9464, 9467, 9466, 9470]
    peers = [each["to"][0]["namespaceSelector"]["matchLabels"] for each in policy["egress"] if "to" in each]
    assert {peer["kubernetes.io/metadata.name"] for peer in peers} == {"registry", "storage"}
    monitor = one("clean", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [each["port"] for each in monitor] == ["http", "export", "deidentify", "clean"]


# -- the stage serve ---------------------------------------------------------------------------------------------------


def test_serve_reads_beside_the_listener_and_writes_to_its_index_alone() -> None:
    spec = one("serve", "StatefulSet")["spec"]["template"]["spec"]
    listener, serve = spec["initContainers"]
    assert (serve["name"], serve["restartPolicy"]) == ("serve", "Always")
    told = {each["name"]: each["value"] for each in listener["env"]}
    variables = {each["name"]: str(each["value"]) for each in serve["env"]}
    for name in ("LISTENER_STATE", "LISTENER_DATA"):
        assert variables[name] == told[name]
    chosen = stage_options.load(ServeOptions, "serve", argparse.Namespace(config=""), variables)
    assert chosen.cors == ("https://viewer.example.org", "https://slim.example.org:8443")
    assert (chosen.behind_proxy, chosen.processes, chosen.index_space) == (("10.1.0.0/24",), 2, 8 * 2**30)
    mounts = {each["mountPath"]: each for each in serve["volumeMounts"]}
    assert {path for path, each in mounts.items() if not each.get("readOnly")} == {"/index"}
    assert chosen.index.startswith("/index/")
    assert str(Path(chosen.token_file).parent) in mounts
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["serve-index"]["emptyDir"] == {"sizeLimit": "10Gi"}
    assert volumes["serve-tokens"]["secret"]["defaultMode"] == 0o440, "others may not read it"


def test_viewers_find_a_service_and_nobody_else_may_ask() -> None:
    services = [each for each in rendered("serve") if each["kind"] == "Service"]
    (found,) = [each for each in services if each["metadata"]["name"].endswith("-dicomweb")]
    assert found["spec"]["ports"] == [{"name": "dicomweb", "port": 8043, "targetPort": "dicomweb", "protocol": "TCP"}]
    policy = one("serve", "NetworkPolicy")["spec"]
    ways = {each["ports"][0]["port"]: each.get("from") for each in policy["ingress"]}
    *viewers, tests = ways[8043]
    assert viewers == [{"ipBlock": {"cidr": "10.1.0.0/24"}}]
    assert tests["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert set(ways) == {11112, 9464, 8043, 9469}
    monitor = one("serve", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [each["port"] for each in monitor] == ["http", "serve-metrics"]
