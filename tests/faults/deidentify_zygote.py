"""As tests.faults.zygote, for one unit of `listener deidentify`: worker and stage in one process, so that a SIGKILL
ends both at exactly this call. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import orjson

from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.service import method_of
from listener.deidentify.units import Part, Task, Units
from listener.deidentify.vault import Vault
from listener.deidentify.work import Cleaned, Cleaner, Order
from listener.ledger.reader import reading
from tests.faults.zygote import become, collect_tracers, fork, release, wait

Request = dict[str, Any]


def _clean(request: Request) -> int:
    """Clean one series, as the stage does when its delivery comes."""
    method = method_of(DeidentifyOptions(key_file=request["key"]))
    vault = Vault(request["state"])
    vault.claim(method.keys.fingerprint)
    units = Units(request["data"], request["into"], method, vault)
    with reading(request["state"]) as reader:
        series = reader.series(request["series"])
        assert series
        part = Part(series, 1, False, reader.instances_of(series))

    def do(order: Order, answer: Any, go_on: Any) -> Cleaned:
        return Cleaner(method)(order, SimpleNamespace(ask=answer, go_on=go_on))

    units.process(Task([part]), request["series"], do, lambda: None)
    vault.close()
    return 0


def _served(request: Request) -> dict[str, Any]:
    pid, go = fork()
    if not pid:
        become(go, lambda: _clean(request))
    release(pid, go, request if request["inject"] else None)
    status = wait(pid, 600)
    collect_tracers()
    return {"status": status}


def main() -> None:
    for line in sys.stdin.buffer:
        print(orjson.dumps(_served(orjson.loads(line))).decode(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
