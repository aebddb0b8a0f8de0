"""PURE. The steps of the schema to version 6, as released: never changed."""

from __future__ import annotations

SERIES = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    SeriesInstanceUID TEXT NOT NULL UNIQUE,
    StudyInstanceUID TEXT NOT NULL DEFAULT '',
    PatientID TEXT NOT NULL DEFAULT '',
    AccessionNumber TEXT NOT NULL DEFAULT '',
    Modality TEXT NOT NULL DEFAULT '',
    sender TEXT NOT NULL DEFAULT '',
    root TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'incomplete')),
    result TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT 1,
    instances INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    expected INTEGER NOT NULL DEFAULT 0,
    expected_by TEXT NOT NULL DEFAULT '',
    errors INTEGER NOT NULL DEFAULT 0,
    first_ns INTEGER NOT NULL DEFAULT 0,
    last_ns INTEGER NOT NULL DEFAULT 0,
    changed_ns INTEGER NOT NULL DEFAULT 0,
    pruned_ns INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX series_study ON series (StudyInstanceUID);
CREATE INDEX series_state ON series (state, last_ns);
CREATE INDEX series_ended ON series (changed_ns) WHERE state <> 'open';
CREATE INDEX series_last ON series (last_ns);

CREATE TABLE folders (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE instances (
    series_id INTEGER NOT NULL,
    SOPInstanceUID TEXT NOT NULL,
    folder_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    arrived_ns INTEGER NOT NULL,
    PRIMARY KEY (series_id, SOPInstanceUID, name, folder_id)
) WITHOUT ROWID;
CREATE VIEW files AS
    SELECT s.SeriesInstanceUID, i.SOPInstanceUID, f.path || '/' || i.name AS path, i.size, i.arrived_ns
    FROM instances i JOIN series s ON s.id = i.series_id JOIN folders f ON f.id = i.folder_id;
CREATE VIEW studies AS
    SELECT StudyInstanceUID, count(*) AS series, sum(state = 'complete') AS complete,
        CASE WHEN sum(state = 'open') THEN 'open' WHEN sum(state = 'incomplete') THEN 'incomplete' ELSE 'complete' END
            AS state,
        sum(instances) AS instances, sum(bytes) AS bytes, min(first_ns) AS first_ns, max(last_ns) AS last_ns
    FROM series WHERE StudyInstanceUID <> '' GROUP BY StudyInstanceUID;

CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    result TEXT NOT NULL DEFAULT '',
    instances INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    expected INTEGER NOT NULL DEFAULT 0,
    announced INTEGER NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX history_once ON history (series_id, generation, state <> 'open');
CREATE INDEX history_unannounced ON history (id) WHERE announced = 0;

CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    name TEXT NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL DEFAULT 0,
    SOPInstanceUID TEXT NOT NULL DEFAULT '',
    SeriesInstanceUID TEXT NOT NULL DEFAULT '',
    sender TEXT NOT NULL DEFAULT '',
    root TEXT NOT NULL DEFAULT '',
    arrived_ns INTEGER NOT NULL DEFAULT 0,
    at_ns INTEGER NOT NULL DEFAULT 0,
    gone_ns INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX set_aside_path ON set_aside (path) WHERE gone_ns = 0;
CREATE INDEX set_aside_lying ON set_aside (reason, at_ns) WHERE gone_ns = 0;

CREATE TABLE days (
    day TEXT NOT NULL,
    Modality TEXT NOT NULL,
    sender TEXT NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    set_aside INTEGER NOT NULL DEFAULT 0,
    series INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0,
    incomplete INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, Modality, sender)
) WITHOUT ROWID;

