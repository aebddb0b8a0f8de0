"""PURE. The ledger's tables, as steps from each version of the schema to the next. docs/ledger.md explains them.

Every time is an integer, nanoseconds since the epoch, in a column that ends in `_ns`; 0 means never. An absent text is
'', an unknown number 0: nothing is NULL. Triggers keep the counts over all series, so that every writer keeps them
right and no reader counts millions of rows.
"""

from __future__ import annotations

from listener.ledger import released_steps

#: PRAGMA application_id of a ledger: "DLdg".
APPLICATION = 0x444C6467

#: The file's name in the state directory.
FILE = "ledger.sqlite"

STATES = ("open", "complete", "incomplete")

# What a study is told of: generations like those of series. A trigger begins one, whoever opens a series; a study that
# ended before this version has no row, and is told of once something comes for it again. A generation that nobody was
# told of (`recounted`) goes on instead.
_STUDY_ENDS = """
CREATE TABLE study_states (
    id INTEGER PRIMARY KEY,
    StudyInstanceUID TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'incomplete')),
    result TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT 1,
    changed_ns INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX study_states_open ON study_states (id) WHERE state = 'open';
CREATE TABLE study_ends (
    id INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    result TEXT NOT NULL,
    series INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    instances INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    announced INTEGER NOT NULL DEFAULT 0,
    UNIQUE (study_id, generation)
);
CREATE INDEX study_ends_unannounced ON study_ends (id) WHERE announced = 0;
INSERT INTO study_states (StudyInstanceUID, changed_ns)
    SELECT StudyInstanceUID, max(changed_ns) FROM series WHERE state = 'open' AND StudyInstanceUID <> ''
    GROUP BY StudyInstanceUID;
CREATE TRIGGER study_begun AFTER UPDATE OF state, StudyInstanceUID ON series
WHEN new.state = 'open' AND new.StudyInstanceUID <> '' AND (old.state <> 'open' OR old.StudyInstanceUID = '') BEGIN
    INSERT INTO study_states (StudyInstanceUID, changed_ns) VALUES (new.StudyInstanceUID, new.changed_ns)
    ON CONFLICT (StudyInstanceUID) DO UPDATE SET state = 'open', changed_ns = excluded.changed_ns,
        generation = generation + (result <> 'recounted') WHERE state <> 'open';
END;

ALTER TABLE consumers ADD COLUMN wants TEXT NOT NULL DEFAULT '';
CREATE TABLE deliveries_of_studies_too (
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
    study_id INTEGER NOT NULL DEFAULT 0,
    UNIQUE (consumer_id, event, series_id, generation, set_aside_id, study_id)
);
INSERT INTO deliveries_of_studies_too SELECT *, 0 FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_of_studies_too RENAME TO deliveries;
CREATE INDEX deliveries_due ON deliveries (consumer_id, set_aside_id > 0, next_ns) WHERE state = 'pending';
CREATE INDEX deliveries_oldest ON deliveries (consumer_id, made_ns) WHERE state = 'pending';
CREATE INDEX deliveries_failed ON deliveries (consumer_id, settled_ns) WHERE state = 'failed';
CREATE INDEX deliveries_of_series ON deliveries (series_id);
CREATE INDEX deliveries_of_study ON deliveries (study_id) WHERE study_id > 0;
CREATE TRIGGER delivery_came AFTER INSERT ON deliveries BEGIN
    INSERT OR IGNORE INTO delivery_counts VALUES (new.consumer_id, new.state, 0);
    UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE consumer_id = new.consumer_id AND state = new.state;
END;
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON deliveries WHEN old.state <> new.state BEGIN
    INSERT OR IGNORE INTO delivery_counts VALUES (new.consumer_id, new.state, 0);
    UPDATE delivery_counts SET deliveries = deliveries - 1 WHERE consumer_id = old.consumer_id AND state = old.state;
    UPDATE delivery_counts SET deliveries = deliveries + 1 WHERE consumer_id = new.consumer_id AND state = new.state;
END;
CREATE TRIGGER delivery_went AFTER DELETE ON deliveries BEGIN
    UPDATE delivery_counts SET deliveries = deliveries - 1 WHERE consumer_id = old.consumer_id AND state = old.state;
END;
"""

