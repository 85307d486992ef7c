"""Derive, streaming: the fold of the batch job, on Beam's state (docs/spec/records.md section 3).

Statements that are forwarded as they are take the same way, and are records as they are.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder, Coder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Duration, Timestamp

from schemas import Record, Reject
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.reading.activity import decode_admitted
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.reading.originals import Original, decode_original
from transforms.reading.voids import Void, decode_void, encode_void, is_void, void_key
from transforms.sessions.derivation import Counts, Derivation, DurationUnit
from transforms.sessions.kept import SessionFold
from transforms.sessions.user_state import UserState
from transforms.sessions.window import EVERYTHING, Window
from transforms.statements.known import Arrival, KnownStatements
from transforms.statements.passage import CONFLICT, record_of, reject_of
from transforms.telemetry.tracing import tracing

logger = logging.getLogger(__name__)
_REJECTS = "rejects"


class UserStateCoder(Coder):
    """A user's state is unpacked and packed once in a bundle, however much of the user is in it."""

    def encode(self, value: UserState) -> bytes:
        return value.pack()

    def decode(self, encoded: bytes) -> UserState:
        return UserState.unpack(encoded)

    def is_deterministic(self) -> bool:
        return False


class FoldStreaming(beam.DoFn):
    """PCollection[tuple[str, bytes]] of (user id, line or void), keyed by user -> PCollection[list[Record]].

    Beside it, as `rejects`, statements whose id stands for another one that has arrived.

    The timestamp of an element is the time at which it arrived. Records leave with the activity that causes them. Late
    activity folds its session again, and what is new is sent.

    State goes on from a savepoint of release 0.1, which kept a list of sessions with their lines, and the voids apart.

    What is kept of a user is `transforms.sessions.user_state`. A duplicate derives nothing for as long as its session
    is kept. A session of which nothing has arrived for `ttl` seconds is forgotten. A timer in event time does that, and
    event time is arrival. A timer in processing time would lose state at the end of bounded input (docs/beam-notes.md
    section 1).

    A void takes effect when it arrives here, which is when it is known whose activity it is of (`FindVoided`). The
    session is folded without that activity, and what is new by that is sent. What was sent before stays sent.

    The key is the user and not the session, so that the records of all sessions of a user leave in one order.

    A statement that is forwarded as it is leaves as it arrives, before what is derived of it. Of such statements it is
    kept which have arrived, so that one that arrives again is dropped. If nothing is derived, no activity is kept.

    Args:
        ttl: seconds for which a session is kept after its latest activity.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
        known_for: seconds for which it is known that a statement has arrived; None: as `ttl`.
        place: where it was read, for rejects.
        window: the records that are given on.
        board: told how much was derived, and how long after it had arrived.
    """

    # The first two have the names and the coders on the wire that they had in release 0.1.
    SESSIONS = ReadModifyWriteStateSpec("sessions", UserStateCoder())
    VOIDS = ReadModifyWriteStateSpec("voids", BytesCoder())
    LOG = BagStateSpec("log", BytesCoder())
    STATEMENTS = ReadModifyWriteStateSpec("statements", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(
        self,
        ttl: float,
        duration_unit: DurationUnit = "minutes",
        input_format: InputFormat = ACTIVITY,
        known_for: float | None = None,
        place: str = "",
        window: Window = EVERYTHING,
        board: Board | None = None,
    ) -> None:
        self._place = place
        self._window = window
        self._board = board
        self._ttl = int(ttl * 1000)
        self._known_for = int((ttl if known_for is None else known_for) * 1000)
        self._settings = (duration_unit, input_format.resolve_session)
        self._expired = Metrics.counter("streaming", "sessions_expired")
        self._voided = Metrics.counter("streaming", "voided_statements")
        self._has_voids = input_format.has_voids
        self._gives_originals = input_format.gives_originals
        self._derives = input_format.derives
        self._arrivals = {
            Arrival.DUPLICATE: Metrics.counter("streaming", "duplicate_statements"),
            Arrival.CONFLICT: Metrics.counter("streaming", "conflicting_statements"),
        }

    def setup(self) -> None:
        self._fold = SessionFold(Derivation(*self._settings), Derivation(*self._settings))
        self._told = self._told_of_conflict = False
        self._tracing = tracing()

    def start_bundle(self) -> None:
        # What was kept of the bundle before is packed.
        self._fold.derivation.start_anew()
        self._folded = self._derived = self._conflicts = 0
        # Epoch ms: when the first of the bundle arrived.
        self._first_arrived: int | None = None

    def finish_bundle(self) -> None:
        if self._board is None or self._first_arrived is None:
            return
        self._board.advance(
            "delivering",
            rejected={CONFLICT: self._conflicts} if self._conflicts else None,
            folded=self._folded,
            derived=self._derived,
            lag=time.time() - self._first_arrived / 1000,
        )

    def process(
        self,
        element: tuple[str, bytes],
        arrived: Any = beam.DoFn.TimestampParam,
        sessions: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008 - Beam's way
        log: Any = beam.DoFn.StateParam(LOG),  # noqa: B008
        voids: Any = beam.DoFn.StateParam(VOIDS),  # noqa: B008
        statements: Any = beam.DoFn.StateParam(STATEMENTS),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> Iterator[Any]:
        now = arrived.micros // 1000
        if self._first_arrived is None or now < self._first_arrived:
            self._first_arrived = now
        began = time.time_ns() if self._tracing is not None else 0
        user_id, line = element
        records: list[Record] = []
        voids_another = is_void(line)
        self._folded += not voids_another
        if self._gives_originals and not voids_another:
            original = decode_original(line)
            seen = KnownStatements(statements.read(), now - self._known_for)
            arrival = self._arrival(original, seen, now)
            if arrival is Arrival.NEW:
                records.append(record_of(user_id, original))
                statements.write(seen.pack())
            elif arrival is Arrival.CONFLICT:
                self._conflicts += 1
                yield TaggedOutput(_REJECTS, reject_of(original, self._place))
            if not self._derives or original.activity is None:
                expiry.set(_after(now + max(self._known_for, self._ttl if self._derives else 0)))
                yield from self._due(records, began)
                return
            line = original.activity
        state = _state_of(sessions, voids)
        if voids_another:
            records += state.void(decode_void(line), now, self._ttl, self._fold, log)
        else:
            records += state.arrive(line, now, self._ttl, self._fold, log)
        if (timer := state.set_timer(self._ttl)) is not None:
            expiry.set(_at(timer))
        self._count(state)
        sessions.write(state)
        yield from self._due(records, began)

    def _due(self, records: list[Record], began: int) -> Iterator[list[Record]]:
        """Those that are given on, if there are any."""
        due = self._window.select(records)
        if due:
            self._derived += len(due)
            if self._tracing is not None:
                self._tracing.step("derive", due, began)
            yield due

    @on_timer(EXPIRY)
    def expire(
        self,
        now: Any = beam.DoFn.TimestampParam,
        sessions: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008
        log: Any = beam.DoFn.StateParam(LOG),  # noqa: B008
        voids: Any = beam.DoFn.StateParam(VOIDS),  # noqa: B008
        statements: Any = beam.DoFn.StateParam(STATEMENTS),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> None:
        """Forget the sessions and statements whose time is over, and set the timer for the next ones."""
        at = now.micros // 1000
        timers = []
        state = _state_of(sessions, voids)
        timer = state.forget(at, self._ttl, log)
        self._count(state)
        if timer is not None:
            sessions.write(state)
            timers.append(timer)
        else:
            sessions.clear()
            log.clear()
        if self._gives_originals:
            seen = KnownStatements(statements.read(), at - self._known_for)
            left = seen.pack()
            if left is not None:
                statements.write(left)
                timers.append(min(seen.arrivals()) + self._known_for + 1)
            else:
                statements.clear()
        if timers:
            expiry.set(_at(min(timers)))

    def _arrival(self, original: Original, seen: KnownStatements, now: int) -> Arrival:
        """Whether a statement is new. What is not is counted."""
        arrival = seen.arrive(original, now)
        if arrival is Arrival.NEW:
            return arrival
        self._arrivals[arrival].inc()
        if arrival is Arrival.CONFLICT and not self._told_of_conflict:
            self._told_of_conflict = True
            logger.warning(
                "the id %s stands for two different statements; the one that arrived first was forwarded. Further such "
                "conflicts are counted, not logged.",
                original.id,
            )
        return arrival

    def _count(self, state: UserState) -> None:
        counts = self._fold.derivation.counts
        if state.forgotten:
            self._expired.inc(state.forgotten)
            state.forgotten = 0
        if counts.voided:
            self._voided.inc(counts.voided)
        if counts.users_of_several_home_pages and not self._told:
            self._told = True
            logger.warning(
                "a user id stands for accounts of several home pages: their sessions are kept apart, but not the ids; "
                "--qualify_users tells them apart. Further such users are not logged."
            )
        self._fold.derivation.counts = Counts()


def _state_of(sessions: Any, voids: Any) -> UserState:
    """What the two states hold of a user."""
    state: UserState = sessions.read() or UserState()
    if state.is_old:
        packed = voids.read()
        if packed:
            state.take_voids(packed)
            voids.clear()
        state.is_old = False
    return state


def _at(millis: int) -> Timestamp:
    return Timestamp(micros=millis * 1000)


def _after(millis: int) -> Timestamp:
    return _at(millis + 1)


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


def _statement_and_user(element: tuple[str, bytes], gives_originals: bool) -> Iterator[tuple[bytes, str | None]]:
    user_id, line = element
    activity = decode_original(line).activity if gives_originals else line
    if activity is not None:
        yield encode_void(void_key(decode_admitted(activity))), user_id


def _void_alone(void: Void) -> tuple[bytes, str | None]:
    return encode_void(void), None


@dataclass(eq=False)
class AddVoids(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[tuple[str, bytes]]]):
    """PCollection[tuple[str, bytes]] of (user id, line) -> the same, with `voids` among them as lines of their users.

    Lines do not wait for it to be found out whose statement is voided.

    Attributes:
        voids: of lines that were, are or will be there.
        ttl: seconds for which statements and voids are known.
        input_format: of the lines.
    """

    voids: PCollection[Void]
    ttl: float
    input_format: InputFormat

    def expand(self, lines: PCollection[tuple[str, bytes]]) -> PCollection[tuple[str, bytes]]:
        keyed = tuple[bytes, str | None]
        name = beam.FlatMap(_statement_and_user, self.input_format.gives_originals)
        statements = lines | "Statements" >> name.with_output_types(keyed)
        voids = self.voids | "Voids" >> beam.Map(_void_alone).with_output_types(keyed)
        found = (
            (statements, voids)
            | "By statement" >> beam.Flatten()
            | "Find voided" >> beam.ParDo(FindVoided(self.ttl)).with_output_types(tuple[str, bytes])
        )
        added: PCollection[tuple[str, bytes]] = (lines, found) | "Lines and voids" >> beam.Flatten()
        return added


class DerivedStreaming(NamedTuple):
    """What deriving gives.

    Attributes:
        records: a list holds the records that one activity caused, in their order.
        rejects: statements of an id that stands for another one.
    """

    records: PCollection[list[Record]]
    rejects: PCollection[Reject]


@dataclass(eq=False)
class DeriveStreaming(beam.PTransform[PCollection[tuple[str, bytes]], DerivedStreaming]):
    """Derives records: PCollection[tuple[str, bytes]] of (user id, line) -> DerivedStreaming.

    Attributes:
        ttl: seconds for which a session is kept, see `FoldStreaming`.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
        window: the records that are given on.
        known_for: see `FoldStreaming`.
        place: see `FoldStreaming`.
        board: see `FoldStreaming`.
    """

    ttl: float
    duration_unit: DurationUnit = "minutes"
    input_format: InputFormat = ACTIVITY
    window: Window = EVERYTHING
    known_for: float | None = None
    place: str = ""
    board: Board | None = None

    # Beam takes an output of several PCollections for one type, and warns.
    @no_annotations  # type: ignore[untyped-decorator]
    def expand(self, lines: PCollection[tuple[str, bytes]]) -> DerivedStreaming:
        fold = FoldStreaming(
            self.ttl, self.duration_unit, self.input_format, self.known_for, self.place, self.window, self.board
        )
        folded = lines | "Fold" >> beam.ParDo(fold).with_output_types(list[Record], rejects=Reject).with_outputs(
            _REJECTS, main="records"
        )
        return DerivedStreaming(folded["records"], folded[_REJECTS])


def count_settled(summary: Summary) -> None:
    """Give the accounts of a bundle to Beam's metrics, since a streaming job ends with no report.

    In the namespace `delivery`: `<forwarder id>.delivered`, `.already_delivered` and `.dead_lettered`.
    """
    for forwarder_id, account in summary.books.accounts.items():
        counts = (("delivered", account.delivered), ("already_delivered", account.already_delivered))
        for name, count in (*counts, ("dead_lettered", account.dead)):
            if count:
                Metrics.counter("delivery", f"{forwarder_id}.{name}").inc(count)
