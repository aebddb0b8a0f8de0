"""Outcomes into rows of series and instances, and the open series beside them.

Counts are of what is there: an instance that was recorded already (a replay, a recount) counts once. Where numbers may
be in doubt the series is recounted from its documents.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from listener.ledger import connection, descriptions, feed, generations
from listener.ledger.completion import OpenSeries, SeriesKey, SeriesState, updated_state
from listener.ledger.corrections import Corrections
from listener.ledger.evidence import DocumentReader, Identity, Instance
from listener.ledger.rows import SeriesRow
from listener.ledger.tables import DailyTotals, InstanceRow, Tables, Total, last_of_each
from listener.planning.names import printable
from listener.records import Outcome
from listener.repacking import setaside
from listener.repacking.revision import Revision

_ADD = """
UPDATE series SET instances = instances + ?, bytes = bytes + ?, last_ns = max(last_ns, ?),
first_ns = CASE first_ns WHEN 0 THEN ? ELSE min(first_ns, ?) END WHERE id = ?
"""


class LedgerPaths:
    """Directories to which paths in rows are relative."""

    def __init__(self, incoming: Sequence[str], data_dir: str, state_dir: str) -> None:
        self.roots = [printable(root) for root in incoming]
        self._data = f"{data_dir.rstrip('/')}/"
        self.set_aside_dir = f"{state_dir.rstrip('/')}/set-aside/"

    def below_data(self, path: str) -> tuple[str, str]:
        """Return folder (below the data directory) and name of a file in the tree."""
        folder, _, name = path.removeprefix(self._data).rpartition("/")
        return folder, name

    def below_set_aside(self, path: str) -> str:
        """Return a set-aside file's path below the set-aside directory."""
        return printable(path.removeprefix(self.set_aside_dir))


