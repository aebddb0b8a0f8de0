"""Putting outcomes down: rows of series and instances, and the book of open series beside them.

What is there is counted, never what was told: an instance that was recorded already (a replay, a recount) is one. Where
numbers may be in doubt the series is counted again from its documents.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from listener.ledger import connection, generations
from listener.ledger.completion import Key, OpenSeries, SeriesState, follow
from listener.ledger.corrections import Corrections
from listener.ledger.evidence import DocumentReader, Identity, Instance
from listener.ledger.rows import SeriesRow
from listener.ledger.tables import DailyTotals, Row, Tables, Total, last_of_each
from listener.planning.names import printable
from listener.records import Outcome
from listener.repacking import setaside
from listener.repacking.revision import Revision

_ADD = """
UPDATE series SET instances = instances + ?, bytes = bytes + ?, last_ns = max(last_ns, ?),
first_ns = CASE first_ns WHEN 0 THEN ? ELSE min(first_ns, ?) END WHERE id = ?
"""


class Places:
    """The directories that rows name parts of."""

    def __init__(self, incoming: Sequence[str], data: str, state: str) -> None:
        self.roots = [printable(root) for root in incoming]
        self._data = f"{data.rstrip('/')}/"
        self.aside = f"{state.rstrip('/')}/set-aside/"

    def below_data(self, path: str) -> tuple[str, str]:
        """Folder and name of an instance in the tree."""
        folder, _, name = path.removeprefix(self._data).rpartition("/")
        return folder, name

    def below_aside(self, path: str) -> str:
        """A set-aside file's path below its directory."""
        return printable(path.removeprefix(self.aside))