# What headers say. A series is counted in its study unless it is empty (its instances are in another study now), as the
# view did that was here before. A study has one id in all tables. Before `patients` is filled, `patient_id` is 0: the
# writer fills it in from documents.
_PATIENTS_AND_STUDIES = """
DROP VIEW studies;
CREATE TABLE patients (
    id INTEGER PRIMARY KEY,
    PatientID TEXT NOT NULL DEFAULT '',
    IssuerOfPatientID TEXT NOT NULL DEFAULT '',
    PatientName TEXT NOT NULL DEFAULT '',
    PatientBirthDate TEXT NOT NULL DEFAULT '',
    UNIQUE (PatientID, IssuerOfPatientID, PatientName, PatientBirthDate)
);
CREATE INDEX patients_key ON patients (lower(PatientID));
CREATE TABLE patient_names (
    patient_id INTEGER NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (patient_id, folded)
) WITHOUT ROWID;
CREATE INDEX patient_names_folded ON patient_names (folded);

CREATE TABLE studies (
    id INTEGER PRIMARY KEY,
    StudyInstanceUID TEXT NOT NULL UNIQUE,
    StudyDate TEXT NOT NULL DEFAULT '',
    StudyTime TEXT NOT NULL DEFAULT '',
    StudyDescription TEXT NOT NULL DEFAULT '',
    series INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0,
    incomplete INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN open > 0 THEN 'open' WHEN incomplete > 0 THEN 'incomplete' ELSE 'complete' END
    ) VIRTUAL,
    instances INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    first_ns INTEGER NOT NULL DEFAULT 0,
    last_ns INTEGER NOT NULL DEFAULT 0
);
INSERT INTO studies (id, StudyInstanceUID) SELECT id, StudyInstanceUID FROM study_states;
INSERT OR IGNORE INTO studies (StudyInstanceUID)
    SELECT StudyInstanceUID FROM series WHERE StudyInstanceUID <> '' ORDER BY id;
UPDATE studies SET (series, open, complete, incomplete, instances, bytes, first_ns, last_ns) = (
    SELECT sum(counts), sum(counts AND s.state = 'open'), sum(counts AND s.state = 'complete'),
        sum(counts AND s.state = 'incomplete'), sum(s.instances), sum(s.bytes), ifnull(min(nullif(s.first_ns, 0)), 0),
        max(s.last_ns)
    FROM (SELECT *, (instances > 0 OR pruned_ns = 0) AS counts FROM series) s
    WHERE s.StudyInstanceUID = studies.StudyInstanceUID
);

ALTER TABLE series ADD COLUMN study_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN patient_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN folder_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN SeriesNumber TEXT NOT NULL DEFAULT '';
ALTER TABLE series ADD COLUMN SeriesDescription TEXT NOT NULL DEFAULT '';
ALTER TABLE series ADD COLUMN StationName TEXT NOT NULL DEFAULT '';
UPDATE series SET study_id = (SELECT id FROM studies t WHERE t.StudyInstanceUID = series.StudyInstanceUID)
    WHERE StudyInstanceUID <> '';

CREATE INDEX series_of_study ON series (study_id);
CREATE INDEX series_of_patient ON series (patient_id, study_id);
CREATE INDEX series_modality ON series (Modality, study_id);
CREATE INDEX series_sender ON series (sender, study_id);
CREATE INDEX series_accession ON series (lower(AccessionNumber), study_id) WHERE AccessionNumber <> '';
CREATE INDEX series_description ON series (SeriesDescription, study_id) WHERE SeriesDescription <> '';
CREATE INDEX studies_last ON studies (last_ns) WHERE series > 0;
CREATE INDEX studies_unfinished ON studies (state, last_ns) WHERE state <> 'complete';
CREATE INDEX studies_date ON studies (StudyDate) WHERE StudyDate <> '';
CREATE INDEX studies_description ON studies (StudyDescription) WHERE StudyDescription <> '';

DROP TRIGGER study_begun;
CREATE TRIGGER study_begun AFTER UPDATE OF state, StudyInstanceUID ON series
WHEN new.state = 'open' AND new.StudyInstanceUID <> '' AND (old.state <> 'open' OR old.StudyInstanceUID = '') BEGIN
    INSERT OR IGNORE INTO studies (StudyInstanceUID) VALUES (new.StudyInstanceUID);
    INSERT INTO study_states (id, StudyInstanceUID, changed_ns)
    SELECT id, StudyInstanceUID, new.changed_ns FROM studies WHERE StudyInstanceUID = new.StudyInstanceUID
    ON CONFLICT (StudyInstanceUID) DO UPDATE SET state = 'open', changed_ns = excluded.changed_ns,
        generation = generation + (result <> 'recounted') WHERE state <> 'open';
END;
CREATE TRIGGER series_came_in_study AFTER INSERT ON series WHEN new.StudyInstanceUID <> '' BEGIN
    INSERT OR IGNORE INTO studies (StudyInstanceUID) VALUES (new.StudyInstanceUID);
    UPDATE series SET study_id = (SELECT id FROM studies WHERE StudyInstanceUID = new.StudyInstanceUID)
        WHERE id = new.id;
END;
CREATE TRIGGER series_got_study AFTER UPDATE OF StudyInstanceUID ON series
WHEN new.StudyInstanceUID <> old.StudyInstanceUID AND new.StudyInstanceUID <> '' BEGIN
    INSERT OR IGNORE INTO studies (StudyInstanceUID) VALUES (new.StudyInstanceUID);
    UPDATE series SET study_id = (SELECT id FROM studies WHERE StudyInstanceUID = new.StudyInstanceUID)
        WHERE id = new.id;
END;
CREATE TRIGGER study_got_series AFTER UPDATE OF study_id ON series WHEN new.study_id <> old.study_id BEGIN
    UPDATE studies SET series = series + (new.instances > 0 OR new.pruned_ns = 0),
        open = open + (new.state = 'open' AND (new.instances > 0 OR new.pruned_ns = 0)),
        complete = complete + (new.state = 'complete' AND (new.instances > 0 OR new.pruned_ns = 0)),
        incomplete = incomplete + (new.state = 'incomplete' AND (new.instances > 0 OR new.pruned_ns = 0)),
        instances = instances + new.instances, bytes = bytes + new.bytes,
        first_ns = CASE WHEN new.first_ns = 0 THEN first_ns WHEN first_ns = 0 THEN new.first_ns
            ELSE min(first_ns, new.first_ns) END,
        last_ns = max(last_ns, new.last_ns)
        WHERE id = new.study_id;
END;
CREATE TRIGGER study_changed AFTER UPDATE OF state, instances, bytes, first_ns, last_ns, pruned_ns ON series
WHEN new.study_id <> 0 AND new.study_id = old.study_id
    AND (new.state, new.instances, new.bytes, new.first_ns, new.last_ns, new.pruned_ns)
    <> (old.state, old.instances, old.bytes, old.first_ns, old.last_ns, old.pruned_ns) BEGIN
    UPDATE studies SET
        series = series + (new.instances > 0 OR new.pruned_ns = 0) - (old.instances > 0 OR old.pruned_ns = 0),
        open = open + (new.state = 'open' AND (new.instances > 0 OR new.pruned_ns = 0))
            - (old.state = 'open' AND (old.instances > 0 OR old.pruned_ns = 0)),
        complete = complete + (new.state = 'complete' AND (new.instances > 0 OR new.pruned_ns = 0))
            - (old.state = 'complete' AND (old.instances > 0 OR old.pruned_ns = 0)),
        incomplete = incomplete + (new.state = 'incomplete' AND (new.instances > 0 OR new.pruned_ns = 0))
            - (old.state = 'incomplete' AND (old.instances > 0 OR old.pruned_ns = 0)),
        instances = instances + new.instances - old.instances, bytes = bytes + new.bytes - old.bytes,
        first_ns = CASE WHEN new.first_ns = 0 THEN first_ns WHEN first_ns = 0 THEN new.first_ns
            ELSE min(first_ns, new.first_ns) END,
        last_ns = max(last_ns, new.last_ns)
        WHERE id = new.study_id;
END;
CREATE TRIGGER study_lost_series AFTER DELETE ON series WHEN old.study_id <> 0 BEGIN
    UPDATE studies SET series = series - (old.instances > 0 OR old.pruned_ns = 0),
        open = open - (old.state = 'open' AND (old.instances > 0 OR old.pruned_ns = 0)),
        complete = complete - (old.state = 'complete' AND (old.instances > 0 OR old.pruned_ns = 0)),
        incomplete = incomplete - (old.state = 'incomplete' AND (old.instances > 0 OR old.pruned_ns = 0)),
        instances = instances - old.instances, bytes = bytes - old.bytes
        WHERE id = old.study_id;
END;
"""

