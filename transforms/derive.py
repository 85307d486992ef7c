"""Derive: blobs of activity go in, batches of records come out (docs/spec/records.md sections 2 and 3).

Statements that are forwarded as they are take the same way, and are records as they are.
"""

import logging
import time
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas import Activity, Record, Reject
from schemas.times import rfc3339
from transforms.accounting.board import Board
from transforms.accounting.summary import ANY_REJECTS, RejectLimit, Summary
from transforms.bundles import BATCH_SIZE, at_end_of_bundle, keep_live_objects_out_of_the_garbage_collector
from transforms.reading.activity import decode_all_admitted
from transforms.reading.blob_files import BlobFiles, StoredBlobs
from transforms.reading.bucket_blobs import in_passes, lines_by_user, originals_by_user
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.reading.originals import Original
from transforms.reading.voids import Void, without_voided
from transforms.sessions.derivation import Derivation, DurationUnit
from transforms.sessions.kept import SessionFold
from transforms.sessions.session import Session
from transforms.sessions.state import BucketFold, Parts, StateOptions
from transforms.sessions.window import EVERYTHING, Window
from transforms.statements.passage import CONFLICT, Passage, reject_of
from transforms.telemetry.tracing import tracing

logger = logging.getLogger(__name__)
_SUMMARY = "summary"
_SESSIONS = "sessions"
_REJECTS = "rejects"
_SESSION_GROUPS = 64


@dataclass(frozen=True)
class DeriveSettings:
    """How records are derived.

    Attributes:
        window: the records that are given on.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
        reject_limit: how much of the input may be rejected. Beyond it nothing is derived.
        state: what earlier runs left of the sessions. New activity is folded on to it. None: no state is kept.
        inputs: the names of what was read, in its order, for rejects.
        parts_each: by how many numbers each of them is known (`Original.file`).
        blobs: where the blobs lie whose names come; None if the blobs come themselves.
        also: buckets of users that are given on, without records, also if nothing was read of them.
    """

    window: Window = EVERYTHING
    duration_unit: DurationUnit = "minutes"
    input_format: InputFormat = ACTIVITY
    reject_limit: RejectLimit = ANY_REJECTS
    state: StateOptions | None = None
    inputs: tuple[str, ...] = ()
    parts_each: int = 1
    blobs: BlobFiles | None = None
    also: tuple[int, ...] = ()


class Derived(NamedTuple):
    """What deriving gives.

    Attributes:
        by_bucket: batches, each with its bucket of users; those of a bucket follow each other. A user's records are in
            one batch, or in several that follow each other, in their order. A bucket begins with an empty batch if the
            settings name it.
        records: the batches alone.
        summaries: what was counted.
        rejects: statements of an id that stands for another one.
    """

    by_bucket: PCollection[tuple[int, list[Record]]]
    records: PCollection[list[Record]]
    summaries: PCollection[Summary]
    rejects: PCollection[Reject]


@dataclass(eq=False)
class DeriveRecords(beam.PTransform[PCollection[tuple[int, bytes]], Derived]):
    """Derives records: PCollection[tuple[int, bytes]] of (bucket, blob) -> Derived.

    The GroupByKey in it is a barrier: nothing is derived before everything is read.

    Attributes:
        settings: how records are derived.
        read: one `Summary` of all that was read. It decides whether there are too many rejects.
        board: is told how many records were derived, and asked whether to stop.
    """

    settings: DeriveSettings
    read: PCollection[Summary]
    board: Board | None = None

    # Beam takes an output of several PCollections for one type, and warns.
    @no_annotations  # type: ignore[untyped-decorator]
    def expand(self, blobs: PCollection[tuple[int, bytes]]) -> Derived:
        state, also = self.settings.state, set(self.settings.also)
        if state is not None and self.settings.input_format.has_voids:
            # A void may be of activity that is only in the state: its bucket is looked at too.
            also.update(bucket for bucket, _ in state.parts)
        if also:
            buckets = beam.Create([(bucket, b"") for bucket in sorted(also)]).with_output_types(tuple[int, bytes])
            blobs = (blobs, blobs.pipeline | "Buckets beside" >> buckets) | "All buckets" >> beam.Flatten()
        folded = (
            blobs
            | "Group by bucket of users" >> beam.GroupByKey()
            | "Fold sessions"
            >> beam.ParDo(_FoldUsers(self.settings, self.board), AsSingleton(self.read))
            .with_output_types(tuple[int, list[Record]], summary=Summary, sessions=tuple[int, bytes], rejects=Reject)
            .with_outputs(_SUMMARY, _SESSIONS, _REJECTS, main="by_bucket")
        )
        shared = (
            folded[_SESSIONS]
            | "Group sessions" >> beam.GroupByKey()
            | "Find shared sessions" >> beam.Map(_count_shared).with_output_types(Summary)
        )
        summaries = (folded[_SUMMARY], shared) | "Derivation summaries" >> beam.Flatten()
        by_bucket = folded["by_bucket"]
        return Derived(by_bucket, by_bucket | "Batches" >> beam.Values(), summaries, folded[_REJECTS])