class OutcomeRows:
    """Works on one connection, within transactions of the caller's."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        book: OpenSeries,
        proofs: DocumentReader,
        places: Places,
        policy: str = "replace",
    ) -> None:
        self._connection = connection
        self._book = book
        self._proofs = proofs
        self._places = places
        self._is_stale = False
        self._policy = policy
        self.entries = Tables(connection)
        self.corrections = Corrections(connection, book, proofs, self.entries)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; what a transaction that was taken back had made is not remembered. Raises a
        LedgerFault.
        """
        try:
            with connection.transaction(self._connection):
                yield
        except BaseException:
            self.entries.forget()
            raise

    def post(
        self, outcomes: Sequence[Outcome], now: float, now_ns: int, *, is_stale: bool = False
    ) -> list[SeriesState]:
        """Put outcomes down; the series that got instances. `now` on the clock of quiet.py; `is_stale`: another one
        wrote since the book was renewed.
        """
        self._is_stale = is_stale
        accounts = DailyTotals()
        arrived: dict[Key, list[Outcome]] = {}
        again: list[Outcome] = []
        for outcome in outcomes:
            kind = outcome.kind
            if kind == "published" and outcome.SeriesInstanceUID:
                arrived.setdefault((outcome.SeriesInstanceUID, outcome.StudyInstanceUID), []).append(outcome)
            elif kind == "duplicate":
                accounts.of(outcome)[2] += 1
                again.append(outcome)
            elif kind == "set-aside" and outcome.dst:  # `repack` leaves such a file where it is.
                accounts.of(outcome)[3] += 1
                self._put_aside(outcome, outcome.reason, outcome.dst)
            elif kind == "revised":
                self._put_aside(outcome, outcome.reason, outcome.dst)
        touched = [self._arrived(key, group, accounts, (now, now_ns)) for key, group in arrived.items()]
        self.entries.came_again(again)
        accounts.write(self._connection)
        return [one for one in touched if one.is_open]

    def _put_aside(self, outcome: Outcome, reason: str, path: str) -> None:
        root = self._places.roots[outcome.root]
        self.entries.put_aside(self._places.below_aside(path), reason, outcome, root)

    # -- one series

    def _arrived(
        self, key: Key, group: Sequence[Outcome], accounts: DailyTotals, moment: tuple[float, int]
    ) -> SeriesState:
        """Instances of one series were published, in this order."""
        now, now_ns = moment
        one, new = self._meet(key, group[0], now, now_ns)
        had = None if one.is_open else self.entries.total(one.id)
        rows = [self._row(one.id, outcome) for outcome in group]
        replacing = any(outcome.superseded for outcome in group)
        if replacing:
            rows = self._replaced(one, rows, group, now_ns)
        if not one.is_open and generations.is_pruned(self._connection, one.id):
            self.entries.make_room(rows)  # `prune` may not have removed the rows of what it removed yet.
        added = self.entries.add(rows)
        size = sum(row[4] for row in rows) if added == len(rows) else self._growth(one)
        arrivals = [row[5] for row in rows]
        self._add(one, Total(added, size), min(arrivals), max(arrivals))
        accounts.credit(group, added, size)
        if new:
            series = self._all_of(key[0], one, now)
            before = self._before(series.values())
            for other, number in self._describe(key[0], series, accounts, now, now_ns):
                if other is not one and number:
                    self._touch(other, now, now_ns, before.get(other.id))
        doubled = self.corrections.doubled(one, rows)
        if replacing or doubled or added != len(rows):
            self._set_total(one)
        if replacing or one.PatientID != (group[-1].PatientID or "PatientID"):
            self._correct(one, rows[-1], group[-1])
        # By this policy the older one stays: the other is about to leave the tree.
        left = doubled if self._policy == "set-aside" else 0
        news = added > left or replacing or self._is_only_recounted(one)
        self._touch(one, now, now_ns, had if news else None)
        return one

    def _replaced(self, one: SeriesState, rows: list[Row], group: Sequence[Outcome], now_ns: int) -> list[Row]:
        """Older data sets of some of these instances went; the rows of what is there."""
        gone = [row[1] for row, outcome in zip(rows, group, strict=True) if outcome.superseded]
        if self.entries.supersede(one.id, gone) < len(gone):
            self.corrections.take_from_others(one, gone, now_ns)
        for outcome in group:
            if outcome.superseded:
                kept = outcome._replace(size=_size(outcome), error=setaside.SUPERSEDED_TEXT)
                self._put_aside(kept, "superseded", outcome.superseded)
        return last_of_each(rows, group)

    def _correct(self, one: SeriesState, row: Row, outcome: Outcome) -> None:
        folder = self._places.below_data(outcome.dst)[0]
        newest = Instance(row[1], folder, row[3], row[4], row[5], outcome.StudyInstanceUID)
        self.corrections.identify(one, newest, outcome.PatientID)
        if outcome.superseded:
            self.corrections.want(Revision(one.SeriesInstanceUID, renews=True))

    def _row(self, series: int, outcome: Outcome) -> Row:
        folder, name = self._places.below_data(outcome.dst)
        return series, outcome.SOPInstanceUID, self.entries.folder(folder), name, outcome.size, outcome.arrived_ns

    def _meet(self, key: Key, outcome: Outcome, now: float, now_ns: int) -> tuple[SeriesState, bool]:
        """A series, and whether the ledger had none of it before."""
        known = self._book.get(*key)
        if known and known.id and not self._is_stale:
            return known, False
        row = generations.find(self._connection, *key)
        if row and row.StudyInstanceUID:
            one = generations.standing(self._connection, row, now)
            if not one.is_open:
                self._book.drop(*key)
            return follow(known, one, now) if known else one, False
        uid, study = key
        patient = outcome.PatientID or "PatientID"
        accession = self._proofs.accession(study, uid)
        identity = Identity(study, patient, accession, outcome.Modality, outcome.sender)
        row = self._begin(uid, identity, outcome.root, now_ns)
        return generations.standing(self._connection, row, now), True

    def _begin(self, uid: str, identity: Identity, root: int, now_ns: int) -> SeriesRow:
        """The row of a series of a study that the ledger does not have: what was expected of the UID becomes it."""
        row = generations.find(self._connection, uid, "") or generations.begin(self._connection, uid, now_ns)
        if not identity.StudyInstanceUID:
            return row
        self._book.drop(uid, "")
        self._identify(row, identity, root, now_ns)
        known = generations.row_of(self._connection, row.id)
        assert known
        return known

    def _identify(self, row: SeriesRow, identity: Identity, root: int, now_ns: int) -> None:
        told = self._places.roots[root] if root >= 0 else ""
        texts = [text.encode("utf-8", "replace").decode() for text in (*identity, told)]
        generations.identify(self._connection, row.id, tuple(texts), now_ns)

    def _add(self, one: SeriesState, total: Total, first_ns: int, last_ns: int) -> None:
        self._connection.execute(_ADD, (*total, last_ns, first_ns, first_ns, one.id))
        one.instances += total.instances

    def _set_total(self, one: SeriesState) -> None:
        one.instances = self.entries.set_total(one.id).instances

    def _growth(self, one: SeriesState) -> int:
        """Bytes by which a series' instances exceed what its row says: where some of those told were there already."""
        (known,) = self._connection.execute("SELECT bytes FROM series WHERE id = ?", (one.id,)).fetchone()
        return max(0, self.entries.total(one.id).bytes - int(known))

    def _before(self, series: Iterable[SeriesState]) -> dict[int, Total]:
        """What there is of those that have ended, by their ids."""
        return {one.id: self.entries.total(one.id) for one in series if not one.is_open}

    def _touch(self, one: SeriesState, now: float, now_ns: int, had: Total | None) -> None:
        """Something came of a series; where it is new, that opens one which had ended, and `had` so much."""
        if not one.is_open and had:
            generations.begin_again(self._connection, one.id, now_ns, had)
            self._set_total(one)  # Its instances may have been removed meanwhile (prune).
            row = generations.row_of(self._connection, one.id)
            assert row
            again = generations.standing(self._connection, row, now)
            one.is_open, one.generation, one.began = True, again.generation, again.began
        if one.is_open:
            one.last_activity = now
            self._book.keep(one)

    def _is_only_recounted(self, one: SeriesState) -> bool:
        """Whether a series has ended by being found (`verify --repair`), of which nobody was told."""
        return not one.is_open and generations.ended_unheard(self._connection, one.id)

    # -- counting again

    def recount(self, uid: str, now: float, now_ns: int, *, arrived: bool = False) -> list[SeriesState]:
        """Count the series of a UID again from their documents, which may be more or fewer than their rows; what the
        ledger did not know begins. Nothing is returned of what is not there. `arrived`: its instances are news to
        whoever waits for it.
        """
        series = self._all_of(uid, None, now)
        if not self._proofs.names(uid) and all(row.pruned_ns for row in generations.all_of(self._connection, uid)):
            return []
        accounts = DailyTotals()
        before = self._before(series.values())
        described = self._describe(uid, series, accounts, now, now_ns)
        accounts.write(self._connection)
        for one, number in described:
            news = bool(number) or (arrived and self._is_only_recounted(one))
            if news or one.is_open:
                moment = now if news or not one.last_activity else one.last_activity
                self._touch(one, moment, now_ns, before.get(one.id) if news else None)
            else:  # Somebody else ended it.
                self._book.drop(*one.key)
        return [one for one, _ in described]

    def _all_of(self, uid: str, met: SeriesState | None, now: float) -> dict[int, SeriesState]:
        """The series of a UID by their ids, as the book has them; `met` is one of them that it does not have yet."""
        series = {met.id: met} if met else {}
        for row in generations.all_of(self._connection, uid):
            one = self._book.get(uid, row.StudyInstanceUID)
            known = (
                one
                if one and one.id == row.id
                else generations.standing(self._connection, row, one.last_activity if one else now)
            )
            series.setdefault(row.id, known)
        return series

    def _describe(
        self, uid: str, series: dict[int, SeriesState], accounts: DailyTotals, now: float, now_ns: int
    ) -> list[tuple[SeriesState, int]]:
        """Bring the rows of a UID's series in line with its documents; each series, with how many instances it lacked.
        Documents are of one UID, rows of a UID and a study: each document says which study its instance is of.
        """
        names = self._proofs.names(uid)
        if names is None:
            return [(one, 0) for one in series.values()]
        there = {number: self.entries.names(number) for number in series}
        recorded = set().union(*there.values())
        found: dict[int, list[Instance]] = {}
        for name in names:
            instance = self._proofs.instance(uid, name) if name not in recorded else None
            if instance:
                one = self._series_of(instance, uid, series, now, now_ns)
                found.setdefault(one.id, []).append(instance)
        described = set(names)
        return [
            (one, self._bring(one, found.get(number, ()), there.get(number, set()) - described, accounts))
            for number, one in series.items()
        ]

    def _series_of(
        self, instance: Instance, uid: str, series: dict[int, SeriesState], now: float, now_ns: int
    ) -> SeriesState:
        """Of which of these series an instance is; one that begins is put to them."""
        identity = Identity(instance.StudyInstanceUID)
        of_study = {one.StudyInstanceUID: one for one in series.values()}
        if identity.StudyInstanceUID not in of_study or not identity.StudyInstanceUID:
            identity = self._proofs.identity(uid, instance)
            identity = identity if identity.StudyInstanceUID else Identity(instance.StudyInstanceUID)
        known = of_study.get(identity.StudyInstanceUID)
        if known is None and not identity.StudyInstanceUID:  # Nothing tells.
            known = next(iter(series.values()), None)
        if known:
            return known
        begun = generations.standing(self._connection, self._begin(uid, identity, -1, now_ns), now)
        series[begun.id] = begun
        return begun

    def _bring(self, one: SeriesState, found: Sequence[Instance], gone: set[str], accounts: DailyTotals) -> int:
        """Add and remove rows of one series; how many were lacking."""
        added = self.entries.add([self._found(one.id, instance) for instance in found])
        self.entries.remove(one.id, gone)
        row = generations.row_of(self._connection, one.id) if found else None
        for instance in found:
            credit = accounts.at(instance.at_ns, one.Modality, row.sender if row else "")
            credit[0] += 1
            credit[1] += instance.size
        if found:
            moments = [instance.at_ns for instance in found]
            self._add(one, Total(0, 0), min(moments), max(moments))
            self.corrections.identify(one, max(found, key=lambda instance: instance.at_ns))
        if found or gone:
            self._set_total(one)
        self.corrections.doubled(one)
        return added

    def _found(self, series: int, instance: Instance) -> Row:
        folder = self.entries.folder(printable(instance.folder))
        return series, instance.SOPInstanceUID, folder, instance.name, instance.size, instance.at_ns


def _size(outcome: Outcome) -> int:
    """The size of what was replaced, where it is kept."""
    try:
        return os.lstat(outcome.superseded).st_size
    except OSError:
        return outcome.size
