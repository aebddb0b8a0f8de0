"""What route keeps, `<state>/route/route.sqlite`: queue and cursor, studies and their workers, what is held, and
what commands ask for.

Every time is an integer, nanoseconds since the epoch, in a column that ends in `_ns`; 0 means never. An absent text is
'', nothing is NULL. Commands work by this file alone: what they change the service finds, also one that starts later.
"""

from __future__ import annotations

from listener.stages.database import Schema

#: Why an instance is sent: to the study's worker, to a destination of `copies`, or of `results`.
WORKER, COPY, RESULT = KINDS = ("worker", "copy", "result")

#: States of a send. `held`: its route or its target left the routes file; it goes on when that comes back.
PENDING, DELIVERED, DEAD, HELD = STATES = ("pending", "delivered", "dead", "held")

#: Order of sending by a route's priority.
PRIORITIES = {"high": 0, "normal": 1, "low": 2}

#: The status of a send that was not answered.
NO_STATUS = -1

# `meta`: the routes file (`routes`), `busy`, when route first followed (`first_ns`), and the newest arrival of what was
# forgotten (`forgotten_ns`).
# `cursor`: how far the feed was taken, written with what it told. `handled_ns` is the newest arrival of that.
# `series.open`: files of it may still come. `judged`: what its first instance says of keywords that
# routes ask for (`only`).
# `instances`: every file that came, with what it was when it was queued last, and sender, root and time of its last
# arrival. One without sends is unclaimed, held, or an original that came back.
# `studies`: a study on a route (an instance may be of several), and its worker, '' while none may get it. `results`
# counts what came back of it, the last at `result_ns`; `unanswered_ns`: told that nothing did.
# `sends`: an instance to somebody. `target`: who gets it; '' a worker that is still to be found. `round` rises when it
# is queued again: the answer to an earlier round counts no more. `error` is ours; `comment` the peer's, which may name
# a patient. `study_id` 0: a result that a person sends.
# `held`: what came from a worker and is not sent (`why`), until a person or a study decides (`outcome`: sent,
# discarded, returned).
# `targets`: `paused` is what people say; the rest is what the service finds: `state` up, down, full or '' (not known
# yet), `since_ns`; `cause` and `detail` of the last failure; `stored_ns` when it last stored something.
# `requests`: what commands ask the service to do with its own knowledge: `verb`, arguments as JSON; done when `done_ns`
# is set, with `answer` ('' or what went wrong).
_FIRST = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    since_ns INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0,
    handled_ns INTEGER NOT NULL DEFAULT 0
);
INSERT INTO cursor (id) VALUES (1);

CREATE TABLE folders (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    SeriesInstanceUID TEXT NOT NULL,
    StudyInstanceUID TEXT NOT NULL,
    open INTEGER NOT NULL DEFAULT 1,
    UNIQUE (SeriesInstanceUID, StudyInstanceUID)
);
CREATE INDEX series_of_study ON series (StudyInstanceUID);
CREATE TABLE judged (
    series_id INTEGER NOT NULL,
    keyword TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (series_id, keyword)
) WITHOUT ROWID;
CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    SOPInstanceUID TEXT NOT NULL,
    folder_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    inode INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    mtime_ns INTEGER NOT NULL DEFAULT 0,
    sender TEXT NOT NULL DEFAULT '',
    root TEXT NOT NULL DEFAULT '',
    arrived_ns INTEGER NOT NULL DEFAULT 0,
    UNIQUE (series_id, SOPInstanceUID, folder_id, name)
);
CREATE INDEX instances_by_uid ON instances (SOPInstanceUID);

CREATE TABLE studies (
    id INTEGER PRIMARY KEY,
    route TEXT NOT NULL,
    StudyInstanceUID TEXT NOT NULL,
    worker TEXT NOT NULL DEFAULT '',
    awaits_result INTEGER NOT NULL DEFAULT 0,
    sender TEXT NOT NULL DEFAULT '',
    root TEXT NOT NULL DEFAULT '',
    began_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    results INTEGER NOT NULL DEFAULT 0,
    result_ns INTEGER NOT NULL DEFAULT 0,
    unanswered_ns INTEGER NOT NULL DEFAULT 0,
    UNIQUE (route, StudyInstanceUID)
);
CREATE INDEX studies_by_uid ON studies (StudyInstanceUID);
CREATE INDEX studies_of_worker ON studies (worker, last_ns);
CREATE INDEX studies_newest ON studies (last_ns);
CREATE TABLE moves (
    id INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL,
    origin TEXT NOT NULL,
    worker TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL
);
CREATE INDEX moves_of_study ON moves (study_id, at_ns);

CREATE TABLE sends (
    id INTEGER PRIMARY KEY,
    instance_id INTEGER NOT NULL,
    study_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('worker', 'copy', 'result')),
    target TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead', 'held')),
    round INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_ns INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL DEFAULT -1,
    error TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT '',
    queued_ns INTEGER NOT NULL DEFAULT 0,
    settled_ns INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX sends_once ON sends (instance_id, study_id, kind, iif(kind = 'worker', '', target));
CREATE INDEX sends_of_study ON sends (study_id, kind, state);
CREATE INDEX sends_due ON sends (target, priority, id) WHERE state = 'pending';
CREATE INDEX sends_dead ON sends (target, settled_ns) WHERE state = 'dead';
CREATE INDEX sends_held ON sends (target) WHERE state = 'held';

CREATE TABLE unclaimed (
    instance_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    root TEXT NOT NULL,
    arrived_ns INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (instance_id, sender, root)
) WITHOUT ROWID;
CREATE TABLE held (
    id INTEGER PRIMARY KEY,
    instance_id INTEGER NOT NULL UNIQUE,
    why TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    worker TEXT NOT NULL DEFAULT '',
    at_ns INTEGER NOT NULL,
    settled_ns INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT ''
);
CREATE INDEX held_open ON held (why, at_ns) WHERE settled_ns = 0;

CREATE TABLE targets (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT '',
    since_ns INTEGER NOT NULL DEFAULT 0,
    cause TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    stored_ns INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    verb TEXT NOT NULL,
    arguments TEXT NOT NULL DEFAULT '{}',
    at_ns INTEGER NOT NULL,
    done_ns INTEGER NOT NULL DEFAULT 0,
    answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX requests_open ON requests (id) WHERE done_ns = 0;
"""

# `moves.stored`: how many instances the origin had got of the study. `hints`: what a held orphan refers to.
_RETURNS = """
ALTER TABLE moves ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;
CREATE TABLE hints (
    uid TEXT NOT NULL,
    held_id INTEGER NOT NULL,
    PRIMARY KEY (uid, held_id)
) WITHOUT ROWID;
CREATE INDEX hints_of_held ON hints (held_id);
CREATE INDEX studies_awaited ON studies (last_ns) WHERE awaits_result = 1 AND results = 0 AND unanswered_ns = 0;
CREATE INDEX studies_unanswered ON studies (unanswered_ns) WHERE unanswered_ns > 0 AND results = 0;
"""

# For forgetting.
_FOLDERS = "CREATE INDEX instances_of_folder ON instances (folder_id);"

#: "DLrt" is its PRAGMA application_id.
ROUTE = Schema("route", 0x444C7274, (_FIRST, _RETURNS, _FOLDERS))
