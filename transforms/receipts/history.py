"""What earlier runs settled, as a worker asks for it: a delivery is final, whatever came later.

The rule is docs/spec/forwarders.md section 4. There can be far more receipts than memory holds, and users are worked on
bucket by bucket. So the launcher reads all receipts once, and leaves an index under the output (`index_history`): for
each bucket of users, the ids of the records that each forwarder has. A worker loads the bucket that it works on. For a
redrive the index also has, for each bucket, the dead letters to send, in order.
"""

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

import msgspec

from schemas import DeadLetter
from schemas.buckets import BUCKETS
from transforms.receipts.index import DELIVERED_FILE, LETTERS_FILE, HistoryIndex, decode_dead_letter, write_index
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.receipts.outage_letters import split_kept
from transforms.receipts.parts import horizon_beginning, parts_written, written_since
from transforms.receipts.runs import generation_of
from transforms.sinks.base import DEFERRED
from transforms.storage import LocalStorage, StorageError, read_frame, read_frames, remedy, storage_at

logger = logging.getLogger(__name__)

Delivered = Mapping[str, frozenset[str]]
"""For the users of one bucket: the ids of the records that each forwarder has, by the forwarder's id."""

_NOTHING: Delivered = {}
_NO_IDS: frozenset[str] = frozenset()
_decode_outcomes = msgspec.msgpack.Decoder(tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]).decode


class History:
    """What earlier runs settled, and what the present run had settled when this object was made.

    The second is for runners that try a bundle again, as Flink does: then only what was in flight is sent again. Make
    the object when the worker starts. It lists the files of the present run, and reads those that there are.

    Attributes:
        generation: of the present run, from 1: one more than the highest that has settled anything.

    Args:
        index: what the launcher knows of earlier runs.
        run_id: the present run; None if the runner tries no bundle again.
        keep: buckets that stay loaded, at some 100 bytes an id. Two are enough if users come bucket by bucket; in
            streaming they come in any order, and that takes all buckets.
        horizon: of a streaming job, in seconds. From that long before its latest receipt on, the present run's receipts
            are read, and its deferred dead letters too (`take_deferred`). None: all receipts, and no dead letters.
    """

    def __init__(
        self, index: HistoryIndex, run_id: str | None = None, keep: int = 2, horizon: float | None = None
    ) -> None:
        self._keep = keep
        self._index = index
        self._storage = storage_at(index.output)
        self._loaded: dict[int, Delivered] = {}
        self._same_run = None if run_id is None else _SameRun.read(index.output, run_id, horizon)
        self.generation = 1 if self._same_run is None else self._same_run.generations + 1

    def bucket(self, bucket: int) -> Delivered:
        """The ids of the records that each forwarder has, for the users whose `bucket_of` is `bucket`.

        A record is found in the bucket of its user, and in no other.
        """
        if not self._index.delivered_at and self._index.known is None and self._same_run is None:
            return _NOTHING
        delivered = self._loaded.get(bucket)
        if delivered is None:
            delivered = self._load(bucket)
            while len(self._loaded) >= self._keep:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[bucket] = delivered
        return delivered

    def _load(self, bucket: int) -> Delivered:
        earlier: Delivered = _NOTHING
        undone: Delivered = _NOTHING
        if self._index.delivered_at:
            earlier, undone = _decode_outcomes(self._read(DELIVERED_FILE, self._index.delivered_at, bucket))
        if self._index.known is not None:
            known = self._index.known.bucket(bucket)
            earlier = {
                id_: known.get(id_, _NO_IDS) - undone.get(id_, _NO_IDS) | earlier.get(id_, _NO_IDS)
                for id_ in {*known, *earlier}
            }
        if self._same_run is None:
            return earlier
        # What an earlier run delivered, this one does not send. So no receipt of this run takes a delivery back.
        now = self._same_run.history.bucket(bucket)
        return {id_: earlier.get(id_, frozenset()) | now.get(id_, frozenset()) for id_ in {*earlier, *now}}

    def _read(self, file: str, offsets: tuple[int, ...], bucket: int) -> bytes:
        with self._file(f"{self._index.name}/{file}") as stream:
            stream.seek(offsets[bucket])
            return stream.read(offsets[bucket + 1] - offsets[bucket])

    @contextmanager
    def _file(self, file: str) -> Iterator[IO[bytes]]:
        """A file of the index, which is this run's own. Raises StorageError if it cannot be read."""
        path = f"{self._storage.root}/{file}"
        try:
            with self._storage.open(file) as stream:
                yield stream
        except FileNotFoundError:
            raise StorageError(
                f"{path} is gone: the output was deleted or moved during the run; put it back if you can, then run "
                "again"
            ) from None
        except EOFError:
            raise StorageError(f"{path} is cut short: see that the disk is well, then run again") from None
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}; {remedy(error)}") from error

    def dead_letters(self, bucket: int) -> Iterator[DeadLetter]:
        """The dead letters that a redrive has to send for the users of `bucket`, one at a time.

        They are in an index that was made with `dead_letters`: the last of each (forwarder, id), if the record was not
        delivered. Or it was made with `catch_up`, and they are those of them that an outage left. They come by user,
        and each user's in the order of the records: by timestamp, place, session, then event, status and score
        (docs/spec/records.md section 2).
        """
        catch_up = self._index.catch_up
        if catch_up is None:
            yield from (decode_dead_letter(data) for _, data in self._letters(bucket))
            return
        kept = (split_kept(data) for _, data in self._letters(bucket))
        yield from catch_up.choose((first_run, decode_dead_letter(letter)) for first_run, letter in kept)

    @property
    def _letters_file(self) -> str:
        return self._index.letters_file or f"{self._index.name}/{LETTERS_FILE}"

    def _letters(self, bucket: int) -> Iterator[tuple[int, bytes]]:
        """The offset and the bytes of each dead letter of a bucket."""
        offsets = self._index.letters_at
        if not offsets or offsets[bucket] == offsets[bucket + 1]:
            return
        with self._file(self._letters_file) as stream:
            stream.seek(offsets[bucket])
            yield from read_frames(stream, offsets[bucket], offsets[bucket + 1])

    def _letter_at(self, offset: int) -> DeadLetter:
        with self._file(self._letters_file) as stream:
            return decode_dead_letter(read_frame(stream, offset))

    def take_deferred(self, user_id: str) -> list[DeadLetter]:
        """The user's dead letters that this run had deferred when this object was made, in order; [] the next time."""
        return self._same_run.take_deferred(user_id) if self._same_run else []

    def undelivered_dead_letters(self) -> Iterator[DeadLetter]:
        """The dead letters that a redrive has to send, bucket by bucket."""
        for bucket in range(BUCKETS):
            yield from self.dead_letters(bucket)


