"""systemd's units and compose.yaml: understood by systemd and by the schema, and the same set-up as everywhere else."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from listener import settings
from listener.deidentify.options import DeidentifyOptions
from listener.export.options import ExportOptions
from listener.notify.options import NotifyOptions
from listener.quickstart.synthetic import make_series
from listener.route.options import RouteOptions
from listener.serve.options import ServeOptions
from listener.stages import options as stage_options
from listener.storescp import RECOMMENDED
from tests.accounting import account, as_stored, read_tree
from tests.authority import Authority
from tests.conftest import PROJECT
from tests.dicomnet import storescp, storescu
from tests.instances import write_instance
from tests.service_process import Places, service, settled

UNITS = PROJECT / "docs/systemd"
SERVICES = (
    "listener.service",
    "listener-route.service",
    "listener-export.service",
    "listener-notify.service",
    "listener-serve.service",
    "listener-deidentify.service",
    "storescp.service",
)


def unit(name: str) -> dict[str, list[str]]:
    """The [Service] section: a key may come several times."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (.ci/need systemd)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units with programs that are there: systemd looks for them."""
    copies = []
    for name in SERVICES:
        text = (UNITS / name).read_text()
        text = re.sub(r"^(ExecStart=)/\S+", r"\1/bin/true", text, flags=re.MULTILINE)
        copies.append(tmp_path / name)
        copies[-1].write_text(text)
    return copies


def test_systemd_understands_the_units(installed: list[Path]) -> None:
    done = analyze("verify", "--man=no", *map(str, installed))
    said = [line for line in done.stderr.splitlines() if any(name in line for name in SERVICES)]
    assert not said, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "most"), [(name, 2.0) for name in SERVICES])
def test_the_units_are_hardened(name: str, most: float, tmp_path: Path, installed: list[Path]) -> None:
    """By systemd's own measure, from 0 (nothing is allowed) to 10."""
    done = analyze("security", "--offline=true", "--no-pager", str(tmp_path / name))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if not found:
        pytest.skip(f"this systemd-analyze cannot judge offline: {done.stderr.strip()[:100]}")
    assert float(found[1]) <= most, done.stdout
    own = unit(name)
    assert own["NoNewPrivileges"] == ["yes"]
    assert own["ProtectSystem"] == ["strict"]
    assert own["User"] == ["listener"]


def test_the_watchdog_outlasts_a_stop() -> None:
    own = unit("listener.service")
    assert own["Type"] == ["notify"]
    drain = settings.load({}, {}, "run").drain
    assert drain + 5 < float(own["TimeoutStopSec"][0]) < float(own["WatchdogSec"][0])
    assert own["RestartPreventExitStatus"] == ["2"], "a wrong configuration does not mend itself"


def test_the_file_of_options_is_a_configuration() -> None:
    found = settings.load({}, {}, "run", str(UNITS / "listener.toml"))
    assert found.incoming == ("/srv/dicom/incoming",)
    made = [line.split()[1] for line in (UNITS / "listener.tmpfiles.conf").read_text().splitlines() if line[0] == "d"]
    assert {*found.incoming, found.data, found.log, found.state} <= set(made)
    assert unit("listener.service")["ReadWritePaths"] == ["/srv/dicom"]


def test_storescp_runs_as_the_documents_say_under_systemd() -> None:
    words = unit("storescp.service")["ExecStart"][0].split()
    assert words[1:] == [*RECOMMENDED, "-od", "/srv/dicom/incoming", "${DICOM_PORT}"]
    assert "TCP_NODELAY=1" in unit("storescp.service")["Environment"]


@pytest.mark.real
def test_the_service_works_within_the_unit_s_rules(dcmtk: None, tmp_path: Path) -> None:
    """Filter of system calls, no memory both written and executed, no capability: receives, publishes, stops."""
    system, program = "/usr/bin/python3", str(PROJECT / "tests/confine.py")
    if not shutil.which("systemd-analyze") or subprocess.run([system, "-c", "import seccomp"], check=False).returncode:
        pytest.skip("systemd-analyze and python3-seccomp are not installed (.ci/need systemd)")
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    within = (*bare, system, program, str(UNITS / "listener.service"))
    area = tmp_path / "area"
    places = Places(tmp_path, (area / "incoming",), area / "data", area / "log", area / "state").make()
    make_series(tmp_path / "made", instances=3)
    with storescp(places.incoming) as receiver, service(places, through=within) as running:
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        storescu(receiver.port, tmp_path / "made")
        settled(running, 3)
    account(places, as_stored(read_tree(places), (tmp_path / "made").rglob("MR.*")))


