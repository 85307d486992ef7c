"""Derive, streaming: the fold of the batch job, on Beam's state (docs/spec/records.md section 3)."""

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
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.sessions.derivation import Derivation, DurationUnit
from transforms.sessions.state import SessionLines, alive, fold_on
from transforms.sessions.window import EVERYTHING, Window

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[SessionLines]).decode


class FoldStreaming(beam.DoFn):
    """PCollection[tuple[str, bytes]] of (user id, line), keyed by user -> PCollection[list[Record]].

    The timestamp of an element is the time at which it arrived. Records leave with the activity that causes them. Late
    activity folds its session again, and what is new is sent.

    What is kept of a session is its activity, as in `transforms.sessions.state`. So a duplicate derives nothing for as
    long as its session is kept. A session of which nothing has arrived for `ttl` seconds is forgotten. A timer in event
    time does that, and event time is arrival. A timer in processing time would lose state at the end of bounded input
    (docs/beam-notes.md section 1).

    The key is the user and not the session, so that the records of all sessions of a user leave in one order.

    Args:
        ttl: seconds for which a session is kept after its latest activity.
        duration_unit: the unit of a `session_duration` that the player did not report.
        input_format: what was read.
    """

    SESSIONS = ReadModifyWriteStateSpec("sessions", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(
        self, ttl: float, duration_unit: DurationUnit = "minutes", input_format: InputFormat = ACTIVITY
    ) -> None:
        self._ttl = int(ttl * 1000)
        self._settings = (duration_unit, input_format.resolve_session)
        self._expired = Metrics.counter("streaming", "sessions_expired")

    def setup(self) -> None:
        self._derivation, self._before = Derivation(*self._settings), Derivation(*self._settings)

    def process(
        self,
        element: tuple[str, bytes],
        arrived: Any = beam.DoFn.TimestampParam,
        kept: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008 - Beam's way
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> Iterator[list[Record]]:
        now = arrived.micros // 1000
        sessions = self._alive(kept.read(), now)
        records = fold_on(sessions, [element[1]], now, self._derivation, self._before)
        kept.write(_encode(sessions))
        expiry.set(self._next_expiry(sessions))
        if records:
            yield records

    @on_timer(EXPIRY)
    def expire(
        self,
        now: Any = beam.DoFn.TimestampParam,
        kept: Any = beam.DoFn.StateParam(SESSIONS),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),  # noqa: B008
    ) -> None:
        """Forget the sessions whose time is over, and set the timer for the next one."""
        sessions = self._alive(kept.read(), now.micros // 1000)
        if sessions:
            kept.write(_encode(sessions))
            expiry.set(self._next_expiry(sessions))
        else:
            kept.clear()

    def _alive(self, packed: bytes | None, now: int) -> list[SessionLines]:
        known = _decode(packed) if packed else []
        sessions = alive(known, now, self._ttl)
        self._expired.inc(len(known) - len(sessions))
        return sessions

    def _next_expiry(self, sessions: list[SessionLines]) -> Timestamp:
        """Just after the moment at which the first of the sessions is to be forgotten."""
        quiet = min(session.arrived for session in sessions)
        return Timestamp(micros=quiet * 1000) + Duration(micros=(self._ttl + 1) * 1000)


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
