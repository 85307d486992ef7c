"""What is kept of a session between two arrivals of its activity, and how activity that arrives is folded on to it.

Kept are the session as far as it is folded, a mark of each record id that has arrived, and the activity itself, line by
line. What comes after all that was folded, and is new by its marks, is folded on: the lines are not read for it. What
comes late, again or in conflict, and what is voided, makes the session be folded from its lines, without and with it.
Then the records that only the second fold has are given on. So either way gives what one fold over everything gives.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import cast
from zlib import crc32

import msgspec

from schemas import Activity, Record
from transforms.reading.activity import decode_admitted, encode
from transforms.reading.voids import NOTHING, Void, void_key, without_voided
from transforms.sessions.derivation import Derivation, StateKey, in_leaving_order, in_session_order, state_key
from transforms.sessions.session import Folded

_MARK = 4
_UNKNOWN = msgspec.Raw(msgspec.msgpack.encode(None))
_decode_folded = msgspec.msgpack.Decoder(Folded).decode


class DamagedSessionError(ValueError):
    """What was kept of a session is not as it was written."""


class KeptVoid(msgspec.Struct, frozen=True, array_like=True):
    """Activity that counts as never read whenever it comes, and when that was read (epoch ms)."""

    void: Void
    arrived: int


class KeptSession(msgspec.Struct, array_like=True, gc=False):
    """One session of a user, as it is kept.

    What release 0.1 kept ends with `voided`, and is read, too. Such a session is folded from its lines once.

    Attributes:
        organisation: with lrs_id and session_id the key of the session.
        arrived: epoch ms at which its latest activity arrived.
        lines: its activity, as `transforms.reading.activity.encode` spells it. Where it is kept apart, they are empty.
        home_page: of the user's account; part of the key, too.
        voided: the record ids of those of its lines that count as never read. The lines stay, so that copies are known.
        marks: of the record ids of all its lines, see `mark`; empty if it has to be folded from them.
        packed: see `folded`. It is decoded when it is asked for, and encoded with all else.
    """

    organisation: str | None
    lrs_id: str | None
    session_id: str
    arrived: int
    lines: list[bytes]
    home_page: str | None = None
    voided: list[str] = []
    marks: bytes = b""
    packed: msgspec.Raw = _UNKNOWN

    @classmethod
    def begin(cls, key: StateKey, now: int) -> "KeptSession":
        """A session of which nothing has arrived before `now` (epoch ms)."""
        organisation, lrs_id, session_id, home_page = key
        return cls(organisation, lrs_id, session_id, now, [], home_page)

    @property
    def key(self) -> StateKey:
        return self.organisation, self.lrs_id, self.session_id, self.home_page

    @property
    def is_new(self) -> bool:
        """Whether nothing has arrived of it."""
        return not self.marks and not self.lines

    @property
    def folded(self) -> Folded | None:
        """The session as far as it is folded; None if it has to be folded from its lines."""
        held = cast(object, self.packed)
        if isinstance(held, Folded):
            return held
        if self.packed == _UNKNOWN:
            return None
        try:
            folded = _decode_folded(self.packed)
        except ValueError as error:
            raise DamagedSessionError from error
        self.folded = folded
        return folded

    @folded.setter
    def folded(self, folded: Folded | None) -> None:
        self.packed = _UNKNOWN if folded is None else cast(msgspec.Raw, folded)

    @property
    def packed_size(self) -> int:
        """Bytes of the session, but for its lines, with which it was decoded; 0 if it was folded since."""
        held = cast(object, self.packed)
        return 0 if isinstance(held, Folded) else memoryview(self.packed).nbytes + len(self.marks)

    def put_away(self) -> None:
        """Make the session ready to be encoded."""
        held = cast(object, self.packed)
        if isinstance(held, Folded):
            held.session.let_go()


def mark(record_id: str) -> bytes:
    """What is kept of a record id. Two ids may have one mark, so a mark that is known says only that the id may be."""
    return crc32(record_id.encode()).to_bytes(_MARK, "little")


def alive(sessions: list[KeptSession], now: int, ttl: int) -> list[KeptSession]:
    """The sessions of which something has arrived in the last `ttl` ms before `now` (epoch ms)."""
    return [session for session in sessions if session.arrived >= now - ttl]


class SessionFold:
    """Folds activity of one session on to what is kept of it.

    Args:
        derivation: folds, and counts what it met.
        before: folds what was kept, where it has to be known which records it gave. Its counts mean nothing.
    """

    def __init__(self, derivation: Derivation, before: Derivation) -> None:
        self.derivation = derivation
        self._before = before

    def go_on(
        self, session: KeptSession, activities: Sequence[Activity], voids: Collection[Void] = NOTHING
    ) -> list[Record] | None:
        """Fold activity on to a session without its lines, if that can be.

        Args:
            session: is changed, except for its lines.
            activities: what has arrived of it.
            voids: of activity that may be among them.

        Returns:
            The records that the activity causes, in their order. None if the session has to be folded from its lines
            (`refold`), and nothing was done.
        """
        if voids and any(void_key(activity) in voids for activity in activities):
            return None
        if session.is_new:
            records: list[Record] = []
            session.folded = self.derivation.fold_whole(activities, records)
            session.marks = b"".join({mark(activity.record_id): None for activity in activities})
            return records
        marks = [mark(activity.record_id) for activity in activities]
        known = session.marks
        if not known or any(each in known for each in marks) or len(set(marks)) < len(marks):
            return None
        folded = session.folded
        if folded is None:
            return None
        ordered = activities if len(activities) == 1 else in_session_order(activities)
        records = []
        if not self.derivation.fold_on(folded, ordered, records):
            session.folded = None
            return None
        session.marks = known + b"".join(marks)
        return records

    def refold(
        self,
        session: KeptSession,
        lines: Sequence[bytes],
        activities: Sequence[Activity],
        voids: Collection[Void] = NOTHING,
        new_voids: Collection[Void] = NOTHING,
    ) -> tuple[list[Record], list[bytes]]:
        """Fold a session from its lines, without and with activity.

        Args:
            session: is changed, except for its lines.
            lines: of the session, so far.
            activities: what has arrived of it; may be lines once more.
            voids: of activity that may be among them.
            new_voids: those of them that have not been applied to the lines.

        Returns:
            The records that the activity and the new voids cause, in their order; and the lines that come to the
            session's.

        Raises:
            DamagedSessionError: a line cannot be read.
        """
        counts = self.derivation.counts
        known = frozenset(lines)
        # Encoded, an activity has one line, however it was spelled. So a copy of a known one is found without a fold.
        encoded = [(encode(activity), activity) for activity in activities]
        new = [(line, activity) for line, activity in encoded if line not in known]
        counts.duplicates += len(encoded) - len(new)
        new_lines = list(dict.fromkeys(line for line, _ in new))
        if not new and not new_voids:
            return [], []
        of_lines = _decoded(lines)
        marks = (mark(activity.record_id) for activity in (*of_lines, *(activity for _, activity in new)))
        session.marks = b"".join(dict.fromkeys(marks))
        voided = frozenset(session.voided)
        earlier = [activity for activity in of_lines if activity.record_id not in voided]
        stay = earlier + [activity for _, activity in new if activity.record_id not in voided]
        if voids:
            stay, used = without_voided(stay, voids)
            session.voided += sorted(record_id for _, _, record_id in used)
            counts.voided += len(used)
            if not new and not used:
                return [], []
        if not stay:
            session.folded = None
            return [], new_lines
        records: list[Record] = []
        session.folded = self.derivation.fold_whole(stay, records)
        if earlier:
            sent = {record.id for record in self._before.session(earlier)}
            records = [record for record in records if record.id not in sent]
        return records, new_lines


def fold_on(
    sessions: list[KeptSession],
    lines: Iterable[bytes],
    now: int,
    fold: SessionFold,
    voids: Collection[Void] = NOTHING,
    new_voids: Collection[Void] = NOTHING,
) -> list[Record]:
    """Fold new activity of a user on to what is kept of them, where a session is kept with its lines.

    Args:
        sessions: what is kept. They become what is to be kept from now on.
        lines: the new activity, as `Decoder.admit` returns it.
        now: epoch ms at which it arrived.
        fold: of the sessions.
        voids: of activity that may be in `lines`.
        new_voids: those of them that have not been applied to `sessions`.

    Returns:
        The records that the new activity and the new voids cause, in their order.

    Raises:
        DamagedSessionError: a line of a session cannot be read.
    """
    sessions_before = fold.derivation.counts.sessions
    kept = {session.key: session for session in sessions}
    arrived: defaultdict[StateKey, list[Activity]] = defaultdict(list)
    for line in lines:
        activity = decode_admitted(line)
        arrived[state_key(activity)].append(activity)
    for key in arrived:
        if key not in kept:
            kept[key] = KeptSession.begin(key, now)
            sessions.append(kept[key])
    records: dict[StateKey, list[Record]] = {}
    for session in sessions if new_voids else [kept[key] for key in arrived]:
        activities = arrived.get(session.key, [])
        if activities:
            session.arrived = now
        of_session = None if new_voids else fold.go_on(session, activities, voids)
        if of_session is None:
            of_session, new = fold.refold(session, session.lines, activities, voids, new_voids)
        else:
            new = list(dict.fromkeys(map(encode, activities)))
        session.lines += new
        records[session.key] = of_session
        fold.derivation.start_anew()
        session.put_away()
    if fold.derivation.counts.sessions > sessions_before:
        fold.derivation.count_home_pages(session.home_page for session in sessions)
    return in_leaving_order(records)


def _decoded(lines: Iterable[bytes]) -> list[Activity]:
    try:
        return [decode_admitted(line) for line in lines]
    except ValueError as error:
        raise DamagedSessionError from error