CREATE TABLE writers (name TEXT PRIMARY KEY, written_ns INTEGER NOT NULL) WITHOUT ROWID;
"""

COUNTS = """
CREATE TABLE series_counts (state TEXT PRIMARY KEY, series INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO series_counts
    SELECT s.state, (SELECT count(*) FROM series WHERE series.state = s.state)
    FROM (SELECT 'open' AS state UNION SELECT 'complete' UNION SELECT 'incomplete') s;
CREATE TRIGGER series_came AFTER INSERT ON series BEGIN
    UPDATE series_counts SET series = series + 1 WHERE state = new.state;
END;
CREATE TRIGGER series_went AFTER DELETE ON series BEGIN
    UPDATE series_counts SET series = series - 1 WHERE state = old.state;
END;
CREATE TRIGGER series_changed AFTER UPDATE OF state ON series WHEN old.state <> new.state BEGIN
    UPDATE series_counts SET series = series - 1 WHERE state = old.state;
    UPDATE series_counts SET series = series + 1 WHERE state = new.state;
END;

CREATE TABLE set_aside_counts (
    reason TEXT PRIMARY KEY,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO set_aside_counts SELECT reason, count(*), sum(size) FROM set_aside WHERE gone_ns = 0 GROUP BY reason;
CREATE TRIGGER set_aside_came AFTER INSERT ON set_aside WHEN new.gone_ns = 0 BEGIN
    INSERT OR IGNORE INTO set_aside_counts VALUES (new.reason, 0, 0);
    UPDATE set_aside_counts SET files = files + 1, bytes = bytes + new.size WHERE reason = new.reason;
END;
CREATE TRIGGER set_aside_left AFTER UPDATE OF gone_ns ON set_aside WHEN old.gone_ns = 0 AND new.gone_ns <> 0 BEGIN
    UPDATE set_aside_counts SET files = files - 1, bytes = bytes - old.size WHERE reason = old.reason;
END;
CREATE TRIGGER set_aside_back AFTER UPDATE OF gone_ns ON set_aside WHEN old.gone_ns <> 0 AND new.gone_ns = 0 BEGIN
    INSERT OR IGNORE INTO set_aside_counts VALUES (new.reason, 0, 0);
    UPDATE set_aside_counts SET files = files + 1, bytes = bytes + new.size WHERE reason = new.reason;
END;
"""

BATCHES_AND_DELIVERIES = """
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'open',
    made_ns INTEGER NOT NULL DEFAULT 0,
    changed_ns INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batch_series (
    batch_id INTEGER NOT NULL REFERENCES batches (id),
    series_id INTEGER NOT NULL REFERENCES series (id),
    PRIMARY KEY (batch_id, series_id)
) WITHOUT ROWID;
CREATE INDEX batch_of_series ON batch_series (series_id);
CREATE TABLE batch_errors (
    id INTEGER PRIMARY KEY,
    batch_id INTEGER NOT NULL REFERENCES batches (id),
    series_id INTEGER NOT NULL DEFAULT 0,
    at_ns INTEGER NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX errors_of_batch ON batch_errors (batch_id);

CREATE TABLE consumers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    active INTEGER NOT NULL DEFAULT 1,
    since_ns INTEGER NOT NULL
);
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    consumer_id INTEGER NOT NULL REFERENCES consumers (id),
    event TEXT NOT NULL,
    series_id INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    set_aside_id INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    made_ns INTEGER NOT NULL,
    next_ns INTEGER NOT NULL DEFAULT 0,
    lease TEXT NOT NULL DEFAULT '',
    lease_until_ns INTEGER NOT NULL DEFAULT 0,
    settled_ns INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    UNIQUE (consumer_id, event, series_id, generation, set_aside_id)
);
CREATE INDEX deliveries_due ON deliveries (consumer_id, set_aside_id > 0, next_ns) WHERE state = 'pending';
CREATE INDEX deliveries_of_series ON deliveries (series_id);
CREATE TABLE delivery_counts (
    consumer_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (consumer_id, state)
) WITHOUT ROWID;
CREATE TRIGGER delivery_came AFTER INSERT ON deliveries BEGIN
    INSERT OR IGNORE INTO delivery_counts VALUES (new.consumer_id, new.state, 0);
    UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE consumer_id = new.consumer_id AND state = new.state;
END;
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON deliveries WHEN old.state <> new.state BEGIN
    INSERT OR IGNORE INTO delivery_counts VALUES (new.consumer_id, new.state, 0);
    UPDATE delivery_counts SET deliveries = deliveries - 1 WHERE consumer_id = old.consumer_id AND state = old.state;
    UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE consumer_id = new.consumer_id AND state = new.state;
END;
"""

# A Series Instance UID in two studies is two series: UIDs should be unique (PS3.5 section 9), but copies of studies
# exist in which they are not. Ids stay, and with them all references.
SERIES_OF_A_STUDY = """
DROP VIEW files;
DROP VIEW studies;
CREATE TABLE series_of_a_study (
    id INTEGER PRIMARY KEY,
    SeriesInstanceUID TEXT NOT NULL,
    StudyInstanceUID TEXT NOT NULL DEFAULT '',
    PatientID TEXT NOT NULL DEFAULT '',
    AccessionNumber TEXT NOT NULL DEFAULT '',
    Modality TEXT NOT NULL DEFAULT '',
    sender TEXT NOT NULL DEFAULT '',
    root TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'incomplete')),
    result TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT 1,
    instances INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    expected INTEGER NOT NULL DEFAULT 0,
    expected_by TEXT NOT NULL DEFAULT '',
    errors INTEGER NOT NULL DEFAULT 0,
    first_ns INTEGER NOT NULL DEFAULT 0,
    last_ns INTEGER NOT NULL DEFAULT 0,
    changed_ns INTEGER NOT NULL DEFAULT 0,
    pruned_ns INTEGER NOT NULL DEFAULT 0,
    UNIQUE (SeriesInstanceUID, StudyInstanceUID)
);
INSERT INTO series_of_a_study SELECT * FROM series;
DROP TABLE series;
ALTER TABLE series_of_a_study RENAME TO series;
CREATE INDEX series_study ON series (StudyInstanceUID);
CREATE INDEX series_state ON series (state, last_ns);
CREATE INDEX series_ended ON series (changed_ns) WHERE state <> 'open';
CREATE INDEX series_last ON series (last_ns);
CREATE TRIGGER series_came AFTER INSERT ON series BEGIN
    UPDATE series_counts SET series = series + 1 WHERE state = new.state;