# -- compose ----------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize(
    "name",
    [
        "compose.yaml",
        "docs/compose.secure.yaml",
        "docs/compose.route.yaml",
        "docs/compose.export.yaml",
        "docs/compose.chris.yaml",
        "docs/compose.serve.yaml",
        "docs/compose.deidentify.yaml",
    ],
)
def test_compose_fits_its_schema(name: str) -> None:
    program = PROJECT / "build/tools/check-jsonschema"
    if not program.exists():
        pytest.skip("check-jsonschema is not there (make tools)")
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(PROJECT / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_with_route_is_the_same_and_a_second_receiver() -> None:
    over = yaml.safe_load((PROJECT / "docs/compose.route.yaml").read_text())["services"]
    options = settings.load({}, over["listener"]["environment"], "run")
    assert options.incoming == ("/dicom/incoming", "/dicom/inside")
    assert options.on_conflict == "keep-both"
    assert tuple(over["inside"]["command"]) == (*RECOMMENDED, "-od", "/dicom/inside", "11112")
    for name in ("inside", "route"):
        assert over[name]["user"] == "10001:10001"
        assert over[name]["read_only"] is True
        assert "dicom:/dicom" in over[name]["volumes"]
    given = argparse.Namespace(config="", routes=None)
    chosen = stage_options.load(RouteOptions, "route", given, {})
    assert float(over["route"]["stop_grace_period"].rstrip("s")) > chosen.drain + 5


def test_route_s_unit_is_the_service_s_with_another_command() -> None:
    own = unit("listener-route.service")
    assert own["ExecStart"] == ["/opt/listener/bin/listener route --routes /etc/listener-routes.toml"]
    assert own["ReadWritePaths"] == ["/srv/dicom"]
    assert own["RestartPreventExitStatus"] == ["2"]


def test_export_s_unit_writes_to_the_state_alone() -> None:
    own = unit("listener-export.service")
    assert own["ExecStart"] == ["/opt/listener/bin/listener export"]
    assert own["ReadWritePaths"] == ["/srv/dicom/state"]
    assert own["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize("name", ["deidentify", "export", "notify"])
def test_intake_has_the_processors_before_what_may_be_late(name: str) -> None:
    assert unit(f"listener-{name}.service")["CPUWeight"] == ["20"]
    assert "CPUWeight" not in unit("listener.service")


def test_notify_s_unit_reads_the_tree_and_writes_to_the_state_alone() -> None:
    own, other = unit("listener-notify.service"), unit("listener-export.service")
    assert own["ExecStart"] == ["/opt/listener/bin/listener notify"]
    different = ("ExecStart", "EnvironmentFile")
    assert {k: v for k, v in own.items() if k not in different} == {
        k: v for k, v in other.items() if k not in different
    }


def test_compose_with_chris_is_one_hardened_container_and_brokers_for_who_has_none() -> None:
    document = yaml.safe_load((PROJECT / "docs/compose.chris.yaml").read_text())
    services = document["services"]
    own = services["notify"]
    for name in ("notify", "nats", "redis"):
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])
        assert services[name].get("profiles") == (None if name == "notify" else ["chris"])
    files = services["listener"]["volumes"][0]
    assert own["volumes"][1] == f"{files}:ro"
    assert own["environment"]["LISTENER_DATA"] == services["listener"]["environment"]["LISTENER_DATA"] == "/files"
    variables = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in own["environment"].items()}
    chosen = stage_options.load(NotifyOptions, "notify", argparse.Namespace(config=""), variables)
    assert chosen.nats == ("nats://nats:4222",)
    assert chosen.celery == "redis://redis:6379/0"
    assert own["build"]["args"] == {"EXTRAS": "chris"}
    assert own["ports"][0].endswith(f":{chosen.http.rpartition(':')[2]}")
    assert float(own["stop_grace_period"].rstrip("s")) > chosen.drain + 5


def test_serve_s_unit_writes_to_its_index_and_not_to_the_tree() -> None:
    own, other = unit("listener-serve.service"), unit("listener-notify.service")
    del other["CPUWeight"]
    assert own["ExecStart"] == ["/opt/listener/bin/listener serve --index /var/cache/listener-serve"]
    assert own.pop("CacheDirectory") == ["listener-serve"]
    assert own.pop("CacheDirectoryMode") == ["0700"]
    assert {k: v for k, v in own.items() if k != "ExecStart"} == {k: v for k, v in other.items() if k != "ExecStart"}


def test_compose_with_serve_is_one_hardened_container_that_only_reads() -> None:
    (own,) = yaml.safe_load((PROJECT / "docs/compose.serve.yaml").read_text())["services"].values()
    assert (own["user"], own["read_only"], own["cap_drop"]) == ("10001:10001", True, ["ALL"])
    assert all(volume.endswith(":ro") for volume in own["volumes"])
    variables = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in own["environment"].items()}
    chosen = stage_options.load(ServeOptions, "serve", argparse.Namespace(config=""), variables)
    assert own["tmpfs"][0].startswith(f"{chosen.index}:")
    assert own["volumes"][1].split(":")[-2] == chosen.token_file
    assert own["ports"][0].endswith(f":{chosen.dicomweb.rpartition(':')[2]}")
    assert float(own["stop_grace_period"].rstrip("s")) > chosen.drain + 5


