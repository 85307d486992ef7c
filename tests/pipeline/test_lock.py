import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.lock import OutputLock, OutputLockedError, OutputLostError
from tests.support.memory_storage import MemoryStorage
from tests.support.waiting import until

# --- on a disk


def test_the_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with OutputLock(str(output)) as held:
        held.check()
        with pytest.raises(OutputLockedError) as refused, OutputLock(str(output)):
            pass
        assert f"{output} is in use by another run (process {os.getpid()} on {socket.gethostname()}, started 20" in str(
            refused.value
        )
        assert "or give another directory" in str(refused.value)
    with OutputLock(str(output)):
        pass


def test_another_output_is_another_lock(tmp_path: Path) -> None:
    with OutputLock(str(tmp_path / "a")), OutputLock(str(tmp_path / "b")):
        pass


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyError), OutputLock(str(tmp_path)):
        raise KeyError
    with OutputLock(str(tmp_path)):
        pass


@contextlib.contextmanager
def holder(output: Path, offspring: str = "") -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A process that holds the lock, and the child it may have; both are gone at the end."""
    command = [sys.executable, "-m", "tests.support.hold_lock", str(output), offspring]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very interpreter
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("offspring", ["", "fork", "spawn"])
def test_sigkill_frees_the_lock_at_once_whatever_it_had_started(tmp_path: Path, offspring: str) -> None:
    with holder(tmp_path, offspring) as (process, _):
        with pytest.raises(OutputLockedError, match=f"process {process.pid} on"), OutputLock(str(tmp_path)):
            pass
        process.kill()
        process.wait()
        with OutputLock(str(tmp_path)):
            pass


def test_a_forked_child_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    with OutputLock(str(tmp_path)):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(OutputLockedError), OutputLock(str(tmp_path)):
            pass


@pytest.mark.parametrize("how", [shutil.rmtree, lambda output: output.rename(output.with_name("moved"))])
def test_a_directory_that_is_gone_is_lost(tmp_path: Path, how: Callable[[Path], object]) -> None:
    output = tmp_path / "out"
    with OutputLock(str(output)) as held:
        held.check()
        how(output)
        with pytest.raises(OutputLostError, match="out was deleted or moved during the run, so nothing more is sent"):
            held.check()
        # Another run may make a directory of that name, and that is not this one's.
        with OutputLock(str(output)), pytest.raises(OutputLostError):
            held.check()


# --- by lease


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_lost(held: OutputLock) -> bool:
    try:
        held.check()
    except OutputLostError:
        return True
    return False


@pytest.mark.parametrize("tells_times", [True, False])
def test_a_lease_keeps_others_out_until_it_is_given_back(tells_times: bool) -> None:
    clock = Clock()
    store = MemoryStorage(clock) if tells_times else MemoryStorage()
    with OutputLock(store, clock=clock, elapsed=clock) as held:
        with pytest.raises(OutputLockedError) as refused, OutputLock(store, clock=clock):
            pass
        assert f"memory://out is in use by another run (process {os.getpid()} on" in str(refused.value)
        assert f"If it was killed, this one is free in {31 if tells_times else 30} s" in str(refused.value)
        held.check()
        assert len(store.files) == 1
    assert store.files == {}
    with OutputLock(store, clock=clock):
        pass


@pytest.mark.parametrize("days", [-40, -1, 1, 40])
def test_a_lease_holds_for_machines_whose_clocks_are_days_apart_and_no_longer(days: int) -> None:
    """The clock of the store decides: it is one."""
    clock = Clock()
    store = MemoryStorage(clock)
    with OutputLock(store, clock=lambda: clock.now + days * 86_400, elapsed=clock) as killed:
        clock.now += 29
        with pytest.raises(OutputLockedError, match="free in 2 s"), OutputLock(store, clock=clock, elapsed=clock):
            pass
        killed.check()
        clock.now += 2
        with OutputLock(store, clock=clock, elapsed=clock), pytest.raises(OutputLostError):
            killed.check()


def test_a_clock_that_is_set_back_or_ahead_does_not_lose_a_lease_that_is_renewed() -> None:
    times = iter([1000.0, 900.0, 90_000.0, 90_000.0])
    store = MemoryStorage()
    with OutputLock(store, clock=lambda: next(times, 90_000.0), lease=0.6) as held:
        seen: set[str] = set()

        def renewed_thrice() -> bool:
            held.check()
            seen.update(store.files)
            return len(seen) >= 3

        until(renewed_thrice)
    assert store.files == {}


def test_the_holder_of_a_lease_is_named_though_it_is_renewed_in_between() -> None:
    class Renewed(MemoryStorage):
        def open(self, name: str) -> BinaryIO:
            if name == listed:  # it was there when the leases were listed
                self.files[f"{name}0"] = self.files.pop(name)
            return super().open(name)

    store, clock = Renewed(), Clock()
    with OutputLock(store, clock=clock):
        (listed,) = store.files
        with pytest.raises(OutputLockedError, match=rf"\(process {os.getpid()} on"), OutputLock(store, clock=clock):
            pass


def test_a_killed_run_s_lease_is_taken_over_when_it_has_expired() -> None:
    store, clock = MemoryStorage(), Clock()
    # Its first renewal is due when ten seconds have passed for its thread, whatever its clock says.
    with OutputLock(store, clock=clock, elapsed=clock, lease=30) as killed:
        clock.now += 29
        with pytest.raises(OutputLockedError, match="free in 1 s"), OutputLock(store, clock=clock):
            pass
        clock.now += 1
        with OutputLock(store, clock=clock):
            assert len(store.files) == 1
            with pytest.raises(OutputLostError, match="ran out before it could be renewed"):
                killed.check()


def test_a_lease_is_renewed_while_it_is_held() -> None:
    store = MemoryStorage()
    with OutputLock(store, lease=1.5) as held:
        began = time.monotonic()

        def is_older_than_two_leases() -> bool:
            held.check()
            with pytest.raises(OutputLockedError), OutputLock(store, lease=1.5):
                pass
            return time.monotonic() > began + 3.2

        until(is_older_than_two_leases)
    assert store.files == {}


def test_a_renewal_may_fail_and_a_lease_that_cannot_be_renewed_is_lost() -> None:
    store = MemoryStorage()
    failures, attempts, renewals = 1, 0, 0

    def fail(name: str) -> None:
        nonlocal failures, attempts, renewals
        attempts += 1
        if attempts <= failures:
            raise OSError("no route")
        renewals += 1

    with OutputLock(store, lease=0.9) as held:
        store.before_write = fail
        until(lambda: renewals)
        held.check()
        failures = 1_000
        until(lambda: is_lost(held))
        assert attempts >= 3, "it was tried again"


def test_a_renewal_that_came_too_late_does_not_count() -> None:
    store, clock = MemoryStorage(), Clock()

    def stall(name: str) -> None:
        clock.now += 100

    with OutputLock(store, elapsed=clock, lease=0.3) as held:
        store.before_write = stall
        until(lambda: is_lost(held))


def test_of_many_that_begin_at_once_never_two_go_on() -> None:
    for _ in range(20):
        store, inside, most = MemoryStorage(), 0, 0
        guard, start = threading.Lock(), threading.Barrier(4)

        def run() -> None:
            nonlocal inside, most
            start.wait()  # noqa: B023 - joined before the next round
            with contextlib.suppress(OutputLockedError), OutputLock(store):  # noqa: B023
                with guard:  # noqa: B023
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.002)
                with guard:  # noqa: B023
                    inside -= 1

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most <= 1


@pytest.mark.parametrize("name", [".lock/torn-9999999999.5", ".lock/what is this"])
def test_a_lease_s_name_decides_not_what_it_holds(name: str) -> None:
    store = MemoryStorage()
    store.files[name] = b""
    with contextlib.ExitStack() as stack:
        if "torn" in name:
            stack.enter_context(pytest.raises(OutputLockedError, match="only just begun"))
        stack.enter_context(OutputLock(store))
