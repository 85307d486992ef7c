"""Derive, streaming: the fold of the batch job, on Beam's state (docs/spec/records.md section 3)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration, Timestamp

from schemas import Record
from transforms.accounting.summary import Summary
from transforms.reading.activity import decode_admitted
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.reading.voids import Void, decode_void, encode_void, is_void, void_key
from transforms.sessions.derivation import Counts, Derivation, DurationUnit
from transforms.sessions.state import KeptVoid, SessionLines, alive, fold_on
from transforms.sessions.window import EVERYTHING, Window

logger = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[SessionLines]).decode
_decode_voids = msgspec.msgpack.Decoder(list[KeptVoid]).decode


class FoldStreaming(beam.DoFn):
    """PCollection[tuple[str, bytes]] of (user id, line or void), keyed by user -> PCollection[list[Record]].

    The timestamp of an element is the time at which it arrived. Records leave with the activity that causes them. Late
    activity folds its session again, and what is new is sent.

    What is kept of a session is its activity, as in `transforms.sessions.state`. So a duplicate derives nothing for as
    long as its session is kept. A session of which nothing has arrived for `ttl` seconds is forgotten. A timer in event
    time does that, and event time is arrival. A timer in processing time would lose state at the end of bounded input
    (docs/beam-notes.md section 1).

    A void takes effect when it arrives here, which is when it is known whose activity it is of (`FindVoided`). The
    session is folded without that activity, and what is new by that is sent. What was sent before stays sent.

    The key is the user and not the session, so that the records of all sessions of a user leave in one order.

    Args:
        ttl: seconds for which a session is kept after its latest activity.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
    """

    SESSIONS = ReadModifyWriteStateSpec("sessions", BytesCoder())
    VOIDS = ReadModifyWriteStateSpec("voids", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(
        self, ttl: float, duration_unit: DurationUnit = "minutes", input_format: InputFormat = ACTIVITY
    ) -> None:
        self._ttl = int(ttl * 1000)
        self._settings = (duration_unit, input_format.resolve_session)
        self._expired = Metrics.counter("streaming", "sessions_expired")
        self._voided = Metrics.counter("streaming", "voided_statements")
        self._has_voids = input_format.has_voids

    def setup(self) -> None:
        self._derivation, self._before = Derivation(*self._settings), Derivation(*self._settings)
        self._told = False

    def process(
        self,
        element: tuple[str, bytes],
        arrived: Any = beam.DoFn.TimestampParam,
        kept: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008 - Beam's way
        voids: Any = beam.DoFn.StateParam(VOIDS),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> Iterator[list[Record]]:
        now = arrived.micros // 1000
        line = element[1]
        sessions = self._alive(kept.read(), now)
        packed = voids.read() if self._has_voids else None
        known = [each for each in _decode_voids(packed) if each.arrived >= now - self._ttl] if packed else []
        new: set[Void] = set()
        if is_void(line):
            new = {decode_void(line)}
            known = [each for each in known if each.void not in new] + [KeptVoid(void, now) for void in new]
            voids.write(_encode(known))
        every = {each.void for each in known}
        records = fold_on(sessions, [] if new else [line], now, self._derivation, self._before, every, new)
        kept.write(_encode(sessions))
        expiry.set(self._next_expiry(sessions, known))
        self._count()
        if records:
            yield records

    @on_timer(EXPIRY)
    def expire(
        self,
        now: Any = beam.DoFn.TimestampParam,
        kept: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008
        voids: Any = beam.DoFn.StateParam(VOIDS),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> None:
        """Forget the sessions whose time is over, and set the timer for the next one."""
        sessions = self._alive(kept.read(), now.micros // 1000)
        packed = voids.read()
        known = _decode_voids(packed) if packed else []
        known = [each for each in known if each.arrived >= now.micros // 1000 - self._ttl]
        if known:
            voids.write(_encode(known))
        elif packed:
            voids.clear()
        if sessions:
            kept.write(_encode(sessions))
        else:
            kept.clear()
        if sessions or known:
            expiry.set(self._next_expiry(sessions, known))

    def _count(self) -> None:
        counts = self._derivation.counts
        self._voided.inc(counts.voided)
        if counts.users_of_several_home_pages and not self._told:
            self._told = True
            logger.warning(
                "a user id stands for accounts of several home pages: their sessions are kept apart, but not the ids; "
                "--qualify_users tells them apart. Further such users are not logged."
            )
        self._derivation.counts = Counts()

    def _alive(self, packed: bytes | None, now: int) -> list[SessionLines]:
        known = _decode(packed) if packed else []
        sessions = alive(known, now, self._ttl)
        self._expired.inc(len(known) - len(sessions))
        return sessions

    def _next_expiry(self, sessions: list[SessionLines], voids: list[KeptVoid]) -> Timestamp:
        """Just after the moment at which the first of the sessions and voids is to be forgotten."""
        quiet = min([session.arrived for session in sessions] + [void.arrived for void in voids])
        return Timestamp(micros=quiet * 1000) + Duration(micros=(self._ttl + 1) * 1000)


class FindVoided(beam.DoFn):
    """PCollection[tuple[bytes, str | None]] (void, user id or None), keyed by void -> PCollection[tuple[str, bytes]].

    An element is a statement, by the void that would name it, with its user; or such a void itself, with None. A void
    goes to the user of its statement, as a line for `FoldStreaming`, whichever of the two comes first.

    Args:
        ttl: seconds for which statements and voids are known.
    """

    USER = ReadModifyWriteStateSpec("user", BytesCoder())
    VOIDED = ReadModifyWriteStateSpec("voided", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(self, ttl: float) -> None:
        self._ttl = int(ttl * 1000)

    def process(
        self,
        element: tuple[bytes, str | None],
        arrived: Any = beam.DoFn.TimestampParam,
        user: Any = beam.DoFn.StateParam(USER),  # noqa: B008
        voided: Any = beam.DoFn.StateParam(VOIDED),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> Iterator[tuple[str, bytes]]:
        void, user_id = element
        if user_id is not None:
            if user.read() is None:
                user.write(user_id.encode())
            if voided.read():
                yield user_id, void
        else:
            voided.write(b"1")
            known = user.read()
            if known is not None:
                yield known.decode(), void
        expiry.set(arrived + Duration(micros=(self._ttl + 1) * 1000))

    @on_timer(EXPIRY)
    def expire(
        self,
        user: Any = beam.DoFn.StateParam(USER),  # noqa: B008
        voided: Any = beam.DoFn.StateParam(VOIDED),  # noqa: B008
    ) -> None:
        user.clear()
        voided.clear()


def _statement_and_user(line: tuple[str, bytes]) -> tuple[bytes, str | None]:
    return encode_void(void_key(decode_admitted(line[1]))), line[0]


def _void_alone(void: Void) -> tuple[bytes, str | None]:
    return encode_void(void), None


@dataclass(eq=False)
class AddVoids(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[tuple[str, bytes]]]):
    """PCollection[tuple[str, bytes]] of (user id, line) -> the same, with `voids` among them as lines of their users.

    Lines do not wait for it to be found out whose statement is voided.

    Attributes:
        voids: of lines that were, are or will be there.
        ttl: seconds for which statements and voids are known.
    """

    voids: PCollection[Void]
    ttl: float

    def expand(self, lines: PCollection[tuple[str, bytes]]) -> PCollection[tuple[str, bytes]]:
        keyed = tuple[bytes, str | None]
        statements = lines | "Statements" >> beam.Map(_statement_and_user).with_output_types(keyed)
        voids = self.voids | "Voids" >> beam.Map(_void_alone).with_output_types(keyed)
        found = (
            (statements, voids)
            | "By statement" >> beam.Flatten()
            | "Find voided" >> beam.ParDo(FindVoided(self.ttl)).with_output_types(tuple[str, bytes])
        )
        added: PCollection[tuple[str, bytes]] = (lines, found) | "Lines and voids" >> beam.Flatten()
        return added


@dataclass(eq=False)
class DeriveStreaming(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[list[Record]]]):
    """Derives records: PCollection[tuple[str, bytes]] of (user id, line) -> PCollection[list[Record]].

    A list holds the records that one activity caused, in their order.

    Attributes:
        ttl: seconds for which a session is kept, see `FoldStreaming`.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
        window: the records that are given on.
    """

    ttl: float
    duration_unit: DurationUnit = "minutes"
    input_format: InputFormat = ACTIVITY
    window: Window = EVERYTHING

    def expand(self, lines: PCollection[tuple[str, bytes]]) -> PCollection[list[Record]]:
        fold = FoldStreaming(self.ttl, self.duration_unit, self.input_format)
        records: PCollection[list[Record]] = lines | "Fold" >> beam.ParDo(fold).with_output_types(list[Record])
        if self.window != EVERYTHING:
            records = records | "Window" >> beam.Map(self.window.select).with_output_types(list[Record])
        return records


def count_settled(summary: Summary) -> None:
    """Give the accounts of a bundle to Beam's metrics, since a streaming job ends with no report.

    In the namespace `delivery`: `<forwarder id>.delivered`, `.already_delivered` and `.dead_lettered`.
    """
    for forwarder_id, account in summary.books.accounts.items():
        counts = (("delivered", account.delivered), ("already_delivered", account.already_delivered))
        for name, count in (*counts, ("dead_lettered", account.dead)):
            if count:
                Metrics.counter("delivery", f"{forwarder_id}.{name}").inc(count)
