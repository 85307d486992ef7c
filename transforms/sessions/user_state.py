"""What a streaming job keeps of one user, so that an activity costs the same whatever the user did before.

It is in two places. The head is read and written with each bundle that has activity of the user: the sessions that were
active last, as far as they are folded, and the lines that came last. All else is in the log, to which entries are only
added: sessions that have been quiet for longer than others, and the lines. The log is read when a line is late, comes
again or is voided, or is of such a quiet session; and when something is to be forgotten.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec

from schemas import Activity, Record
from transforms.reading.activity import decode_admitted, encode
from transforms.reading.voids import NOTHING, Void
from transforms.sessions.derivation import StateKey, in_leaving_order, state_key
from transforms.sessions.kept import KeptSession, KeptVoid, SessionFold, mark

VERSION = 2
"""Of what is kept: the first byte of a head. Release 0.1 wrote a msgpack array, which begins with another byte."""

HEAD_SIZE = 4096
"""Bytes of sessions in a head. Beyond it, those that have been quiet for longest go to the log, until half is left."""

TAIL_SIZE = 2048
"""Bytes of lines in a head, beyond which they go to the log."""

_FEWEST = 2
"""Sessions that stay in a head, however large they are."""

_FORGET_STEPS = 16
"""What is to be forgotten is removed in at most so many steps during the time to live, since the log is read for it."""

_REMEDY = (
    "go on from that savepoint with the release that wrote it, or start without --savepoint_path (what the receipts "
    "have is not sent twice)"
)
_ARRAYS = frozenset([*range(0x90, 0xA0), 0xDC, 0xDD])
_LINE, _SESSION = b"l", b"s"
_NUMBER = 4
_BEGINNING = 1 + _NUMBER
_MARK = 4


class UserStateError(ValueError):
    """What was kept of a user cannot be read by this release. The text says what to do."""


class Log(Protocol):
    """Entries that are added one by one, and read altogether. Beam's `BagRuntimeState` is one."""

    def read(self) -> Iterable[bytes]:
        """All entries, in any order."""
        ...

    def add(self, value: bytes, /) -> None:
        """Add an entry."""
        ...

    def clear(self) -> None:
        """Remove all entries."""
        ...


class _Numbered(msgspec.Struct, array_like=True):
    """A session as a head holds it. Its lines are apart.

    Attributes:
        number: that its entries in the log have.
        version: how often it went to the log. Of several entries that of the latest version counts.
        session: the session.
    """

    number: int
    version: int
    session: KeptSession


class _Head(msgspec.Struct, array_like=True):
    """See `UserState`.

    Attributes:
        sessions: those that were active last.
        tail: the entries that are to be added to the log.
        next_number: of the next session.
        timer: epoch ms at which something may have to be forgotten; 0: no timer is set.
        quiet: 4 bytes for each session that is in the log, of its session id (`mark`).
        quiet_since: epoch ms; nothing has arrived of those later than in the first of them; 0: there are none.
        voids: activity that counts as never read.
        home_pages: of the user's accounts.
    """

    sessions: list[_Numbered] = []
    tail: list[bytes] = []
    next_number: int = 0
    timer: int = 0
    quiet: bytes = b""
    quiet_since: int = 0
    voids: list[KeptVoid] = []
    home_pages: list[str] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_numbered = msgspec.msgpack.Decoder(_Numbered).decode
_decode_release_0_1 = msgspec.msgpack.Decoder(list[KeptSession]).decode
_decode_voids = msgspec.msgpack.Decoder(list[KeptVoid]).decode


