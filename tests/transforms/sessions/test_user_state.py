"""What a streaming job keeps of a user, call by call against one fold over everything that has arrived."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Activity, Record
from tests.support.activity import activity, names, response
from tests.transforms.sessions.arrivals import arriving_activity, arriving_statements, batch, read
from transforms.reading.activity import encode
from transforms.reading.voids import NOTHING, Void, void_key
from transforms.reading.xapi_session import resolve_session
from transforms.sessions import user_state
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import KeptSession, SessionFold
from transforms.sessions.user_state import UserState, UserStateError

DAY = 86_400_000
TTL = 30 * DAY


class ListLog:
    """A log as a runner keeps it, without its order: that is not promised."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.reads = 0

    def read(self) -> Iterable[bytes]:
        self.reads += 1
        return self.entries[::-1]

    def add(self, value: bytes) -> None:
        self.entries.append(value)

    def clear(self) -> None:
        self.entries = []


class CountingFold(SessionFold):
    """Counts which way activity took."""

    def __init__(self, **given: Any) -> None:
        super().__init__(Derivation(**given), Derivation(**given))
        self.ways: Counter[str] = Counter()

    def go_on(self, session: KeptSession, activities: Sequence[Activity], voids: Any = NOTHING) -> Any:
        is_new = session.is_new
        records = super().go_on(session, activities, voids)
        self.ways["begun" if is_new and records is not None else "whole" if records is None else "on"] += 1
        return records


class User:
    """A user in a job: bundles of calls, between which what is kept is bytes."""

    def __init__(self, fold: SessionFold, packed: bytes | None = None) -> None:
        self.fold = fold
        self.log = ListLog()
        self.state = UserState.unpack(packed) if packed is not None else UserState()
        self.written = 0

    def end_bundle(self) -> None:
        packed = self.state.pack()
        self.written += len(packed)
        self.fold.derivation.start_anew()
        self.state = UserState.unpack(packed)

    def arrive(self, one: Activity, now: int = 0) -> list[Record]:
        return self.state.arrive(encode(one), now, TTL, self.fold, self.log)

    def void(self, void: Void, now: int = 0) -> list[Record]:
        return self.state.void(void, now, TTL, self.fold, self.log)

    def forget(self, now: int) -> int | None:
        timer = self.state.forget(now, TTL, self.log)
        if timer is None:
            self.log.clear()
        return timer

    @property
    def size(self) -> int:
        return len(self.state.pack()) + sum(map(len, self.log.entries))


