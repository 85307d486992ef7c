"""Session state between bounded runs: what lets today's submit of yesterday's session have its start and the same ids.

What is kept of a session, and how new activity is folded on to it, is `transforms.sessions.kept`. The records of
earlier runs are not derived again, whether or not this run's output knows them as delivered. Sessions without new
activity are carried over unread, until nothing has arrived of them for the time to live.

A state directory has immutable parts, each of one bucket of users, and `current.json`, which names those in force. A
run writes new parts beside the old ones and, when it has ended well, `current.json` in one step; one that dies leaves
the previous state in force, with the list of the input files that it counts as read.

Each part is on the disk before `current.json` names it (`transforms/durability.py`), with its size and checksum. So a
part that is missing, or is not as it was written, is known from a bucket of which nothing is left: it is a StateError.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO
from uuid import uuid4
from zlib import crc32

import msgspec
import zstandard

from schemas import Record
from schemas.buckets import BUCKETS
from transforms import durability
from transforms.reading.bucket_blobs import PASS_SIZE, Split, lines_by_user, unpacked_size
from transforms.reading.positions import Position, Positions, going_on
from transforms.reading.voids import NOTHING, Void
from transforms.sessions.arrivals import Arrivals, counted
from transforms.sessions.kept import DamagedSessionError, KeptSession, KeptVoid, SessionFold, alive, fold_on
from transforms.storage import (
    Storage,
    StorageError,
    local_path,
    read_frames,
    remedy,
    storage_at,
    temporary_place,
    write_frame,
    writing,
)

CURRENT = "current.json"
PARTS = "parts"
VERSION = 2
"""Of `current.json`, as it is written."""

_FRAME_SIZE = 16 * 1024 * 1024
_IN_MEMORY = 64 * 1024 * 1024
_PIECE = 1 << 20


class StateError(StorageError):
    """The state cannot be used. The text says which file, and what to do."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, list[KeptSession]]).decode


class WrittenPart(msgspec.Struct, frozen=True):
    """A part as it was written.

    Attributes:
        name: its path in the state directory; empty if nothing is left of the bucket.
        size: bytes.
        checksum: the CRC-32 of its bytes.
        arrivals: how many sessions are in it, by when something arrived last.
    """

    name: str
    size: int = 0
    checksum: int = 0
    arrivals: Arrivals = ()


class Part(msgspec.Struct, frozen=True):
    """A part of the state.

    Attributes:
        name: its path in the state directory.
        written: epoch ms; nothing in the part arrived later.
        size: bytes; None in a state of version 1, which does not say it.
        checksum: the CRC-32 of its bytes; None in a state of version 1.
        arrivals: how many sessions are in it, by when something arrived last; None in a state of version 1.
    """

    name: str
    written: int
    size: int | None = None
    checksum: int | None = None
    arrivals: Arrivals | None = None


class SeenFile(msgspec.Struct, frozen=True):
    """An input file as it was when it was read: its size in bytes, and when it was last changed (epoch s)."""

    size: int
    changed: float


class Current(msgspec.Struct):
    """The contents of `current.json`: the state in force.

    Attributes:
        run_id: of the run that wrote it; empty when there is no state yet.
        parts: by bucket.
        files: the input files whose activity is in the state, by path.
        version: of this format. 2 says the size and the checksum of each part that a run has written since. A state of
            version 1 is read, too, and the parts that are carried over from it stay without.
        voids: those that the runs so far have read.
        arrived: epoch ms at which the activity of the run that wrote it arrived; 0 in a state of version 1.
        forgotten_before: sessions of which nothing has arrived since (epoch ms) are forgotten, also where they are in a
            part still; 0 in a state of version 1.
        positions: up to where the live sources were read.
    """

    run_id: str = ""
    parts: dict[int, Part] = {}
    files: dict[str, SeenFile] = {}
    version: int = VERSION
    voids: list[KeptVoid] = []
    arrived: int = 0
    forgotten_before: int = 0
    positions: dict[str, Position] = {}