END;
CREATE TRIGGER series_went AFTER DELETE ON series BEGIN
    UPDATE series_counts SET series = series - 1 WHERE state = old.state;
END;
CREATE TRIGGER series_changed AFTER UPDATE OF state ON series WHEN old.state <> new.state BEGIN
    UPDATE series_counts SET series = series - 1 WHERE state = old.state;
    UPDATE series_counts SET series = series + 1 WHERE state = new.state;
END;
CREATE VIEW files AS
    SELECT s.SeriesInstanceUID, i.SOPInstanceUID, f.path || '/' || i.name AS path, i.size, i.arrived_ns,
        s.StudyInstanceUID
    FROM instances i JOIN series s ON s.id = i.series_id JOIN folders f ON f.id = i.folder_id;
CREATE VIEW studies AS
    SELECT StudyInstanceUID, count(*) AS series, sum(state = 'complete') AS complete,
        CASE WHEN sum(state = 'open') THEN 'open' WHEN sum(state = 'incomplete') THEN 'incomplete' ELSE 'complete' END
            AS state,
        sum(instances) AS instances, sum(bytes) AS bytes, min(first_ns) AS first_ns, max(last_ns) AS last_ns
    FROM series WHERE StudyInstanceUID <> '' AND (instances > 0 OR pruned_ns = 0) GROUP BY StudyInstanceUID;
"""

HOOKS = """
ALTER TABLE consumers ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE consumers ADD COLUMN stopped TEXT NOT NULL DEFAULT '';
CREATE INDEX deliveries_failed ON deliveries (consumer_id, settled_ns) WHERE state = 'failed';
CREATE TRIGGER delivery_went AFTER DELETE ON deliveries BEGIN
    UPDATE delivery_counts SET deliveries = deliveries - 1 WHERE consumer_id = old.consumer_id AND state = old.state;
END;
"""

# Study and modality of a set-aside file, also of one that came before the rest of its series.
OWNERS = """
ALTER TABLE set_aside ADD COLUMN StudyInstanceUID TEXT NOT NULL DEFAULT '';
ALTER TABLE set_aside ADD COLUMN Modality TEXT NOT NULL DEFAULT '';
CREATE INDEX set_aside_of_series ON set_aside (SeriesInstanceUID) WHERE SeriesInstanceUID <> '';
"""