class OutcomeRows:
    """Writes outcomes to one connection, within transactions of the caller's (see transaction())."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        open_series: OpenSeries,
        documents: DocumentReader,
        paths: LedgerPaths,
        policy: str = "replace",
    ) -> None:
        self._connection = connection
        self._open_series = open_series
        self._documents = documents
        self._paths = paths
        self._is_stale = False
        self._policy = policy
        #: Who follows the feed, as of the last transaction.
        self.followers: list[str] = []
        self.tables = Tables(connection)
        self.corrections = Corrections(connection, open_series, documents, self.tables)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in a transaction; a rollback clears the caches too. Raises LedgerFault."""
        try:
            with connection.transaction(self._connection):
                yield
        except BaseException:
            self.tables.clear_cache()
            raise

    def post(
        self, outcomes: Sequence[Outcome], now: float, now_ns: int, *, is_stale: bool = False
    ) -> list[SeriesState]:
        """Record outcomes; return the open series that got instances. `now` is on the quiet clock; `is_stale`: another
        process wrote since the open series were read.
        """
        self._is_stale = is_stale
        totals = DailyTotals()
        arrived: dict[SeriesKey, list[Outcome]] = {}
        duplicates: list[Outcome] = []
        for outcome in outcomes:
            kind = outcome.kind
            if kind == "published" and outcome.SeriesInstanceUID:
                arrived.setdefault((outcome.SeriesInstanceUID, outcome.StudyInstanceUID), []).append(outcome)
            elif kind == "duplicate":
                totals.of(outcome).duplicates += 1
                duplicates.append(outcome)
            elif kind == "set-aside" and outcome.dst:  # `repack` leaves such a file where it is.
                totals.of(outcome).set_aside += 1
                self._put_aside(outcome, outcome.reason, outcome.dst)
            elif kind == "revised":
                self._put_aside(outcome, outcome.reason, outcome.dst)
            elif kind == "renewed":
                self._identify_anew(outcome)
        changed = [self._add_published(key, group, totals, now, now_ns) for key, group in arrived.items()]
        self.tables.record_duplicates(duplicates)
        totals.write(self._connection)
        self.followers = feed.followers(self._connection)
        if self.followers:
            feed.add(self._connection, list(self._feed_rows(outcomes, now, now_ns)))
        return [series for series in changed if series.is_open]

    def _feed_rows(self, outcomes: Iterable[Outcome], now: float, now_ns: int) -> Iterator[feed.NewRow]:
        ids: dict[SeriesKey, int] = {}
        for outcome in outcomes:
            key = outcome.SeriesInstanceUID, outcome.StudyInstanceUID
            if outcome.kind not in feed.KINDS or not outcome.dst or not key[0]:
                continue
            if key not in ids:
                ids[key] = self.known_id(key, now, now_ns)
            folder, name = self._paths.below_data(outcome.dst)
            yield feed.NewRow(
                outcome.kind,
                ids[key],
                outcome.SOPInstanceUID,
                self.tables.folder(folder),
                name,
                outcome.sender.encode("utf-8", "replace").decode(),
                self._paths.roots[outcome.root_index] if outcome.root_index >= 0 else "",
                outcome.arrived_ns,
            )

    def known_id(self, key: SeriesKey, now: float, now_ns: int) -> int:
        """Return the id of a series. One that the ledger lacks, of a duplicate, is counted from its documents."""
        row = generations.find(self._connection, *key)
        if row is None:
            self.recount(key[0], now, now_ns)
            row = generations.find(self._connection, *key)
        return row.id if row else 0

    def _put_aside(self, outcome: Outcome, reason: str, path: str) -> None:
        root = self._paths.roots[outcome.root_index]
        self.tables.add_set_aside(self._paths.below_set_aside(path), reason, outcome, root)

    # -- one series

    def _add_published(
        self, key: SeriesKey, group: Sequence[Outcome], totals: DailyTotals, now: float, now_ns: int
    ) -> SeriesState:
        """Record published instances of one series, in this order; return its state."""
        header = next((outcome.header for outcome in group if outcome.header), None)
        state, new = self._find_or_begin(key, group[0]._replace(header=header), now, now_ns)
        had = None if state.is_open else self.tables.total(state.id)
        rows = [self._row(state.id, outcome) for outcome in group]
        replacing = any(outcome.superseded for outcome in group)
        if replacing:
            rows = self._replaced(state, rows, group, now_ns)
        if not state.is_open and generations.is_pruned(self._connection, state.id):
            self.tables.remove_same(rows)  # `prune` may not have removed the rows of what it removed yet.
        added = self.tables.add(rows)
        size = sum(row.size for row in rows) if added == len(rows) else self._growth(state)
        arrivals = [row.arrived_ns for row in rows]
        self._add_to_series(state, Total(added, size), min(arrivals), max(arrivals))
        totals.credit(group, added, size)
        if header and not new:
            descriptions.describe(self._connection, state.id, header, rows[-1].folder_id)
        if new:
            descriptions.set_folder(self._connection, state.id, rows[-1].folder_id)
            series = self._all_of(key[0], state, now)
            before = self._totals_of_ended(series.values())
            for other, number in self._reconcile(key[0], series, totals, now, now_ns):
                if other is not state and number:
                    self._mark_active(other, now, now_ns, before.get(other.id))
        doubled = self.corrections.request_doubles(state, rows)
        if replacing or doubled or added != len(rows):
            self._set_total(state)
        if replacing or state.PatientID != (group[-1].PatientID or "PatientID"):
            self._correct(state, rows[-1], group[-1])
        # By this policy the older file stays: the other is about to leave the tree.
        left = doubled if self._policy == "set-aside" else 0
        news = added > left or replacing or self._is_only_recounted(state)
        self._mark_active(state, now, now_ns, had if news else None)
        return state

    def _replaced(
        self, series: SeriesState, rows: list[InstanceRow], group: Sequence[Outcome], now_ns: int
    ) -> list[InstanceRow]:
        """Record that some of these instances superseded older data sets; return the rows that remain."""
        gone = [row.SOPInstanceUID for row, outcome in zip(rows, group, strict=True) if outcome.superseded]
        if self.tables.supersede(series.id, gone) < len(gone):
            self.corrections.take_from_others(series, gone, now_ns)
        for outcome in group:
            if outcome.superseded:
                kept = outcome._replace(size=_size(outcome), error=setaside.SUPERSEDED_TEXT)
                self._put_aside(kept, "superseded", outcome.superseded)
        return last_of_each(rows, group)

    def _correct(self, series: SeriesState, row: InstanceRow, outcome: Outcome) -> None:
        folder = self._paths.below_data(outcome.dst)[0]
        newest = Instance(row.SOPInstanceUID, folder, row.name, row.size, row.arrived_ns, outcome.StudyInstanceUID)
        self.corrections.identify(series, newest, outcome.PatientID)
        if outcome.superseded:
            self.corrections.request(Revision(series.SeriesInstanceUID, renews=True))

    def _identify_anew(self, outcome: Outcome) -> None:
        """Write what the shared documents now describe into a series' row: of instances that workers published at the
        same time, the last one recorded need not be the newest.
        """
        row = generations.find(self._connection, outcome.SeriesInstanceUID, outcome.StudyInstanceUID)
        if row:
            folder, name = self._paths.below_data(outcome.dst)
            newest = Instance("", folder, name, 0, outcome.arrived_ns, outcome.StudyInstanceUID)
            self.corrections.identify(generations.state_of(self._connection, row, 0.0), newest)

    def _row(self, series: int, outcome: Outcome) -> InstanceRow:
        folder, name = self._paths.below_data(outcome.dst)
        folder_id = self.tables.folder(folder)
        return InstanceRow(series, outcome.SOPInstanceUID, folder_id, name, outcome.size, outcome.arrived_ns)

    def _find_or_begin(self, key: SeriesKey, outcome: Outcome, now: float, now_ns: int) -> tuple[SeriesState, bool]:
        """Return a series, and whether it is new to the ledger."""
        known = self._open_series.get(*key)
        if known and known.id and not self._is_stale:
            return known, False
        row = generations.find(self._connection, *key)
        if row and row.StudyInstanceUID:
            series = generations.state_of(self._connection, row, now)
            if not series.is_open:
                self._open_series.drop(*key)
            return updated_state(known, series, now) if known else series, False
        uid, study = key
        patient = outcome.PatientID or "PatientID"
        # Not every layout reads AccessionNumber.
        header = outcome.header or self._documents.header(study, uid)
        accession = header.AccessionNumber if header else ""
        identity = Identity(study, patient, accession, outcome.Modality, outcome.sender, header)
        row = self._begin(uid, identity, outcome.root_index, now_ns)
        return generations.state_of(self._connection, row, now), True

    def _begin(self, uid: str, identity: Identity, root_index: int, now_ns: int) -> SeriesRow:
        """Return the row of a new series. A row that was only expected (of no study yet) becomes it."""
        row = generations.find(self._connection, uid, "") or generations.begin(self._connection, uid, now_ns)
        if not identity.StudyInstanceUID:
            return row
        self._open_series.drop(uid, "")
        self._identify(row, identity, root_index, now_ns)
        known = generations.row_of(self._connection, row.id)
        assert known
        return known

    def _identify(self, row: SeriesRow, identity: Identity, root_index: int, now_ns: int) -> None:
        incoming = self._paths.roots[root_index] if root_index >= 0 else ""
        texts = [text.encode("utf-8", "replace").decode() for text in (*identity[:-1], incoming)]
        generations.identify(self._connection, row.id, tuple(texts), now_ns)
        if identity.header:
            descriptions.describe(self._connection, row.id, identity.header)

    def _add_to_series(self, series: SeriesState, total: Total, first_ns: int, last_ns: int) -> None:
        self._connection.execute(_ADD, (*total, last_ns, first_ns, first_ns, series.id))
        series.instances += total.instances

    def _set_total(self, series: SeriesState) -> None:
        series.instances = self.tables.set_total(series.id).instances

    def _growth(self, series: SeriesState) -> int:
        """Return the bytes by which a series' instances exceed its row, if some of the group were there already."""
        (known,) = self._connection.execute("SELECT bytes FROM series WHERE id = ?", (series.id,)).fetchone()
        return max(0, self.tables.total(series.id).bytes - int(known))

    def _totals_of_ended(self, series: Iterable[SeriesState]) -> dict[int, Total]:
        """Return the totals of the series that have ended, by id."""
        return {state.id: self.tables.total(state.id) for state in series if not state.is_open}

    def _mark_active(self, series: SeriesState, now: float, now_ns: int, had: Total | None) -> None:
        """Set a series' last activity. With `had`, the total before what is new, one that had ended is reopened."""
        if not series.is_open and had:
            generations.reopen(self._connection, series.id, now_ns, had)
            self._set_total(series)  # Its instances may have been removed meanwhile (prune).
            row = generations.row_of(self._connection, series.id)
            assert row
            again = generations.state_of(self._connection, row, now)
            series.is_open, series.generation, series.began_with = True, again.generation, again.began_with
        if series.is_open:
            series.last_activity = now
            self._open_series.keep(series)

    def _is_only_recounted(self, series: SeriesState) -> bool:
        """Return whether a series ended because `verify --repair` found it, so that no consumer got a delivery."""
        return not series.is_open and generations.ended_without_deliveries(self._connection, series.id)

    # -- counting again

    def recount(self, uid: str, now: float, now_ns: int, *, arrived: bool = False) -> list[SeriesState]:
        """Bring the series of a UID in line with their documents and return them; unknown ones are added. Empty if
        nothing is there. `arrived`: instances came whose end consumers wait for.
        """
        series = self._all_of(uid, None, now)
        if not self._documents.names(uid) and all(row.pruned_ns for row in generations.all_of(self._connection, uid)):
            return []
        totals = DailyTotals()
        before = self._totals_of_ended(series.values())
        described = self._reconcile(uid, series, totals, now, now_ns)
        totals.write(self._connection)
        for state, number in described:
            news = bool(number) or (arrived and self._is_only_recounted(state))
            if news or state.is_open:
                moment = now if news or not state.last_activity else state.last_activity
                self._mark_active(state, moment, now_ns, before.get(state.id) if news else None)
            else:  # Another process ended it.
                self._open_series.drop(*state.key)
        return [state for state, _ in described]

    def _all_of(self, uid: str, met: SeriesState | None, now: float) -> dict[int, SeriesState]:
        """Return the series of a UID by id, those in memory as they are there; `met` is one that is not there yet."""
        series = {met.id: met} if met else {}
        for row in generations.all_of(self._connection, uid):
            state = self._open_series.get(uid, row.StudyInstanceUID)
            known = (
                state
                if state and state.id == row.id
                else generations.state_of(self._connection, row, state.last_activity if state else now)
            )
            series.setdefault(row.id, known)
        return series

    def _reconcile(
        self, uid: str, series: dict[int, SeriesState], totals: DailyTotals, now: float, now_ns: int
    ) -> list[tuple[SeriesState, int]]:
        """Bring the rows of a UID's series in line with its documents; return each with the number of added instances.
        Documents are filed by UID, rows by UID and study: each document names the study of its instance.
        """
        names = self._documents.names(uid)
        if names is None:
            return [(state, 0) for state in series.values()]
        there = {number: self.tables.names(number) for number in series}
        recorded = set().union(*there.values())
        unrecorded: dict[int, list[Instance]] = {}
        for name in names:
            instance = self._documents.instance(uid, name) if name not in recorded else None
            if instance:
                state = self._series_of(instance, uid, series, now, now_ns)
                unrecorded.setdefault(state.id, []).append(instance)
        described = set(names)
        return [
            (state, self._apply(state, unrecorded.get(number, ()), there.get(number, set()) - described, totals))
            for number, state in series.items()
        ]

    def _series_of(
        self, instance: Instance, uid: str, series: dict[int, SeriesState], now: float, now_ns: int
    ) -> SeriesState:
        """Return the series of an instance; add a new one to `series`."""
        identity = Identity(instance.StudyInstanceUID)
        of_study = {state.StudyInstanceUID: state for state in series.values()}
        if identity.StudyInstanceUID not in of_study or not identity.StudyInstanceUID:
            identity = self._documents.identity(uid, instance)
            identity = identity if identity.StudyInstanceUID else Identity(instance.StudyInstanceUID)
        known = of_study.get(identity.StudyInstanceUID)
        if known is None and not identity.StudyInstanceUID:  # The study is not known.
            known = next(iter(series.values()), None)
        if known:
            return known
        begun = generations.state_of(self._connection, self._begin(uid, identity, -1, now_ns), now)
        series[begun.id] = begun
        return begun

    def _apply(self, series: SeriesState, instances: Sequence[Instance], gone: set[str], totals: DailyTotals) -> int:
        """Add and remove rows of one series; return how many were added."""
        added = self.tables.add([self._document_row(series.id, instance) for instance in instances])
        self.tables.remove(series.id, gone)
        row = generations.row_of(self._connection, series.id) if instances else None
        for instance in instances:
            counts = totals.at(instance.at_ns, series.Modality, row.sender if row else "")
            counts.published += 1
            counts.bytes += instance.size
        if instances:
            moments = [instance.at_ns for instance in instances]
            self._add_to_series(series, Total(0, 0), min(moments), max(moments))
            self.corrections.identify(series, max(instances, key=lambda instance: instance.at_ns))
        if instances or gone:
            self._set_total(series)
        self.corrections.request_doubles(series)
        return added

    def _document_row(self, series: int, instance: Instance) -> InstanceRow:
        folder = self.tables.folder(printable(instance.folder))
        return InstanceRow(series, instance.SOPInstanceUID, folder, instance.name, instance.size, instance.at_ns)


def _size(outcome: Outcome) -> int:
    """Return the size of the superseded file; that of the new one if it is gone."""
    try:
        return os.lstat(outcome.superseded).st_size
    except OSError:
        return outcome.size
