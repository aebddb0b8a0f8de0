"""Checks of the configuration: templates, hooks and the ledger."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Mapping

from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.disk.mounts import mount_of
from listener.errors import LedgerFault, LedgerMissing
from listener.hook_config import HookConfig
from listener.ledger.connection import open_reader, path_of, translated
from listener.planning import plan
from listener.planning.plan import Layout
from listener.status import snapshot
from listener.status.document import LedgerView, document

#: Instances that are planned to find equal paths; enough to expose short hashes.
_SAMPLES = 4096


def file(path: str) -> Finding:
    """Return which file of options counts."""
    if path:
        return Finding(OK, "--config", f"options are read from '{path}'")
    return Finding(OK, "--config", "no file of options was found; flags, environment and defaults count")


def templates(config: Config) -> Iterator[Finding]:
    """Check that instances that differ only in their UIDs get different paths, and series different directories."""
    layout = Layout(
        plan.choose_preset(
            config.layout, config.root_template, config.study_template, config.series_template, config.image_template
        )
    )
    values = dict.fromkeys(layout.keywords, "1")
    paths = {layout.place({**values, "SOPInstanceUID": f"1.2.{number}"}) for number in range(_SAMPLES)}
    remedy = "put %SOPInstanceUID into it"
    if len(paths) == 1:
        text = "different instances would get one path: SOPInstanceUID is in no template"
        yield Finding(PROBLEM, "--image-template", text, remedy)
    elif len(paths) < _SAMPLES:
        text = f"different instances would get one path: of {_SAMPLES} that were tried {_SAMPLES - len(paths)} did"
        yield Finding(PROBLEM, "--image-template", text, remedy)
    elif not _holds_uid(layout, values):
        text = "SOPInstanceUID is in the templates only in part: two instances could get one path"
        yield Finding(NOTE, "--image-template", text, f"{remedy} as it is; the second would be set aside as conflict")
    else:
        yield Finding(OK, "--layout", "every instance gets a path of its own")
    if _directory(layout, values, "1.2.3") == _directory(layout, values, "1.2.4"):
        text = "series of the same description share a directory: SeriesInstanceUID is in no template of one"
        yield Finding(NOTE, "--series-template", text, "put %_seahash|7_SeriesInstanceUID into it, or use --layout rx")


def _holds_uid(layout: Layout, values: Mapping[str, str]) -> bool:
    """Return whether the longest possible SOP Instance UID is in the path as a whole."""
    uid = "2.25." + "340282366920938463463374607431768211455"[:39]
    directory, name = layout.place({**values, "SOPInstanceUID": uid})
    return uid in directory or uid in name


def _directory(layout: Layout, values: Mapping[str, str], series: str) -> str:
    return layout.place({**values, "SeriesInstanceUID": series})[0]


def hooks(config: Config) -> Iterator[Finding]:
    """Check the configured hooks without calling them."""
    for hook in config.every_hook:
        yield _program(hook) if hook.command else _posted(hook)
    if config.hook_secret_file and stat.S_IMODE(os.stat(config.hook_secret_file).st_mode) & stat.S_IROTH:
        text = "everybody on this machine can read the key"
        yield Finding(NOTE, "--hook-secret-file", text, "take the permission away (chmod o-r)")


def _program(hook: HookConfig) -> Finding:
    program = next(iter(shlex.split(hook.command)), "")
    if shutil.which(program) is None:
        text = f"'{program}' is not there, or may not be executed"
        return Finding(PROBLEM, hook.option, text, "give its whole path, and see its mode")
    return Finding(OK, hook.option, f"'{program}' can be started")


def _posted(hook: HookConfig) -> Finding:
    if hook.secret_file:
        return Finding(OK, hook.option, "what is posted is signed")
    text = "what is posted is not signed: its receiver cannot tell it from what others post"
    remedy = "give secret-file" if hook.option.startswith("[") else "give --hook-secret-file"
    return Finding(NOTE, hook.option, text, remedy)


def access(config: Config) -> Iterator[Finding]:
    """Check who may look at the page and its API."""
    host = config.http.rpartition(":")[0]
    if "off" in (config.page, config.http):
        return
    if config.http.startswith("unix:"):
        yield Finding(OK, "--http", "its owner and group may look at the page")
    elif not config.token_file and not config.http_client_ca:
        remedy = "give --token-file to let others in, or --page off"
        yield Finding(OK if _is_near(host) else NOTE, "--http", "only this machine may look at the page", remedy)
    elif config.token_file and not config.http_cert and not _is_near(host):
        text = "tokens cross the network as they are: whoever listens there can use them"
        yield Finding(NOTE, "--token-file", text, "give --http-cert, or let TLS end at a proxy on this machine")
    else:
        yield Finding(OK, "--http", "who has a token or a certificate may look at the page")


def _is_near(host: str) -> bool:
    return host in ("localhost", "[::1]") or host.startswith("127.")


def ledger(config: Config) -> Iterator[Finding]:
    """Check the ledger in the state directory; without it intake goes on, and no hook is called."""
    mount = mount_of(config.state)
    if mount and mount.is_network:
        text = f"the ledger lies on a network file system ({mount.kind}): readers and writer wait for each other"
        yield Finding(NOTE, "--state", text, "give a local disk, or let one machine alone use it")
    path = path_of(config.state)
    try:
        connection = open_reader(path)
        try:
            with translated():
                (number,) = connection.execute("SELECT sum(series) FROM series_counts").fetchone()
        finally:
            connection.close()
    except LedgerMissing:
        return
    except LedgerFault as fault:
        what, _, remedy = str(fault).partition("; ")
        yield Finding(PROBLEM, "--state", what, remedy)
        return
    if not os.access(path, os.W_OK):
        yield Finding(PROBLEM, "--state", "the ledger cannot be written", "see its owner and mode")
        return
    problem = _service_problem(config.state)
    if problem:
        what, _, remedy = problem.partition("; ")
        yield Finding(PROBLEM, "--state", f"the service that runs cannot write the ledger: {what}", remedy)
        return
    yield Finding(OK, "--state", f"the ledger can be read and written: {number} series")


def _service_problem(state_dir: str) -> str:
    """Return why a running service cannot write the ledger; "" if it can, or none runs."""
    try:
        live = snapshot.read(state_dir)
    except OSError:
        return ""
    checks = document(live, None, LedgerView(), time.time_ns())["service"]["checks"]
    check = checks.get("ledger", {"ok": True})
    return "" if check["ok"] else str(check["text"])