class _FoldUsers(beam.DoFn):
    def __init__(self, settings: DeriveSettings, board: Board | None) -> None:
        self._settings = settings
        self._board = board

    def setup(self) -> None:
        self._tracing = tracing()
        keep_live_objects_out_of_the_garbage_collector()

    def start_bundle(self) -> None:
        self._summary = Summary()
        self._sessions: list[array[int]] = [array("Q") for _ in range(_SESSION_GROUPS)]
        self._derivation = self._new_derivation(on_session=self._saw_session, on_conflict=self._saw_conflict)
        self._passage = Passage(self._saw_statement_conflict)
        self._rejects: list[Reject] = []
        # Pieces of input that were folded, and that the board does not know of.
        self._folded = 0

    def process(self, bucket_and_blobs: tuple[int, Iterable[bytes]], read: Summary) -> Iterator[Any]:
        # Of a source that was read in part a user's earlier activity may be missing.
        if read.read.failures or self._settings.reject_limit.is_exceeded(read.read):
            return
        bucket, elements = bucket_and_blobs
        files, kept = self._settings.blobs, [element for element in elements if element]
        blobs = kept if files is None else files.blobs(bucket, kept)
        if bucket in self._settings.also:
            yield bucket, []
        yield from self._batches(bucket, blobs, read.read.voids)
        if isinstance(blobs, StoredBlobs):
            blobs.remove()

    def _batches(self, bucket: int, blobs: Collection[bytes], voids: frozenset[Void]) -> Iterator[Any]:
        batch: list[Record] = []
        self._began = time.time_ns() if self._tracing is not None else 0
        for records in self._records(bucket, blobs, voids):
            for reject in self._rejects:
                yield TaggedOutput(_REJECTS, reject)
            self._rejects.clear()
            due = self._settings.window.select(records)
            if due:
                self._summary.count_user(due[0].user_id, len(due))
            for first in range(0, len(due), BATCH_SIZE):
                batch += due[first : first + BATCH_SIZE]
                if len(batch) >= BATCH_SIZE:
                    if self._is_stopping():
                        return
                    yield bucket, self._counted(batch)
                    batch = []
        if batch and not self._is_stopping():
            yield bucket, self._counted(batch)

    def finish_bundle(self) -> Iterator[Any]:
        counts = self._derivation.counts
        self._summary.derivation.add(counts)
        self._summary.statements.add(self._passage.counts)
        if self._board is not None and self._passage.counts.conflicts:
            self._board.advance(rejected={CONFLICT: self._passage.counts.conflicts})
        self._summary.keep_busiest()
        for name, count in (("voided_statements", counts.voided), ("scores_of_parts", counts.part_scores)):
            if count:
                self._summary.pass_over(name, count)
        yield TaggedOutput(_SUMMARY, at_end_of_bundle(self._summary))
        for group, sessions in enumerate(self._sessions):
            if sessions:
                yield TaggedOutput(_SESSIONS, at_end_of_bundle((group, sessions.tobytes())))

    def _records(self, bucket: int, blobs: Collection[bytes], voids: frozenset[Void]) -> Iterator[list[Record]]:
        """For each user of a bucket a list of records, in their order."""
        state = self._settings.state
        if not self._settings.input_format.derives:
            for user_id, originals in in_passes(blobs, originals_by_user):
                self._folded += len(originals)
                yield self._passage.records(user_id, originals)
        elif state is None:
            for _, statements, lines in in_passes(blobs, self._split):
                activities = decode_all_admitted(lines)
                if voids:
                    activities, used = without_voided(activities, voids)
                    self._derivation.counts.voided += len(used)
                yield _together(statements, self._derivation.user(activities))
        else:
            if blobs or voids - state.voids:
                fold = BucketFold(state, bucket, SessionFold(self._derivation, self._new_derivation()), voids)
                for statements, records in fold.records(blobs, self._split):
                    yield _together(statements, records)
                self._summary.state_parts[bucket] = fold.close()

    def _split(self, blobs: Iterable[bytes], passes: int, turn: int) -> Iterator[Parts]:
        """For each user the statements that are forwarded as they are, and the lines of activity."""
        if not self._settings.input_format.gives_originals:
            for user_id, lines in lines_by_user(blobs, passes, turn):
                self._folded += len(lines)
                yield user_id, [], lines
            return
        for user_id, originals in originals_by_user(blobs, passes, turn):
            self._folded += len(originals)
            activities = [original.activity for original in originals if original.activity is not None]
            yield user_id, self._passage.records(user_id, originals), activities

    def _new_derivation(self, **observers: Any) -> Derivation:
        settings = self._settings
        return Derivation(settings.duration_unit, settings.input_format.resolve_session, **observers)

    def _is_stopping(self) -> bool:
        if self._board is not None and self._board.stopping():
            self._summary.stopped = True
        return self._summary.stopped

    def _counted(self, batch: list[Record]) -> list[Record]:
        self._summary.count_records(batch)
        if self._tracing is not None:
            self._tracing.step("derive", batch, self._began)
            self._began = time.time_ns()
        if self._board is not None:
            folded, self._folded = self._folded, 0
            self._board.advance("delivering", derived=len(batch), folded=folded)
        return batch

    def _saw_session(self, session: Session) -> None:
        name = f"{session.organisation}\0{session.lrs_id}\0{session.session_id}".encode()
        digest = int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
        self._sessions[digest % _SESSION_GROUPS].append(digest)

    def _saw_conflict(self, kept: Activity, other: Activity) -> None:
        if self._derivation.counts.conflicting_duplicates == 1:
            logger.warning(
                "record_id %s of session %s stands for two different activities; the one of %d counts, not of %d. "
                "Further such conflicts are counted, not logged.",
                kept.record_id,
                kept.session_id,
                kept.occurred_at,
                other.occurred_at,
            )

    def _saw_statement_conflict(self, kept: Original, other: Original) -> None:
        number, inputs = other.file // self._settings.parts_each, self._settings.inputs
        self._rejects.append(reject_of(other, inputs[number] if number < len(inputs) else "", kept))
        if self._passage.counts.conflicts == 1:
            logger.warning(
                "the id %s stands for two different statements; the one of %s is forwarded, not the one of %s. Further "
                "such conflicts are counted, not logged.",
                kept.id,
                rfc3339(kept.timestamp if kept.stored is None else kept.stored),
                rfc3339(other.timestamp if other.stored is None else other.stored),
            )


def _together(statements: list[Record], derived: list[Record]) -> list[Record]:
    """All records of a user in one order by time, a statement before what is derived of it."""
    if not statements or not derived:
        return statements or derived
    return sorted([*statements, *derived], key=_leaves_at)


def _leaves_at(record: Record) -> int:
    return record.leaves_at


def _count_shared(group: tuple[int, Iterable[bytes]]) -> Summary:
    """Count the session ids that more than one user of a store has: a known fault of integrations."""
    users = Counter(digest for packed in group[1] for digest in array("Q", packed))
    return Summary(shared_sessions=sum(count > 1 for count in users.values()))
