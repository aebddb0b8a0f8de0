"""What /healthz and /readyz say: rules over every state, not examples of wording."""

from __future__ import annotations

from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.telemetry.health import HEARTBEAT_LIMIT, Conditions, liveness, readiness

NOW = 1000.0
ROLES = ("incoming", "data", "log", "state")
WELL = Conditions(
    heartbeat=NOW,
    watcher_alive=True,
    watching=True,
    scanned=True,
    writable=dict.fromkeys(ROLES, True),
    space_ok=True,
)

conditions = st.builds(
    Conditions,
    heartbeat=st.floats(0, NOW + 10),
    watcher_alive=st.booleans(),
    polling=st.booleans(),
    watching=st.booleans(),
    scanned=st.booleans(),
    writable=st.dictionaries(st.sampled_from(ROLES), st.booleans()),
    space_ok=st.booleans(),
    refusal=st.sampled_from(["", "no-space", "io-error"]),
    backlog=st.integers(0, 10),
    backlog_limit=st.integers(0, 10),
    draining=st.booleans(),
)


def test_all_is_well() -> None:
    assert liveness(WELL, NOW)[0]
    ok, body = readiness(WELL, NOW)
    assert ok
    assert body["status"] == "ready"
    assert {f"writable-{role}" for role in ROLES} < body["checks"].keys()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"watching": False}, "watching"),
        ({"scanned": False}, "scanned"),
        ({"writable": {"incoming": True, "log": False}}, "writable-log"),
        ({"space_ok": False}, "space"),
        ({"refusal": "no-space"}, "system"),
        ({"backlog": 100_001}, "backlog"),
        ({"draining": True}, "draining"),
        ({"heartbeat": NOW - 61}, "loop"),
    ],
)
def test_one_thing_is_wrong_and_readiness_names_it(change: dict[str, object], check: str) -> None:
    ok, body = readiness(replace(WELL, **change), NOW)  # type: ignore[arg-type]
    assert not ok
    assert body["status"] == "not-ready"
    assert [name for name, one in body["checks"].items() if not one["ok"]] == [check]


@given(conditions)
def test_a_verdict_is_the_sum_of_its_checks(state: Conditions) -> None:
    for verdict in (liveness, readiness):
        ok, body = verdict(state, NOW)
        checks = orjson.loads(orjson.dumps(body))["checks"]
        assert ok is all(one["ok"] for one in checks.values())
        assert all(one["text"] and len(one["text"]) < 140 for one in checks.values())


@given(conditions)
def test_liveness_is_the_heartbeat_and_the_observer_and_nothing_else(state: Conditions) -> None:
    expected = NOW - state.heartbeat < HEARTBEAT_LIMIT and (state.watcher_alive or state.polling)
    assert liveness(state, NOW)[0] is expected
    about = {"heartbeat", "watcher_alive", "polling"}
    rest = {one.name: getattr(WELL, one.name) for one in fields(Conditions) if one.name not in about}
    assert liveness(replace(state, **rest), NOW) == liveness(state, NOW)


@pytest.mark.parametrize(("age", "alive"), [(-5.0, True), (0.0, True), (59.9, True), (60.0, False), (1e6, False)])
def test_the_age_of_the_heartbeat(age: float, alive: bool) -> None:
    assert liveness(replace(WELL, heartbeat=NOW - age), NOW)[0] is alive


def test_before_the_first_turn_of_the_loop_nothing_is_ready_and_polling_needs_no_observer() -> None:
    assert not readiness(Conditions(heartbeat=NOW), NOW)[0]
    assert not liveness(Conditions(heartbeat=NOW), NOW)[0]
    assert liveness(Conditions(heartbeat=NOW, polling=True), NOW)[0]
    assert readiness(replace(WELL, watching=False, watcher_alive=False, polling=True), NOW)[0]