def test_compose_with_export_is_one_hardened_container_more() -> None:
    (own,) = yaml.safe_load((PROJECT / "docs/compose.export.yaml").read_text())["services"].values()
    assert (own["user"], own["read_only"], own["cap_drop"]) == ("10001:10001", True, ["ALL"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    stage_options.add_flags(parser, ExportOptions)
    chosen = stage_options.load(ExportOptions, "export", parser.parse_args(own["command"][1:]), {})
    assert (chosen.to, chosen.no_parquet) == ("/export", True)
    assert own["ports"][0].endswith(f":{chosen.http.rpartition(':')[2]}")
    assert float(own["stop_grace_period"].rstrip("s")) > chosen.drain + 5


def test_deidentify_s_unit_writes_to_the_state_and_what_the_second_collection_takes() -> None:
    own, other = unit("listener-deidentify.service"), unit("listener-export.service")
    assert own["ExecStart"] == ["/opt/listener/bin/listener deidentify"]
    assert own["ReadWritePaths"] == ["/srv/dicom/state /srv/clean/batches"]
    different = ("ExecStart", "EnvironmentFile", "ReadWritePaths")
    assert {k: v for k, v in own.items() if k not in different} == {
        k: v for k, v in other.items() if k not in different
    }


def test_compose_with_deidentify_is_the_stage_and_a_second_collection() -> None:
    services = yaml.safe_load((PROJECT / "docs/compose.deidentify.yaml").read_text())["services"]
    for name in ("deidentify", "clean"):
        own = services[name]
        assert (own["user"], own["read_only"], own["cap_drop"]) == ("10001:10001", True, ["ALL"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    stage_options.add_flags(parser, DeidentifyOptions)
    command = services["deidentify"]["command"][1:]
    chosen = stage_options.load(DeidentifyOptions, "deidentify", parser.parse_args(command), {})
    second = settings.load({}, services["clean"]["environment"], "run")
    assert second.batches == (chosen.into.replace("/clean/", "/dicom/"),)
    assert (second.batch_source, second.batches_at_once, second.incoming) == ("remove", 0, ())
    assert services["clean"]["volumes"] == ["clean:/dicom"]
    assert "clean:/clean" in services["deidentify"]["volumes"]
    assert float(services["deidentify"]["stop_grace_period"].rstrip("s")) > chosen.drain + 5


def test_compose_is_the_same_set_up() -> None:
    services = compose()["services"]
    assert tuple(services["storescp"]["command"]) == (*RECOMMENDED, "-od", "/dicom/incoming", "11112")
    for name in ("listener", "storescp"):
        assert services[name]["user"] == "10001:10001"
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["volumes"] == ["dicom:/dicom"]
    assert services["storescp"]["depends_on"] == {"listener": {"condition": "service_healthy"}}
    settings.load({}, _filled(services["listener"]["environment"]), "run")
    drain = settings.load({}, {}, "run").drain
    assert float(services["listener"]["stop_grace_period"].rstrip("s")) > drain + 5


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_secure_compose_is_the_same_with_tls_and_tokens(tmp_path: Path) -> None:
    over = yaml.safe_load((PROJECT / "docs/compose.secure.yaml").read_text())["services"]
    command = compose()["services"]["storescp"]["command"]
    secured = over["storescp"]["command"]
    added = secured[len(RECOMMENDED) : -3]
    assert [*RECOMMENDED, *added, *command[-3:]] == secured
    secrets = Authority(tmp_path / "authority").certify("storescp")
    with storescp(
        tmp_path / "incoming", *RECOMMENDED, *(text.replace("/run/tls", str(secrets)) for text in added)
    ) as up:
        made = write_instance(tmp_path / "made.dcm")
        assert storescu(up.port, made, check=False).returncode != 0
        ours = ("+tls", str(secrets / "tls.key"), str(secrets / "tls.crt"), "+cf", str(secrets / "ca.crt"))
        storescu(up.port, made, *ours)
    for name, target in (("listener", "/run/secrets"), ("storescp", "/run/tls")):
        assert over[name]["volumes"] == [f"./secrets/{name}:{target}:ro"]
    (secrets / "tokens").write_text(f"anna:{token_hex(32)}\n")
    (secrets / "tokens").chmod(0o400)
    given = {name: text.replace("/run/secrets", str(secrets)) for name, text in over["listener"]["environment"].items()}
    assert settings.load({}, given, "run").token_file == f"{secrets}/tokens"


def _filled(environment: dict[str, str]) -> dict[str, str]:
    """Variables with their defaults."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for name, text in environment.items()}


def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    shutil.copy(PROJECT / "docs/prometheus.yml", tmp_path / "prometheus.yml")
    shutil.copy(PROJECT / "helm/listener/rules/listener.rules.yaml", tmp_path / "listener.rules.yaml")
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    mounted = [text.split(":")[0].removeprefix("./") for text in compose()["services"]["prometheus"]["volumes"]]
    assert all((PROJECT / path).exists() for path in mounted if "/" in path)