class UserState:
    """What is kept of a user, while a bundle works on it.

    Attributes:
        is_old: whether it is of release 0.1, which kept voids apart (`take_voids`).
        forgotten: how many sessions were found to be over since it was read.
    """

    def __init__(self) -> None:
        self._is_looked_at = False
        self.is_old = False
        self.forgotten = 0
        self._head = _Head()

    @classmethod
    def unpack(cls, packed: bytes) -> "UserState":
        """Read what `pack` wrote, or what release 0.1 wrote.

        Raises:
            UserStateError: it is of another release.
        """
        state = cls()
        version = packed[0] if packed else None
        try:
            if version == VERSION:
                state._head = _decode_head(memoryview(packed)[1:])
                return state
            if version in _ARRAYS:
                state.is_old = True
                state._take_over(_decode_release_0_1(packed))
                return state
        except msgspec.DecodeError as error:
            raise UserStateError(f"what the job kept of a user is damaged ({error}): {_REMEDY}") from error
        raise UserStateError(
            f"what the job kept of a user is of version {version}, and this release knows {VERSION} and what 0.1 "
            f"wrote: {_REMEDY}"
        )

    def pack(self) -> bytes:
        """What is to be kept in the head."""
        for numbered in self._head.sessions:
            numbered.session.put_away()
        return bytes([VERSION]) + _encode(self._head)

    def take_voids(self, packed: bytes) -> None:
        """Take over the voids that release 0.1 kept apart."""
        self._head.voids = _decode_voids(packed)

    def arrive(self, line: bytes, now: int, ttl: int, fold: SessionFold, log: Log) -> list[Record]:
        """Fold an activity on.

        Args:
            line: the activity, as `Decoder.admit` returns it.
            now: epoch ms at which it arrived.
            ttl: ms for which a session is kept after its latest activity.
            fold: of the sessions.
            log: of the user.

        Returns:
            The records that it causes, in their order.
        """
        activity = decode_admitted(line)
        numbered = self._session(activity, now, ttl, log)
        session = numbered.session
        session.arrived = now
        voids = self._voids(now, ttl)
        records = fold.go_on(session, [activity], voids)
        if records is None:
            records = self._refold(numbered, [activity], fold, log, voids)
        else:
            self._keep(numbered.number, encode(activity))
        if session.home_page is not None and session.home_page not in self._head.home_pages:
            self._head.home_pages = [*self._head.home_pages, session.home_page]
            fold.derivation.count_home_pages(self._head.home_pages)
        self._make_room(log)
        return records

    def void(self, void: Void, now: int, ttl: int, fold: SessionFold, log: Log) -> list[Record]:
        """Fold the sessions without an activity that counts as never read from now on. Otherwise as `arrive`."""
        head = self._head
        head.voids = [each for each in head.voids if each.void != void] + [KeptVoid(void, now)]
        voids = self._voids(now, ttl)

        def may_have_it(session: KeptSession) -> bool:
            tenant, voided = (session.organisation, session.lrs_id), mark(void[2])
            return session.arrived >= now - ttl and tenant == void[:2] and voided in session.marks

        if head.quiet:
            entries = _Entries(self._entries(log))
            for numbered in entries.sessions(self._numbers()):
                if may_have_it(numbered.session):
                    self._take_in(numbered)
        records: dict[StateKey, list[Record]] = {}
        for numbered in head.sessions:
            if may_have_it(numbered.session):
                records[numbered.session.key] = self._refold(numbered, [], fold, log, voids, {void})
        self._make_room(log)
        return in_leaving_order(records)

    def set_timer(self, ttl: int) -> int | None:
        """Epoch ms at which a timer is to be set, which calls `forget`; None if one is set, or none is needed.

        Args:
            ttl: ms for which sessions and voids are kept.
        """
        ends = self._ends()
        if self._head.timer or not ends:
            return None
        self._head.timer = min(ends) + ttl + 1
        return self._head.timer

    def forget(self, now: int, ttl: int, log: Log) -> int | None:
        """Forget what is over, when the timer has gone off.

        Args:
            now: epoch ms.
            ttl: ms for which sessions and voids are kept.
            log: of the user. It is written anew without what is forgotten.

        Returns:
            Epoch ms at which the next timer is to be set; None if nothing is left.
        """
        head, since = self._head, now - ttl
        if any(end < since for end in self._ends()):
            head.voids = [each for each in head.voids if each.arrived >= since]
            entries = _Entries(self._entries(log))
            quiet = entries.sessions(self._numbers())
            known = len(head.sessions) + len(quiet)
            head.sessions = [each for each in head.sessions if each.session.arrived >= since]
            quiet = [each for each in quiet if each.session.arrived >= since]
            self.forgotten += known - len(head.sessions) - len(quiet)
            self._write_anew(entries, quiet, log)
        ends = self._ends()
        # Not one by one, of a user with many sessions.
        head.timer = max(min(ends) + ttl, now + ttl // _FORGET_STEPS) + 1 if ends else 0
        return head.timer or None

    def _ends(self) -> list[int]:
        """When something has arrived last of all that may be the first to be forgotten, epoch ms."""
        head = self._head
        ends = [each.session.arrived for each in head.sessions] + [each.arrived for each in head.voids]
        return [*ends, head.quiet_since] if head.quiet else ends

    def _voids(self, now: int, ttl: int) -> Collection[Void]:
        head = self._head
        if not head.voids:
            return NOTHING
        head.voids = [each for each in head.voids if each.arrived >= now - ttl]
        return {each.void for each in head.voids}

    def _session(self, activity: Activity, now: int, ttl: int, log: Log) -> _Numbered:
        """The session of an activity, which is in the head from then on."""
        head, key = self._head, state_key(activity)
        for numbered in head.sessions:
            session = numbered.session
            if session.session_id == activity.session_id and session.key == key:
                if session.arrived >= now - ttl:
                    return numbered
                head.sessions.remove(numbered)
                self.forgotten += 1
                break
        if mark(activity.session_id) in head.quiet:
            entries = _Entries(self._entries(log))
            quiet = entries.sessions(self._numbers())
            for numbered in quiet:
                if numbered.session.key == key and numbered.session.arrived >= now - ttl:
                    self._take_in(numbered)
                    quiet.remove(numbered)
                    if entries.superseded(quiet) > entries.size // 2:
                        self._write_anew(entries, quiet, log)
                    return numbered
        numbered = _Numbered(head.next_number, 0, KeptSession.begin(key, now))
        head.next_number += 1
        head.sessions.append(numbered)
        return numbered

    def _numbers(self) -> set[int]:
        return {each.number for each in self._head.sessions}

    def _take_in(self, numbered: _Numbered) -> None:
        """Take a quiet session into the head. Its entry stays in the log, and counts no longer."""
        quiet, of_it = self._head.quiet, mark(numbered.session.session_id)
        for start in range(0, len(quiet), _MARK):
            if quiet[start : start + _MARK] == of_it:
                self._head.quiet = quiet[:start] + quiet[start + _MARK :]
                break
        self._head.sessions.append(numbered)

    def _refold(
        self,
        numbered: _Numbered,
        activities: list[Activity],
        fold: SessionFold,
        log: Log,
        voids: Collection[Void],
        new_voids: Collection[Void] = NOTHING,
    ) -> list[Record]:
        lines = _lines(self._entries(log), numbered.number)
        records, new = fold.refold(numbered.session, lines, activities, voids, new_voids)
        for line in new:
            self._keep(numbered.number, line)
        return records

    def _keep(self, number: int, line: bytes) -> None:
        self._head.tail.append(_line_entry(number, line))

    def _entries(self, log: Log) -> Iterator[bytes]:
        yield from log.read()
        yield from self._head.tail

    def _make_room(self, log: Log) -> None:
        """Move to the log what makes the head too large."""
        head = self._head
        if sum(map(len, head.tail)) > TAIL_SIZE:
            for entry in head.tail:
                log.add(entry)
            head.tail = []
        if self._is_looked_at:
            return
        # The sizes are those with which the sessions were read. So once is enough.
        self._is_looked_at = True
        size = sum(each.session.packed_size for each in head.sessions)
        if size <= HEAD_SIZE:
            return
        head.sessions.sort(key=lambda each: each.session.arrived)
        while len(head.sessions) > _FEWEST and size > HEAD_SIZE // 2:
            numbered = head.sessions.pop(0)
            size -= numbered.session.packed_size
            numbered.version += 1
            log.add(_session_entry(numbered))
            arrived = numbered.session.arrived
            head.quiet_since = min(head.quiet_since, arrived) if head.quiet else arrived
            head.quiet += mark(numbered.session.session_id)

    def _write_anew(self, entries: "_Entries", quiet: list[_Numbered], log: Log) -> None:
        """Write the log anew with what is left: the sessions of the head, and these quiet ones."""
        head = self._head
        head.quiet = b"".join(mark(each.session.session_id) for each in quiet)
        head.quiet_since = min((each.session.arrived for each in quiet), default=0)
        home_pages = {each.session.home_page for each in (*head.sessions, *quiet)}
        head.home_pages = sorted(page for page in home_pages if page is not None)
        head.tail = []
        log.clear()
        for numbered in quiet:
            log.add(_session_entry(numbered))
        for entry in entries.lines({each.number for each in (*head.sessions, *quiet)}):
            log.add(entry)

    def _take_over(self, sessions: list[KeptSession]) -> None:
        """Of release 0.1."""
        for session in sessions:
            number = self._head.next_number
            self._head.next_number += 1
            session.marks = b"".join(mark(activity.record_id) for activity in map(decode_admitted, session.lines))
            for line in session.lines:
                self._keep(number, line)
            session.lines = []
            self._head.sessions.append(_Numbered(number, 0, session))


def _line_entry(number: int, line: bytes) -> bytes:
    return _LINE + number.to_bytes(_NUMBER, "little") + line


def _lines(entries: Iterable[bytes], number: int) -> list[bytes]:
    beginning = _line_entry(number, b"")
    return [entry[_BEGINNING:] for entry in entries if entry.startswith(beginning)]


def _session_entry(numbered: _Numbered) -> bytes:
    numbered.session.put_away()
    return _SESSION + _encode(numbered)


class _Entries:
    """All that is in a log and a tail.

    Attributes:
        size: bytes.
    """

    def __init__(self, entries: Iterable[bytes]) -> None:
        self._entries = list(entries)
        self.size = sum(map(len, self._entries))

    def lines(self, numbers: Collection[int]) -> Iterator[bytes]:
        """The entries that are lines of the sessions with these numbers."""
        beginnings = {_line_entry(number, b"") for number in numbers}
        return (entry for entry in self._entries if entry[:_BEGINNING] in beginnings)

    def sessions(self, without: Collection[int]) -> list[_Numbered]:
        """The sessions in their latest versions, but for those with these numbers."""
        latest: dict[int, _Numbered] = {}
        for entry in self._entries:
            if entry.startswith(_SESSION):
                numbered = _decode_numbered(memoryview(entry)[1:])
                known = latest.get(numbered.number)
                if known is None or known.version < numbered.version:
                    latest[numbered.number] = numbered
        return [numbered for number, numbered in latest.items() if number not in without]

    def superseded(self, quiet: Iterable[_Numbered]) -> int:
        """Bytes of sessions, but for the latest versions of `quiet`."""
        all_of_them = sum(len(entry) for entry in self._entries if entry.startswith(_SESSION))
        return all_of_them - sum(len(_session_entry(numbered)) for numbered in quiet)
