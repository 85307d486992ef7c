import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.waiting import until
from transforms.delivery import call_threads
from transforms.delivery.call_threads import CallThreads


class Counted:
    """Counts its turns. `does`: in each turn."""

    def __init__(self, does: Callable[["Counted"], None] = lambda me: None) -> None:
        self.turns = 0
        self._does = does

    def turn(self) -> None:
        self._does(self)
        self.turns += 1


def waits_for(gate: threading.Event) -> Callable[[Counted], None]:
    def wait(me: Counted) -> None:
        gate.wait()

    return wait


@pytest.fixture
def threads() -> Iterator[CallThreads]:
    made = CallThreads()
    yield made
    made.close()


def test_who_asks_once_gets_a_turn_and_no_second_one(threads: CallThreads) -> None:
    first, second = Counted(), Counted()
    threads.look(first)
    until(lambda: first.turns == 1)
    threads.look(second)
    until(lambda: second.turns == 1)
    assert first.turns == 1
    assert threads.count <= 3


def test_who_asks_in_a_turn_gets_another(threads: CallThreads) -> None:
    def again(me: Counted) -> None:
        if me.turns < 500:
            threads.look(me)

    worker = Counted(again)
    threads.look(worker)
    until(lambda: worker.turns == 501)


def test_asking_often_before_a_turn_is_asking_once(threads: CallThreads) -> None:
    gate = threading.Event()
    blockers = [Counted(waits_for(gate)) for _ in range(call_threads.FEW)]
    for blocker in blockers:
        threads.look(blocker)
    worker = Counted()
    for _ in range(100):
        threads.look(worker)
    gate.set()
    until(lambda: worker.turns >= 1)
    until(lambda: all(blocker.turns for blocker in blockers))
    assert worker.turns <= 3


def test_a_turn_at_a_time_comes_then_and_the_earliest_of_several_counts(threads: CallThreads) -> None:
    late, early = Counted(), Counted()
    begun = time.monotonic()
    threads.look_in(late, 3600)
    threads.look_in(early, 3600)
    threads.look_in(early, 0.05)
    threads.look_in(early, 60)
    until(lambda: early.turns == 1)
    assert time.monotonic() - begun >= 0.05
    assert not late.turns


def test_turns_that_hang_keep_nobody_waiting(threads: CallThreads) -> None:
    gate = threading.Event()
    hanging = [Counted(waits_for(gate)) for _ in range(30)]
    for worker in hanging:
        threads.look(worker)
    until(lambda: threads.count >= 30)
    at_last, in_time = Counted(), Counted()
    threads.look(at_last)
    threads.look_in(in_time, 0.01)
    until(lambda: at_last.turns == in_time.turns == 1)
    assert not any(worker.turns for worker in hanging)
    gate.set()
    until(lambda: all(worker.turns for worker in hanging))


def test_threads_without_work_end_but_one(threads: CallThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_threads, "SPARE", 0.01)
    gate = threading.Event()
    for _ in range(20):
        threads.look(Counted(waits_for(gate)))
    until(lambda: threads.count >= 20)
    gate.set()
    until(lambda: threads.count == 1)
    worker = Counted()
    threads.look(worker)
    until(lambda: worker.turns == 1)


def test_without_a_thread_to_start_those_that_are_there_do_it(
    threads: CallThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    threads.look(first := Counted(waits_for(gate)))
    until(lambda: threads.count == 2)

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    rest = [Counted() for _ in range(10)]
    for worker in rest:
        threads.look(worker)
    gate.set()
    until(lambda: first.turns == 1 and all(worker.turns for worker in rest))


def test_after_closing_nobody_gets_a_turn() -> None:
    threads = CallThreads()
    worker = Counted()
    threads.look(worker)
    until(lambda: worker.turns == 1)
    threads.close()
    threads.look(worker)
    threads.look_in(worker, 0.0)
    assert threads.count == 0
    assert worker.turns == 1