@dataclass(frozen=True)
class StateOptions:
    """What a worker needs to go on from a state.

    Attributes:
        directory: of the state.
        run_id: of this run, for the names of new parts.
        now: epoch ms, when this run's activity arrived.
        ttl: ms after which a session of which nothing arrived is forgotten.
        parts: by bucket, those in force.
        voids: those that earlier runs have read.
        read_only: write no parts, since the run only looks.
        durable: whether parts are on the disk before they are in force.
    """

    directory: str
    run_id: str
    now: int
    ttl: int
    parts: tuple[tuple[int, Part], ...] = ()
    voids: frozenset[Void] = NOTHING
    read_only: bool = False
    durable: bool = True


def read_current(directory: str) -> Current:
    """The state in force; an empty one where there is none yet.

    Raises:
        StateError: `current.json` cannot be read, or is of another version; or a part that it names is missing, or is
            of another size.
    """
    current = _read_current(directory)
    sizes = storage_at(directory).sizes(PARTS) if current.parts else {}
    for part in current.parts.values():
        size = sizes.get(part.name.removeprefix(f"{PARTS}/"))
        if size is None:
            raise _does_not_fit(directory, part, "is missing")
        if not size or size != (part.size or size):
            raise _does_not_fit(directory, part, f"has {size} bytes" + (f", not {part.size}" if part.size else ""))
    return current


def _does_not_fit(directory: str, part: Part, problem: str) -> StateError:
    return StateError(
        f"{directory}/{part.name} {problem}: restore it, or use another --state and read the input of the last "
        "--session_ttl again (what --output knows as delivered is not sent twice)"
    )


def _read_current(directory: str) -> Current:
    try:
        with storage_at(directory).open(CURRENT) as stream:
            current = msgspec.json.decode(stream.read(), type=Current)
    except FileNotFoundError:
        return Current()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise StateError(
            f"{directory}/{CURRENT} cannot be read ({error}): restore it, or use another --state"
        ) from None
    if not 1 <= current.version <= VERSION:
        raise StateError(f"{directory}/{CURRENT} is of version {current.version}, which this release does not know")
    return current


def commit(
    directory: str,
    before: Current,
    run_id: str,
    written: dict[int, WrittenPart],
    files: dict[str, SeenFile],
    now: int,
    ttl: int,
    voids: frozenset[Void] = NOTHING,
    positions: Positions = {},  # noqa: B006 - nobody changes it
    *,
    durable: bool = True,
) -> None:
    """Put the state that a run leaves in force, then remove the parts that are no longer in force.

    To be called by who holds the lock, when everything derived is settled and all that the run has written is durable:
    from then on the input counts as read.

    Args:
        directory: of the state.
        before: the state that the run went on from.
        run_id: of the run.
        written: the parts that the run has written, by bucket; an empty name if nothing is left of a bucket.
        files: the input files whose activity is in the state now, by path.
        now: epoch ms, when this run's activity arrived.
        ttl: ms; a part that is older holds no session that is still kept.
        voids: those that the run has read.
        positions: up to where the run has read live sources. Those of other sources stay.
        durable: whether the new state is on the disk before the old one is removed.
    """
    parts = {bucket: part for bucket, part in before.parts.items() if part.written >= now - ttl}
    for bucket, part in written.items():
        if part.name:
            parts[bucket] = Part(part.name, now, part.size, part.checksum, part.arrivals)
        else:
            parts.pop(bucket, None)
    kept = [each for each in before.voids if each.arrived >= now - ttl and each.void not in voids]
    kept += [KeptVoid(void, now) for void in sorted(voids, key=str)]
    storage = storage_at(directory)
    reached = going_on(before.positions, positions)
    current = Current(run_id, parts, files, voids=kept, arrived=now, forgotten_before=now - ttl, positions=reached)
    storage.write(CURRENT, [msgspec.json.encode(current)], durable=durable)
    remove_parts(storage, parts.values())


