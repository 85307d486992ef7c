"""A lane driven through simulated time against a scripted receiver, every rule checked as it goes."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

from tests.support.memory_queues import MemoryParking, MemorySpool
from tests.support.records import item as item_of
from tests.support.records import number_of
from transforms.accounting.board import Standing
from transforms.delivery.bisection import Bisection
from transforms.delivery.lane import ITEM_OVERHEAD, Lane
from transforms.delivery.lane_watch import LaneWatch
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.rate import RateLimiter
from transforms.sinks.base import AttemptResult, Item, Runs, Settlement, Verdict
from transforms.sinks.lacks import lacking
from transforms.sinks.outages import is_of_outage

DELIVERED = AttemptResult(Verdict.DELIVERED, status=200)
FAILED = AttemptResult(Verdict.RETRY, "http_500", 500, failure=True)
LOST = AttemptResult(Verdict.RETRY, "timeout", ambiguous=True, failure=True)
THROTTLED = AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False)
REFUSED = AttemptResult(Verdict.GIVE_UP, "http_400", 400)
SPLIT = AttemptResult(Verdict.SPLIT, "http_400", 400, spends_attempt=False)
TOO_BIG = AttemptResult(Verdict.GIVE_UP, "oversize")
LACKING = lacking("no descriptor")


_LOOKS = 7
"""Steps from one look at what the board says to the next, at least: with many items it costs more."""


@dataclass(frozen=True)
class Answer:
    """What the sender is told, and whether the receiver has the record."""

    outcome: AttemptResult
    stored: bool


ANSWERS = {
    "delivered": Answer(DELIVERED, True),
    "failed": Answer(FAILED, False),
    "lost_stored": Answer(LOST, True),
    "lost": Answer(LOST, False),
    "throttled": Answer(THROTTLED, False),
    "refused": Answer(REFUSED, False),
    "too_big": Answer(TOO_BIG, False),
    "lacking": Answer(LACKING, False),
}


@dataclass
class Simulation:
    """`scripts`: record id -> its answers, attempt by attempt; then, and for all others, `finally_`."""

    settings: DeliverySettings
    max_retries: int = 3
    scripts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    finally_: Callable[[float, Item], str] = lambda now, item: "delivered"
    calls_in_flight: int = 2
    max_items: int = 3
    call_seconds: float = 0.01
    seed: int = 0
    spool_chunk: int = 3
    spool_limit: int | None = None
    runs: Runs | None = None
    max_bytes: int = 1 << 62
    is_atomic: bool = False
    guilty: Set[str] = frozenset()
    limiter: RateLimiter | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311
        self.now = 0.0
        self.lane = Lane(
            "f",
            self.max_retries,
            self.settings,
            spool=MemorySpool(self.spool_chunk, self.spool_limit),
            parking=MemoryParking(max(1, self.settings.user_items // 2), self.spool_limit),
            is_atomic=self.is_atomic,
            limiter=self.limiter,
            random=self.random.random,
        )
        self.arrivals: list[str] = []
        self.sent: Counter[str] = Counter()
        self.log: defaultdict[str, list[AttemptResult]] = defaultdict(list)
        self.settled: dict[str, Settlement] = {}
        self.submitted: list[Item] = []
        self._due: dict[str, deque[str]] = defaultdict(deque)
        self._in_flight: list[tuple[float, int, Sequence[Item], Bisection[Item]]] = []
        self.calls: list[list[str]] = []
        self.called_at: list[float] = []
        self.most_held = 0
        self.biggest = 0
        self._watch = LaneWatch(self.lane)
        # As the board had it last: since when it fails, what it had given up, and the try.
        self._tried: tuple[tuple[float, int], int] | None = None
        self._submitted_at: dict[str, float] = {}
        self._steps = 0

    def submit(self, items: Iterable[Item]) -> None:
        chunk = list(items)
        for item in chunk:
            self._due[item.record.user_id].append(item.record.id)
            self.biggest = max(self.biggest, len(item.payload))
            self._submitted_at[item.record.id] = self.now
        self.submitted += chunk
        self.lane.submit(chunk)
        self._drop_overflow()
        self._check_memory()

    def step(self) -> bool:
        """One thing that happens: a call sent, ended or settled without; False when there is nothing to wait for."""
        self._steps += 1
        if self._steps % max(_LOOKS, len(self.submitted) // 8) == 0:
            self._check_watch()
        ended = self.lane.ended(self.now)
        if ended:
            self._settle(ended)
            return True
        if len(self._in_flight) < self.calls_in_flight:
            batch = self.lane.take(self.now, round(self.now * 1000), self.max_items, self.max_bytes, self.runs)
            if batch:
                self._send_part(Bisection(batch))
                return True
        wakes = [self._in_flight[0][0]] if self._in_flight else []
        wake_at = self.lane.wake_at()
        if wake_at is not None and wake_at > self.now:
            wakes.append(wake_at)
        if not wakes:
            assert wake_at is None, "something is ready, and the lane does not give it"
            return False
        self.now = max(self.now, min(wakes))
        if self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, part, bisection = heappop(self._in_flight)
            if self.is_atomic:
                self._answer_whole(part, bisection)
            else:
                self._answer(part)
        return True

    def run(self) -> None:
        while self.step():
            pass

    def _send_part(self, bisection: Bisection[Item]) -> None:
        while part := bisection.next():
            left, blocked = self.lane.part_of(part)
            if blocked:
                self._settle(blocked)
            if left:
                self._send(left, bisection)
                return
            bisection.judged()

    def _send(self, batch: Sequence[Item], bisection: Bisection[Item]) -> None:
        assert len(batch) <= self.max_items
        at: Counter[str] = Counter()
        for item in batch:
            user = item.record.user_id
            assert self._due[user][at[user]] == item.record.id, "sent before its predecessor was settled"
            at[user] += 1
            assert at[user] == 1 or self.runs is not None
        users = {item.record.user_id for _, _, items, _ in self._in_flight for item in items}
        assert users.isdisjoint(at), "records of a user are under way in two calls"
        self.calls.append([item.record.id for item in batch])
        self.called_at.append(self.now)
        ends = self.now + self.call_seconds * (0.5 + self.random.random())
        heappush(self._in_flight, (ends, len(self.calls), batch, bisection))

    def _answer_whole(self, part: Sequence[Item], bisection: Bisection[Item]) -> None:
        """Answer a call of which the receiver takes all or nothing."""
        answer = self._next_answer(part[0])
        is_guilty = answer.outcome is DELIVERED and not self.guilty.isdisjoint(item.record.id for item in part)
        for item in part:
            self.sent[item.record.id] += item is not part[0]
            outcome = REFUSED if is_guilty and len(part) == 1 else SPLIT if is_guilty else answer.outcome
            self.log[item.record.id].append(outcome)
            if answer.stored and not is_guilty:
                self.arrivals.append(item.record.id)
        if is_guilty and len(part) > 1:
            self.lane.split(len(part))
            bisection.refused()
        else:
            if answer.outcome.verdict is Verdict.RETRY:
                bisection.judged()
                self.lane.put_back(bisection.left())
            elif is_guilty:
                bisection.judged()
            else:
                bisection.taken()
            outcome = REFUSED if is_guilty else answer.outcome
            self._settle(self.lane.finish(part, [outcome] * len(part), self.now))
        self._send_part(bisection)

    def _next_answer(self, item: Item) -> Answer:
        """What the script says to the next attempt at the item."""
        id_ = item.record.id
        script = self.scripts.get(id_, ())
        word = script[self.sent[id_]] if self.sent[id_] < len(script) else self.finally_(self.now, item)
        self.sent[id_] += 1
        return ANSWERS[word]

    def _answer(self, batch: Sequence[Item]) -> None:
        outcomes = []
        entries: dict[str, Answer] = {}
        for item in batch:
            id_ = item.record.id
            # One entry of a call holds all of a user's.
            answer = entries.get(item.record.user_id) or self._next_answer(item)
            entries[item.record.user_id] = answer
            self.log[id_].append(answer.outcome)
            if answer.stored:
                self.arrivals.append(id_)
            outcomes.append(answer.outcome)
        self._settle(self.lane.finish(batch, outcomes, self.now))

    def _settle(self, settlements: list[Settlement]) -> None:
        for settlement in settlements:
            id_ = settlement.item.record.id
            assert id_ not in self.settled, "settled twice"
            self.settled[id_] = settlement
            assert self._due[settlement.item.record.user_id].popleft() == id_
        self.lane.release(settlements)
        self._drop_overflow()
        self._check_memory()

    def _drop_overflow(self) -> None:
        """Settle what there was no room for. It ends before what waits."""
        while overflow := self.lane.overflow():
            for settlement in overflow:
                id_ = settlement.item.record.id
                assert id_ not in self.settled, "settled twice"
                self.settled[id_] = settlement
                self._due[settlement.item.record.user_id].remove(id_)
            self.lane.dropped(overflow)

    def _check_memory(self) -> None:
        self.most_held = max(self.most_held, self.lane.held)
        settings = self.settings
        # The window, a spool chunk beyond it, and a share for each user in it.
        limit = settings.window_items + self.spool_chunk
        assert self.lane.held <= limit + min(len(self._due), limit) * settings.user_items
        assert self.lane.held_bytes <= self.lane.held * (self.biggest + ITEM_OVERHEAD)

    def _check_watch(self) -> None:
        """What the board says of the lane is so: what is in flight, and that something is as old as it says."""
        standing = Standing()
        self._watch.tell(standing, self.now, self.now)
        under_way = sum(len(items) for _, _, items, _ in self._in_flight)
        assert under_way <= standing.in_flight <= self.lane.pending
        assert self.is_atomic or under_way == standing.in_flight
        waiting = [at for id_, at in self._submitted_at.items() if id_ not in self.settled]
        assert (standing.oldest_unsent is None) == (not waiting)
        assert standing.oldest_unsent is None or min(waiting) <= standing.oldest_unsent + 0.001 <= self.now + 0.001
        assert standing.calls == self.lane.calls
        if standing.failing is not None:
            of, attempt = (standing.failing.since, self.lane.dead_lettered), standing.failing.attempt
            assert 1 <= attempt <= self.max_retries + 1
            if self._tried is not None and self._tried[0] == of:
                assert attempt >= self._tried[1], "which try it is goes down"
            self._tried = of, attempt

    def check(self) -> None:
        """Nothing lost, order kept, attempts bounded, duplicates explained, books equal."""
        assert len(self.settled) == len(self.submitted)
        assert self.lane.pending == self.lane.in_flight == 0
        assert self.lane.held == self.lane.held_bytes == self.lane.spooled == 0
        arrived = set(self.arrivals)
        for id_, settlement in self.settled.items():
            spent = sum(outcome.spends_attempt for outcome in self.log[id_])
            assert settlement.item.attempts == spent <= self.max_retries + 1
            assert settlement.item.ambiguous == any(outcome.ambiguous for outcome in self.log[id_])
            assert id_ in arrived or not settlement.delivered
            assert (settlement.item.first_attempt is None) == (not self.log[id_])
        first: dict[str, int] = {}
        for at, id_ in enumerate(self.arrivals):
            first.setdefault(id_, at)
        last_of_user: dict[str, int] = {}
        for id_, _ in sorted(first.items(), key=lambda pair: pair[1]):
            user, number = number_of(id_)
            if not self.settled[id_].delivered and self.settled[id_].item.ambiguous:
                continue
            assert number > last_of_user.get(user, -1), "a user's records arrived out of order"
            last_of_user[user] = number
        for id_, times in Counter(self.arrivals).items():
            assert times == 1 or any(outcome.ambiguous for outcome in self.log[id_]), "a duplicate without a cause"
        counted = Counter(settlement.delivered for settlement in self.settled.values())
        assert (self.lane.delivered, self.lane.dead_lettered) == (counted[True], counted[False])

    def reasons(self) -> Counter[str]:
        return Counter(
            "delivered" if settlement.delivered else settlement.outcome.reason for settlement in self.settled.values()
        )


def run_through(simulation: Simulation, users: Iterable[int], chunks: Iterable[int]) -> None:
    """Send a record of each of `users`, so many at a time as `chunks` says, with steps in between; then check all.

    The records of user 3 are `user-3/0`, `user-3/1`, ...
    """
    counts: Counter[int] = Counter()
    due = []
    for user in users:
        due.append(item_of(f"user-{user}", counts[user]))
        counts[user] += 1
    for chunk in [*chunks, len(due)]:
        simulation.submit(due[:chunk])
        due = due[chunk:]
        for _ in range(chunk):
            simulation.step()
    simulation.run()
    simulation.check()
    if simulation.settings.on_failure == "block_user":
        for user, count in counts.items():
            fates = [simulation.settled[f"user-{user}/{number}"] for number in range(count)]
            assert all(before.delivered or not after.delivered for before, after in pairwise(fates))
    elif simulation.settings.catches_up:
        # What is behind a record that a later run begins with is for that run, too, so that it follows it there.
        for user, count in counts.items():
            fates = [simulation.settled[f"user-{user}/{number}"] for number in range(count)]
            assert not any(is_of_outage(before.outcome.reason) and after.delivered for before, after in pairwise(fates))