# For those who work on each instance as soon as it is published. AUTOINCREMENT: a number is never given twice, so that
# a follower sees by a gap that rows went.
_FEED = """
ALTER TABLE consumers ADD COLUMN follows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumers ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
CREATE TABLE feed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    series_id INTEGER NOT NULL,
    SOPInstanceUID TEXT NOT NULL,
    folder_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    sender TEXT NOT NULL,
    root TEXT NOT NULL,
    arrived_ns INTEGER NOT NULL
);
"""

# Folders are relative to the data directory: who reads the ledger from elsewhere has to know which it is.
_DATA_DIRECTORY = """
ALTER TABLE writers ADD COLUMN data_dir TEXT NOT NULL DEFAULT '';
"""

# What a page or a report narrows by modality, sender or study it finds by these; a report asks for each sender's last
# arrival in a period.
_NARROWED = """
CREATE INDEX series_modality_last ON series (Modality, last_ns);
CREATE INDEX series_sender_last ON series (sender, last_ns);
CREATE INDEX set_aside_sender ON set_aside (sender, arrived_ns);
CREATE INDEX set_aside_of_study ON set_aside (StudyInstanceUID) WHERE StudyInstanceUID <> '';
"""

# Folders as batches. `folder` is its name in bytes, as the file system has it, `root` the directory where it lies (""
# of a batch that is no folder); counts and errors are those of its last generation. Of a batch's series `awaits` is the
# generation that its files came in.
_FOLDERS = """
CREATE TABLE batches_of_a_root (
    id INTEGER PRIMARY KEY,
    root TEXT NOT NULL DEFAULT '',
    folder BLOB NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'queue', 'processing', 'done', 'empty')),
    generation INTEGER NOT NULL DEFAULT 1,
    made_ns INTEGER NOT NULL DEFAULT 0,
    queued_ns INTEGER NOT NULL DEFAULT 0,
    started_ns INTEGER NOT NULL DEFAULT 0,
    files_ended_ns INTEGER NOT NULL DEFAULT 0,
    finished_ns INTEGER NOT NULL DEFAULT 0,
    changed_ns INTEGER NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    withheld_by TEXT NOT NULL DEFAULT '',
    signature TEXT NOT NULL DEFAULT '',
    inode INTEGER NOT NULL DEFAULT 0,
    renamed INTEGER NOT NULL DEFAULT 0,
    announced TEXT NOT NULL DEFAULT '',
    UNIQUE (root, folder)
);
INSERT INTO batches_of_a_root (id, folder, name, state, made_ns, changed_ns)
    SELECT id, CAST(name AS BLOB), name, CASE WHEN state IN ('new', 'queue', 'done', 'empty') THEN state
        ELSE 'processing' END, made_ns, changed_ns FROM batches;
DROP TABLE batches;
ALTER TABLE batches_of_a_root RENAME TO batches;
CREATE INDEX batches_state ON batches (state, errors > 0);
CREATE INDEX batches_made ON batches (made_ns);
ALTER TABLE batch_series ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batch_series ADD COLUMN awaits INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batch_series ADD COLUMN instances INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch_series ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch_errors ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batch_errors ADD COLUMN path TEXT NOT NULL DEFAULT '';
ALTER TABLE batch_errors ADD COLUMN reason TEXT NOT NULL DEFAULT '';
"""