def remove_parts(storage: Storage, kept: Iterable[Part]) -> None:
    """Remove all parts but `kept`: those of earlier states, and of runs that died."""
    names = {part.name for part in kept}
    for name in storage.list(PARTS):
        if f"{PARTS}/{name}" not in names:
            storage.remove(f"{PARTS}/{name}")


def remove_unfinished(directory: str) -> None:
    """Remove what a run that was killed left half written in a state on a local disk. To be called as `commit`."""
    path = local_path(directory)
    if path is not None:
        for folder in ("", PARTS):
            durability.remove_unfinished(path / folder)


Parts = tuple[str, list[Record], list[bytes]]
"""A user, records that do not depend on the state, and the lines of new activity."""


def _all_activity(blobs: Iterable[bytes], passes: int, turn: int) -> Iterator[Parts]:
    for user_id, lines in lines_by_user(blobs, passes, turn):
        yield user_id, [], lines


class BucketFold:
    """Folds the new activity of one bucket on to what the state has of it, and writes the part that comes after.

    Args:
        options: of the state.
        bucket: of the users.
        fold: of the sessions.
        voids: those that this run has read.
    """

    def __init__(
        self,
        options: StateOptions,
        bucket: int,
        fold: SessionFold,
        voids: frozenset[Void] = NOTHING,
    ) -> None:
        self._options = options
        self._bucket = bucket
        self._fold = fold
        self._voids = voids | options.voids
        self._new_voids = voids - options.voids
        self._storage = storage_at(options.directory)
        self._writer = _PartWriter()

    def records(
        self, blobs: Collection[bytes], split: Split[Parts] = _all_activity, pass_size: int = PASS_SIZE
    ) -> Iterator[tuple[list[Record], list[Record]]]:
        """The records that new lines and new voids cause: for each user that may have some two lists, in their order.

        The second list is what is derived; the first are the records that `split` gives of the user.

        Args:
            blobs: what was read of the bucket, see `transforms.reading.bucket_blobs`.
            split: gives the parts of each user in it.
            pass_size: bytes that are decompressed at a time, as for `in_passes`.

        Raises:
            StateError: a part of the state is missing, or is not as it was written.
        """
        options = self._options
        old = list(self._old_blobs())
        passes = 1 + (unpacked_size(blobs) + sum(map(self._size, old))) // pass_size
        for turn in range(passes):
            users: dict[str, list[KeptSession]] = {}
            for blob in old:
                for user_id, sessions in self._unpacked(blob).items():
                    if passes == 1 or crc32(user_id.encode()) // BUCKETS % passes == turn:
                        users[user_id] = sessions
            for user_id, beside, activity in split(blobs, passes, turn):
                sessions = alive(users.pop(user_id, []), options.now, options.ttl)
                yield beside, self._folded(user_id, sessions, activity)
            for user_id, sessions in users.items():
                left = alive(sessions, options.now, options.ttl)
                if self._new_voids:
                    yield [], self._folded(user_id, left, [])
                else:
                    self._writer.add(user_id, left)

    def _folded(self, user_id: str, sessions: list[KeptSession], lines: Iterable[bytes]) -> list[Record]:
        now = self._options.now
        try:
            records = fold_on(sessions, lines, now, self._fold, self._voids, self._new_voids)
        except DamagedSessionError as error:
            raise self._damaged() from error
        self._writer.add(user_id, sessions)
        return records

    def _unpacked(self, blob: bytes) -> dict[str, list[KeptSession]]:
        return _unpacked(self._options.directory, dict(self._options.parts)[self._bucket], blob)

    def close(self) -> WrittenPart:
        """Write the part. Its name is empty if nothing is left of the bucket, or nothing is to be written."""
        options = self._options
        if options.read_only:
            return WrittenPart("")
        name = f"{PARTS}/{options.run_id}-{self._bucket:02}-{uuid4().hex[:8]}"
        return self._writer.close(self._storage, name, options.durable)

    def _old_blobs(self) -> Iterator[bytes]:
        part = dict(self._options.parts).get(self._bucket)
        if part is not None:
            yield from _blobs(self._options.directory, part)

    def _size(self, blob: bytes) -> int:
        """Bytes of a frame of the part when it is decompressed."""
        try:
            return zstandard.frame_content_size(blob)
        except zstandard.ZstdError:
            raise self._damaged() from None

    def _damaged(self) -> StateError:
        return _does_not_fit(self._options.directory, dict(self._options.parts)[self._bucket], "is damaged")


