"""PURE. Metrics of the stage route. Labels are names of the routes file and closed words."""

from __future__ import annotations

from listener.network.statuses import OUTCOMES
from listener.route.returns import HELD
from listener.route.routes_file import Routes
from listener.telemetry.metric_rows import LATENCY, Row

#: Why a study moved to another worker: its own is down, is full, left the routes file, or a person said so (drain
#: --move, send --worker).
MOVE_REASONS = ("down", "full", "left", "drain", "send")


def rows(routes: Routes) -> tuple[Row, ...]:
    """Return the table for a routes file."""
    target = ("target", tuple(routes.targets))
    route = ("route", tuple(routes.routes))
    worker = ("target", tuple(name for name, one in routes.targets.items() if one.is_worker))
    return (
        Row("route_sends_total", "counter", (target, ("outcome", OUTCOMES)), "Attempts to send, by how they ended."),
        Row("route_sent_bytes_total", "counter", (target,), "Bytes of the files that were delivered."),
        Row("route_reencoded_total", "counter", (target,), "Instances that were re-encoded as Implicit VR."),
        Row("route_pending_instances", "gauge", (target,), "Instances that wait to be sent."),
        Row("route_oldest_pending_timestamp_seconds", "gauge", (target,), "When the oldest was queued; 0: none."),
        Row("route_dead_letters", "gauge", (target,), "Instances that were given up, until 'route retry' or 'drop'."),
        Row("route_target_up", "gauge", (target,), "1: it answers (or was not asked yet); 0: it is down or full."),
        Row("route_target_rejects_title", "gauge", (target,), "1: it rejects an AE title."),
        Row("route_hop_seconds", "histogram", (target,), "From close-write to the response, first round.", LATENCY),
        Row("route_store_seconds", "histogram", (target,), "From opening a file to the response.", LATENCY),
        Row("route_live_studies", "gauge", (worker,), "Studies that a worker has something to do with."),
        Row("route_worker_paused", "gauge", (worker,), "1: it gets no new study, because a person said so."),
        Row("route_failovers_total", "counter", (("reason", MOVE_REASONS),), "Studies moved to another worker."),
        Row("route_waiting_studies", "gauge", (), "Studies for which no worker is there."),
        Row("route_unclaimed_instances", "gauge", (), "Instances that no route wants."),
        Row("route_held_sends", "gauge", (), "Sends that wait for their route or target to come back."),
        Row("route_results_total", "counter", (route,), "Results that came back from workers."),
        Row("route_originals_total", "counter", (), "Originals that workers sent back; nobody gets them."),
        Row("route_held_results", "gauge", (("reason", tuple(HELD)),), "What workers sent and nobody gets, by why."),
        Row("route_unanswered_total", "counter", (), "Studies without a result within --answer-within."),
        Row("route_unanswered_studies", "gauge", (), "Those of the last day that have none yet."),
        Row("route_behind_rows", "gauge", (), "Rows of the ledger's feed that were not taken yet."),
        Row("route_config_ok", "gauge", (), "1: the routes file is in use; 0: it was refused, the one before is."),
    )