# A person knows of an incomplete study. What changes it for the worse afterwards is news.
_ACKNOWLEDGED = """
ALTER TABLE studies ADD COLUMN acknowledged_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE studies ADD COLUMN acknowledged_by TEXT NOT NULL DEFAULT '';
CREATE INDEX studies_acknowledged ON studies (incomplete, open) WHERE acknowledged_ns > 0;
CREATE TRIGGER study_is_news AFTER UPDATE OF open, incomplete ON studies
WHEN old.acknowledged_ns > 0 AND (new.open > old.open OR new.incomplete > old.incomplete) BEGIN
    UPDATE studies SET acknowledged_ns = 0, acknowledged_by = '' WHERE id = new.id;
END;
"""

# What a backfill brought is told after all else that is due.
_BACKFILLS = """
ALTER TABLE deliveries ADD COLUMN later INTEGER NOT NULL DEFAULT 0;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (consumer_id, later, set_aside_id > 0, next_ns) WHERE state = 'pending';
"""

#: Step n migrates version n to n + 1. Steps are only ever added, so that a file of any version can be migrated.
STEPS = (
    released_steps.SERIES,
    released_steps.COUNTS,
    released_steps.BATCHES_AND_DELIVERIES,
    released_steps.SERIES_OF_A_STUDY,
    released_steps.HOOKS,
    released_steps.OWNERS,
    _STUDY_ENDS,
    _PATIENTS_AND_STUDIES,
    _FEED,
    _DATA_DIRECTORY,
    _NARROWED,
    _FOLDERS,
    _ACKNOWLEDGED,
    _BACKFILLS,
)

VERSION = len(STEPS)