def _blobs(directory: str, part: Part) -> Iterator[bytes]:
    """The frames of a part. Raises StateError if it is missing, or is not as it was written."""
    try:
        with storage_at(directory).open(part.name) as stream:
            if part.checksum is not None and _checksum(stream) != part.checksum:
                raise _does_not_fit(directory, part, "is not as it was written: its checksum differs")
            stream.seek(0)
            for _, blob in read_frames(stream):
                yield blob
    except FileNotFoundError:
        raise _does_not_fit(directory, part, "is missing") from None
    except EOFError:
        raise _does_not_fit(directory, part, "is cut short") from None
    except OSError as error:
        raise StateError(
            f"{directory}/{part.name} cannot be read: {error.strerror or error}; {remedy(error)}, then run again"
        ) from error


def _unpacked(directory: str, part: Part, blob: bytes) -> dict[str, list[KeptSession]]:
    """The sessions of a frame by user. Raises StateError if it is not as it was written."""
    try:
        return _decode(zstandard.ZstdDecompressor().decompress(blob))
    except (zstandard.ZstdError, ValueError, MemoryError) as error:
        raise _does_not_fit(directory, part, f"cannot be read ({error})") from error


def with_arrivals(directory: str, part: Part) -> Part:
    """The part with its counts of sessions. It is read for them if it is of version 1, which has none.

    Raises:
        StateError: it is missing, or is not as it was written.
    """
    if part.arrivals is not None:
        return part
    sessions: Counter[int] = Counter()
    for blob in _blobs(directory, part):
        for each in _unpacked(directory, part, blob).values():
            sessions.update(session.arrived for session in each)
    return msgspec.structs.replace(part, arrivals=counted(sessions))


def _checksum(stream: IO[bytes]) -> int:
    checksum = 0
    while piece := stream.read(_PIECE):
        checksum = crc32(piece, checksum)
    return checksum


class _PartWriter:
    """Collects the sessions of a bucket as frames: msgpack {user id: [session, ...]}, compressed with zstd."""

    def __init__(self) -> None:
        self._spool = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed in `close`
        self._users: dict[str, list[KeptSession]] = {}
        self._size = 0
        self._arrivals: Counter[int] = Counter()

    def add(self, user_id: str, sessions: list[KeptSession]) -> None:
        if sessions:
            self._arrivals.update(session.arrived for session in sessions)
            self._users[user_id] = sessions
            self._size += sum(len(line) for session in sessions for line in session.lines)
            if self._size >= _FRAME_SIZE:
                self._end_frame()

    def _end_frame(self) -> None:
        compressed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(_encode(self._users))
        with writing(temporary_place()):
            write_frame(self._spool, compressed)
        self._users = {}
        self._size = 0

    def close(self, storage: Storage, name: str, durable: bool) -> WrittenPart:
        """Write what was added as `name`. The name of what is returned is empty if there was nothing."""
        if self._users:
            self._end_frame()
        with self._spool as spool:
            size = spool.tell()
            if not size:
                return WrittenPart("")
            spool.seek(0)
            checksum = _checksum(spool)
            spool.seek(0)
            storage.write(name, iter(lambda: spool.read(_PIECE), b""), durable=durable)
        return WrittenPart(name, size, checksum, counted(self._arrivals))