class _SameRun:
    """What workers of the present run have delivered and deferred, in an index on this machine's disk."""

    def __init__(self, directory: tempfile.TemporaryDirectory[str], history: History, generations: int) -> None:
        """Find the deferred dead letters in an index.

        Args:
            directory: where the index is; it is removed with this object.
            history: reads the index.
            generations: the highest generation of the run that has settled anything.
        """
        self._directory = directory
        self.history = history
        self.generations = generations
        # Where each user's dead letters are. The letters themselves may be more than memory holds.
        self._deferred: dict[str, list[int]] = {}
        for bucket in range(BUCKETS):
            for offset, data in history._letters(bucket):
                letter = decode_dead_letter(data)
                if letter.reason == DEFERRED:
                    self._deferred.setdefault(letter.user_id, []).append(offset)

    @classmethod
    def read(cls, output: str, run_id: str, horizon: float | None) -> Self | None:
        """Read what there is of the run, also in journals that are being written, or that a kill left.

        Returns:
            None if the run has settled nothing yet.
        """
        storage = storage_at(output)
        prefix = run_id + "-"
        written = parts_written(storage, RECEIPTS, PART, JOURNAL, prefix=prefix)
        if not written:
            return None
        beginning = horizon_beginning(written, horizon, time.time())
        receipts, letters = written_since(written, beginning), []
        if horizon is not None:
            letters = written_since(parts_written(storage, DEAD_LETTERS, PART, JOURNAL, prefix=prefix), beginning)
        directory = tempfile.TemporaryDirectory(prefix="session-forwarder-history-")
        here = LocalStorage(Path(directory.name))
        with tempfile.TemporaryDirectory(dir=directory.name) as scratch:
            index = write_index(
                here.root, storage, receipts, letters, Path(scratch), here, "same_run", letters_with_receipts=True
            )
        return cls(directory, History(index), max(generation_of(name)[1] for name in written))

    def take_deferred(self, user_id: str) -> list[DeadLetter]:
        """As `History.take_deferred`."""
        offsets = self._deferred.pop(user_id, [])
        return [self.history._letter_at(offset) for offset in offsets]