@contextmanager
def room_for(sessions: int, lines: int) -> Iterator[None]:
    """So many bytes of each in a head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_state, "HEAD_SIZE", sessions)
        patch.setattr(user_state, "TAIL_SIZE", lines)
        yield


def plain(records: Iterable[Record]) -> list[Any]:
    return [msgspec.to_builtins(record) for record in records]


def test_call_by_call_the_records_are_those_that_one_fold_over_everything_comes_to_have() -> None:
    ways: Counter[str] = Counter()

    # The same examples every time: which ways they take is asserted, and must not hang on luck.
    @settings(max_examples=50, derandomize=True)
    @given(arriving_activity(), st.data())
    def agrees(arriving: list[Activity], data: Any) -> None:
        fold = CountingFold()
        user = User(fold)
        sent: set[str] = set()
        with room_for(*data.draw(st.sampled_from([(1, 1), (700, 500), (4096, 2048)]))):
            for number, one in enumerate(arriving):
                whole = Derivation().user(arriving[: number + 1])
                assert plain(user.arrive(one)) == plain(each for each in whole if each.id not in sent)
                sent = {each.id for each in whole}
                if data.draw(st.booleans()):
                    user.end_bundle()
        ways.update(fold.ways)
        ways["read"] += user.log.reads

    agrees()
    assert min(ways["on"], ways["whole"], ways["begun"]) > 20, "too tame an input"
    assert ways["on"] > ways["whole"]


def test_statements_too_and_what_is_voided() -> None:
    ways: Counter[str] = Counter()

    @settings(max_examples=50, derandomize=True)
    @given(arriving_statements(), st.data())
    def agrees(arriving: list[dict[str, Any]], data: Any) -> None:
        fold = CountingFold(resolve_session=resolve_session)
        user = User(fold)
        sent: set[str] = set()
        with room_for(*data.draw(st.sampled_from([(1, 1), (700, 500), (4096, 2048)]))):
            for number, one in enumerate(arriving):
                whole, _ = batch(arriving[: number + 1])
                activities, voids = read([one])
                records = [each for activity in activities for each in user.arrive(activity)]
                records += [each for void in voids for each in user.void(void)]
                assert plain(records) == plain(each for each in whole if each.id not in sent)
                sent = {each.id for each in whole}
                if data.draw(st.booleans()):
                    user.end_bundle()
        ways.update(fold.ways)

    agrees()
    assert min(ways["on"], ways["whole"], ways["begun"]) > 20, "too tame an input"


def test_activity_in_its_order_reads_no_line_and_writes_no_more_the_longer_its_session_is() -> None:
    fold = CountingFold()
    user = User(fold)
    user.arrive(activity("START", 0))
    written = []
    for bundle in range(100):
        for number in range(10):
            at = 1 + 10 * bundle + number
            user.arrive(activity("RESPOND", at, responses=[response(f"q{at % 20}", at % 3, 2)]))
        before = user.written
        user.end_bundle()
        written.append(user.written - before)
    assert fold.ways == {"begun": 1, "on": 1000}
    assert user.log.reads == 0
    # Each activity leaves a mark of 4 bytes, and its line, until that goes to the log.
    assert max(written) < 4 * 1000 + user_state.TAIL_SIZE + 2000


def test_a_session_that_was_quiet_for_long_goes_on() -> None:
    user = User(CountingFold())
    for number in range(200):
        user.arrive(activity("START", number, session_id=f"s{number}", record_id=f"start {number}"), number)
        user.end_bundle()
    assert len(user.state.pack()) < 2 * user_state.HEAD_SIZE
    reads = [user.log.reads]
    for step, (number, place) in enumerate([(0, 1), (50, 1), (0, 2)]):
        (record,) = user.arrive(activity("RESUME", 1000 + step, session_id=f"s{number}"), 1000 + step)
        assert record.place == place
        user.end_bundle()
        reads.append(user.log.reads)
    assert reads == [0, 1, 2, 2]


def test_sessions_that_come_and_go_leave_a_log_of_at_most_twice_what_is_needed() -> None:
    user = User(CountingFold())
    with room_for(1, 1):
        for step in range(300):
            user.arrive(activity("RESPOND", step, session_id=f"s{step % 6}", responses=[response("q" * 500)]))
            user.end_bundle()
            lines = sum(len(each) for each in user.log.entries if each.startswith(b"l"))
            assert sum(map(len, user.log.entries)) < 2 * lines + 6 * 2000


def test_a_session_is_forgotten_after_the_time_to_live_and_not_before() -> None:
    for later, known in ((TTL, True), (TTL + 1, False)):
        user = User(CountingFold())
        user.arrive(activity("START", 0), 5)
        user.end_bundle()
        *_, status = user.arrive(activity("SUBMIT", 100), 5 + later)
        assert (status.message["dt_started"] == "2020-02-17T00:00:00Z") is known
        assert user.state.forgotten == (not known)


def test_the_timer_goes_off_when_something_may_be_over_and_leaves_nothing_in_the_end() -> None:
    user = User(CountingFold())
    user.arrive(activity("START", 0), 5)
    assert user.state.set_timer(TTL) == 5 + TTL + 1
    user.end_bundle()
    user.arrive(activity("RESPOND", 10), 100)
    assert user.state.set_timer(TTL) is None, "the one that is set is early enough"
    timer = user.forget(5 + TTL + 1)
    assert timer is not None
    assert timer > 100 + TTL
    assert user.state.forgotten == 0
    assert user.forget(timer) is None
    assert user.state.forgotten == 1


def test_what_is_kept_of_a_user_who_comes_for_months_does_not_grow() -> None:
    user = User(CountingFold())
    timer: int | None = None
    sizes: list[int] = []
    with room_for(600, 600):
        for day in range(120):
            now = day * DAY
            while timer is not None and timer <= now:
                timer = user.forget(timer)
                user.end_bundle()
            at = day * DAY / 1000
            for number, action in enumerate(("START", "RESPOND", "SUBMIT")):
                one = activity(action, at + number, session_id=f"s{day}", responses=[response(f"q{day}", 1, 2)])
                user.arrive(one, now + number)
                timer = user.state.set_timer(TTL) or timer
                user.end_bundle()
            sizes.append(user.size)
    assert max(sizes[60:]) < 1.2 * max(sizes[30:60])
    while timer is not None:
        timer = user.forget(timer)
    assert user.size < 200


def kept_by_release_0_1(activities: Iterable[Activity], voided: Sequence[str] = ()) -> bytes:
    """What release 0.1 kept of a user: a bare list of sessions, each of them a list of its fields."""
    sessions: dict[Any, list[Any]] = {}
    for each in activities:
        home_page = None if each.statement is None else each.statement.home_page
        key = (each.organisation, each.lrs_id, each.session_id, home_page)
        session = sessions.setdefault(key, [*key[:3], 0, [], home_page, []])
        session[4].append(encode(each))
        session[6] += [each.record_id] if each.record_id in voided else []
    return msgspec.msgpack.encode(list(sessions.values()))


@settings(max_examples=25)
@given(arriving_activity(), st.data())
def test_what_release_0_1_kept_is_gone_on_from(arriving: list[Activity], data: Any) -> None:
    known = data.draw(st.integers(0, len(arriving)))
    unique = list({encode(each): each for each in arriving[:known]}.values())
    user = User(CountingFold(), kept_by_release_0_1(unique))
    assert user.state.is_old
    sent = {each.id for each in Derivation().user(unique)}
    for number, one in enumerate(arriving[known:], known):
        whole = Derivation().user(arriving[: number + 1])
        assert plain(user.arrive(one)) == plain(each for each in whole if each.id not in sent)
        sent = {each.id for each in whole}
        user.end_bundle()


def test_the_voids_that_release_0_1_kept_still_count() -> None:
    start, submit, scored = activity("START", 0), activity("SUBMIT", 10), activity("RESPOND", 5)
    user = User(CountingFold(), kept_by_release_0_1([start, scored], voided=[scored.record_id]))
    user.state.take_voids(msgspec.msgpack.encode([[void_key(scored), 0], [void_key(submit), 0]]))
    assert user.arrive(scored) == []
    assert user.arrive(submit) == []
    assert names(user.arrive(activity("SUBMIT", 20))) == ["session-completed", "status"]


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        (bytes([user_state.VERSION + 1]) + b"\x90", "is of version 3, and this release knows 2 and what 0.1 wrote"),
        (b"", "is of version None"),
        (bytes([user_state.VERSION]) + b"\xc1", "is damaged"),
        (msgspec.msgpack.encode([1, 2]), "is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_text_says_what_to_do(packed: bytes, problem: str) -> None:
    with pytest.raises(UserStateError, match=problem) as refusal:
        UserState.unpack(packed)
    assert "or start without --savepoint_path" in str(refusal.value)
