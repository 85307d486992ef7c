"""Derive: shards of activity in, blocks of records out (docs/spec/records.md sections 2 and 3)."""

import gc
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas import Activity, Record
from transforms.accounting.progress import Progress
from transforms.accounting.summary import Summary
from transforms.bundles import at_end_of_bundle
from transforms.reading.bucket_blobs import users_of
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.sessions.derivation import Derivation, DurationUnit, Session
from transforms.sessions.state import BucketFold, StateOptions
from transforms.sessions.window import EVERYTHING, Window

logger = logging.getLogger(__name__)
_BLOCK = 512
_SESSION_GROUPS = 64


@dataclass(frozen=True)
class DeriveSettings:
    """window: the records that are emitted.

    state: what earlier runs left of the sessions, which this run's activity is folded on to; None: nothing is kept.
    """

    window: Window = EVERYTHING
    duration_unit: DurationUnit = "minutes"
    input_format: InputFormat = ACTIVITY
    max_reject_ratio: float = 1.0
    state: StateOptions | None = None


class Derived(NamedTuple):
    """records: blocks, each of one shard, a user's records in order and never apart by another block of that user's.

    summaries: what was counted.
    """

    records: PCollection[list[Record]]
    summaries: PCollection[Summary]


@dataclass(eq=False)
class DeriveRecords(beam.PTransform[PCollection[tuple[int, bytes]], Derived]):
    """PCollection[tuple[int, bytes]] (bucket of users, shard) -> Derived.

    read: one `Summary` of all that was read. Nothing is derived when it holds more rejects than
    `settings.max_reject_ratio` allows: the GroupByKey before the fold is what everything read has to pass first.
    """

    settings: DeriveSettings
    read: PCollection[Summary]
    progress: Progress | None = None

    # Beam takes an output of several PCollections for one type, and warns.
    @no_annotations  # type: ignore[untyped-decorator]
    def expand(self, shards: PCollection[tuple[int, bytes]]) -> Derived:
        folded = (
            shards
            | "Group by bucket of users" >> beam.GroupByKey()
            | "Fold sessions"
            >> beam.ParDo(_FoldUsers(self.settings, self.progress), AsSingleton(self.read)).with_outputs(
                _SUMMARY, _SESSIONS, main="records"
            )
        )
        shared = (
            folded[_SESSIONS]
            | "Group sessions" >> beam.GroupByKey()
            | "Find shared sessions" >> beam.Map(_count_shared)
        )
        summaries = (folded[_SUMMARY], shared) | "Derivation summaries" >> beam.Flatten()
        return Derived(folded["records"], summaries)


_SUMMARY = "summary"
_SESSIONS = "sessions"


class _FoldUsers(beam.DoFn):
    def __init__(self, settings: DeriveSettings, progress: Progress | None) -> None:
        self._settings = settings
        self._progress = progress

    def setup(self) -> None:
        keep_live_objects_out_of_the_garbage_collector()

    def start_bundle(self) -> None:
        self._summary = Summary()
        self._sessions: list[array[int]] = [array("Q") for _ in range(_SESSION_GROUPS)]
        self._derivation = self._new_derivation(on_session=self._saw_session, on_conflict=self._saw_conflict)

    def process(self, shard: tuple[int, Iterable[bytes]], read: Summary) -> Iterator[list[Record]]:
        if read.too_many_rejects(self._settings.max_reject_ratio):
            return
        block: list[Record] = []
        for records in self._fold(*shard):
            block.extend(self._settings.window.select(records))
            if len(block) >= _BLOCK:
                if self._told_to_stop():
                    return
                yield self._counted(block)
                block = []
        if block and not self._told_to_stop():
            yield self._counted(block)

    def finish_bundle(self) -> Iterator[Any]:
        self._summary.derivation.add(self._derivation.counts)
        yield TaggedOutput(_SUMMARY, at_end_of_bundle(self._summary))
        for group, sessions in enumerate(self._sessions):
            if sessions:
                yield TaggedOutput(_SESSIONS, at_end_of_bundle((group, sessions.tobytes())))

    def _fold(self, bucket: int, blobs: Iterable[bytes]) -> Iterator[list[Record]]:
        """Each user's records, in their order."""
        if self._settings.state is None:
            for _, activities in users_of(blobs):
                yield self._derivation.user(activities)
        else:
            fold = BucketFold(self._settings.state, bucket, self._derivation, self._new_derivation())
            yield from fold.records(blobs)
            self._summary.state_parts[bucket] = fold.close()

    def _new_derivation(self, **observers: Any) -> Derivation:
        settings = self._settings
        return Derivation(settings.duration_unit, settings.input_format.resolve_session, **observers)

    def _told_to_stop(self) -> bool:
        if self._progress is not None and self._progress.stopping():
            self._summary.stopped = True
        return self._summary.stopped

    def _counted(self, block: list[Record]) -> list[Record]:
        self._summary.count_records(block)
        if self._progress is not None:
            self._progress.advance(derived=len(block))
        return block

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


def _count_shared(group: tuple[int, Iterable[bytes]]) -> Summary:
    """Session ids that more than one user of a store has: a known integration fault."""
    users = Counter(digest for packed in group[1] for digest in array("Q", packed))
    return Summary(shared_sessions=sum(count > 1 for count in users.values()))


def keep_live_objects_out_of_the_garbage_collector() -> None:
    """Freeze what setup made and collect rarely: thousands of live records are no cycles, and walking them costs more
    than Beam does (benchmarks). Records and activities are `gc=False` structs; cycles are still collected."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
