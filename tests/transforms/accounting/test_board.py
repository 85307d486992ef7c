"""The board: what workers post adds up, whatever they post, in which order, and whatever became of their files."""

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import until
from transforms.accounting.accounts import Account, standing_of
from transforms.accounting.board import (
    INTERVAL,
    LAG_SPAN,
    LATENCY_BOUNDS,
    MOST_REASONS,
    OTHER_REASONS,
    PHASES,
    Board,
    Failing,
    ForwarderName,
    JobCounts,
    Lags,
    LatencyHistogram,
    Post,
    RunInfo,
    Standing,
    add_up,
)

COUNTS = st.integers(0, 1_000_000)
TIMES = st.none() | st.integers(1, 1_000_000).map(float)
NAMES = st.sampled_from(("f", "g", "h"))
REASONS = st.dictionaries(st.sampled_from(("http_400", "timeout", "unavailable")), COUNTS, max_size=3)
ANSWERS = st.sampled_from(("", "400", "503", "timeout"))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """A standing whose counts are a sum, as those of a worker are."""
    standing = Standing(
        delivered=draw(COUNTS),
        already_delivered=draw(COUNTS),
        dead=draw(REASONS),
        waiting=draw(COUNTS),
        in_flight=draw(COUNTS),
        deferred=draw(COUNTS),
        calls=draw(COUNTS),
        bytes=draw(COUNTS),
        oldest_unsent=draw(TIMES),
        last_success=draw(TIMES),
        last_refusal=draw(TIMES),
        last_answer=draw(ANSWERS),
        failing=draw(st.none() | st.builds(Failing, st.integers(1, 3).map(float), ANSWERS, st.integers(1, 3))),
        breaker=draw(st.sampled_from(("closed", "half_open", "open"))),
        unavailable=draw(st.booleans()),
        latency=LatencyHistogram([draw(COUNTS)] * (len(LATENCY_BOUNDS) + 1), draw(COUNTS)),
    )
    standing.due = standing.done + standing.waiting + standing.in_flight
    return standing


JOBS = st.builds(
    JobCounts,
    phase=st.sampled_from(PHASES),
    size=COUNTS,
    read=COUNTS,
    accepted=COUNTS,
    rejected=REASONS,
    folded=COUNTS,
    derived=COUNTS,
    lag=TIMES,
)
POSTS = st.lists(
    st.builds(
        Post,
        worker=st.uuids().map(str),
        pid=st.integers(1, 4),
        at=st.integers(0, 100).map(float),
        job=JOBS,
        forwarders=st.dictionaries(NAMES, standings(), max_size=3),
    ),
    max_size=4,
)


@settings(max_examples=40)
@given(posts=POSTS, data=st.data())
def test_workers_add_up_in_any_order_and_nothing_is_lost(posts: list[Post], data: st.DataObject) -> None:
    before = msgspec.json.encode(posts)
    whole = add_up(posts)
    assert add_up(data.draw(st.permutations(posts))) == whole
    assert msgspec.json.encode(posts) == before  # What was added is left as it was.
    for id_, standing in whole.forwarders.items():
        each = [post.forwarders[id_] for post in posts if id_ in post.forwarders]
        assert standing.due == sum(one.due for one in each) == standing.done + standing.waiting + standing.in_flight
        assert standing.dead_letters == sum(one.dead_letters for one in each)
        assert sum(standing.latency.counts) == sum(sum(one.latency.counts) for one in each)
        assert (standing.failing is None) == all(one.failing is None for one in each)
    assert whole.job.rejects == sum(post.job.rejects for post in posts)
    assert whole.workers == len(posts)


@settings(max_examples=40)
@given(posts=POSTS, dead=st.sets(st.integers(1, 4)))
def test_of_a_worker_that_died_what_it_settled_counts_and_nothing_else(posts: list[Post], dead: set[int]) -> None:
    whole = add_up(posts, lambda pid: pid not in dead)
    alive = add_up([post for post in posts if post.pid not in dead])
    everybody = add_up(posts)
    for id_, standing in whole.forwarders.items():
        known = alive.forwarders.get(id_, Standing())
        assert standing.done == everybody.forwarders[id_].done
        assert (standing.waiting, standing.in_flight, standing.failing) == (
            known.waiting,
            known.in_flight,
            known.failing,
        )
        assert standing.due == standing.done + standing.waiting + standing.in_flight
        assert standing.oldest_unsent == known.oldest_unsent
    assert whole.job == everybody.job


@given(latencies=st.lists(st.integers(-5, 700_000), max_size=30))
def test_latencies_are_in_the_bins_that_they_are_in_within_a_sixteenth(latencies: list[int]) -> None:
    account = Account()
    for latency in latencies:
        account.latencies.add(latency)
    histogram = standing_of(account).latency
    assert histogram.sum_ms == sum(max(latency, 0) for latency in latencies)
    assert sum(histogram.counts) == len(latencies)
    for number, bound in enumerate(LATENCY_BOUNDS):
        counted = sum(histogram.counts[: number + 1])
        certainly = sum(latency <= bound * 1000 for latency in latencies)
        assert certainly <= counted <= sum(latency <= bound * 1000 * 17 / 16 for latency in latencies)


# --- in files


def posted(board: Board) -> Board:
    """A board of this process that has posted."""
    board.advance("reading", size=10, read=2, accepted=1, rejected={"seq: missing": 1})
    board.watch(lambda now: {"f": Standing(due=3, delivered=1, waiting=2, oldest_unsent=now)})
    board.publish(at_once=True)
    return board


@pytest.mark.server
def test_what_one_process_posts_another_reads(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    board.begin(RunInfo("r1", os.getpid(), 1.0, "out", 20, {"f": ForwarderName("a gradebook", "http host")}))
    posted(board)
    script = (
        "import sys\n"
        "from transforms.accounting.board import Board, Standing\n"
        "board = Board(sys.argv[1])\n"
        "board.advance('delivering', read=5)\n"
        "board.watch(lambda now: {'f': Standing(due=4, delivered=4), 'g': Standing(due=1, waiting=1)})\n"
        "board.publish(at_once=True)\n"
        "print(board.read().forwarders['f'].due, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"7\n"
        both = board.read()
        other.kill()
        other.wait()
    assert (both.job.read, both.job.phase, both.workers) == (7, "delivering", 2)
    assert both.run is not None
    assert both.run.forwarders["f"].description == "a gradebook"
    assert (both.forwarders["f"].due, both.forwarders["g"].waiting) == (7, 1)
    # Now the other one is dead: what it had settled stays.
    left = board.read()
    assert left.workers == 1
    assert (left.forwarders["f"].delivered, left.forwarders["g"].due, left.forwarders["g"].waiting) == (5, 0, 0)


@settings(max_examples=40)
@given(torn=st.binary(max_size=200), cut=st.integers(0, 400))
def test_a_torn_file_is_passed_over(tmp_path_factory: pytest.TempPathFactory, torn: bytes, cut: int) -> None:
    directory = tmp_path_factory.mktemp("run")
    board = posted(Board(str(directory)))
    (path,) = (directory / "board").iterdir()
    whole = path.read_bytes()
    (directory / "board" / "x.json").write_bytes(whole[: min(cut, len(whole) - 1)])
    (directory / "board" / "y.json").write_bytes(torn)
    (directory / "run.json").write_bytes(torn)
    snapshot = board.read()
    assert (snapshot.forwarders["f"].due, snapshot.run) == (3, None)


def test_a_reader_sees_whole_files_while_they_are_replaced(tmp_path: Path) -> None:
    board = posted(Board(str(tmp_path)))
    done = threading.Event()

    def post() -> None:
        while not done.is_set():
            board.publish(at_once=True)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        assert all(board.read().forwarders["f"].due == 3 for _ in range(300))
    finally:
        done.set()
        thread.join()


def test_a_board_that_nobody_else_sees_is_in_memory(tmp_path: Path) -> None:
    board = posted(Board(str(tmp_path / "not" / "there")))
    assert not board.is_shared
    assert board.read().forwarders == {}
    assert board.mine().forwarders["f"].due == 3
    assert board.mine().job.rejected == {"seq: missing": 1}


def test_it_pickles_and_each_process_counts_for_itself(tmp_path: Path) -> None:
    board = posted(Board(str(tmp_path)))
    copy: Board = pickle.loads(pickle.dumps(board))  # noqa: S301
    assert copy.mine().job == board.mine().job


def test_what_was_watched_stays_when_the_watch_ends(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    first = board.watch(lambda now: {"f": Standing(due=5, delivered=3, waiting=2)})
    first()
    first()  # Ending it again changes nothing.
    second = board.watch(lambda now: {"f": Standing(due=2, waiting=2, failing=Failing(1.0, "503"))})
    standing = board.read().forwarders["f"]
    assert (standing.due, standing.delivered, standing.waiting) == (3, 3, 0)
    board.publish(at_once=True)
    standing = board.read().forwarders["f"]
    assert (standing.due, standing.delivered, standing.waiting) == (5, 3, 2)
    second()
    assert board.read().forwarders["f"].failing is None


def test_it_posts_no_more_often_than_once_in_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("transforms.accounting.board.time.monotonic", lambda: now)
    board = Board(str(tmp_path))
    asked: list[float] = []

    def watched(at: float) -> dict[str, Standing]:
        asked.append(at)
        return {}

    board.watch(watched)
    assert board.publish() is not None
    assert board.publish() is None
    now += INTERVAL
    assert board.publish() is not None
    assert len(asked) == 2


def test_a_post_that_takes_long_comes_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, spent = 1000.0, iter((0.0, 0.1, 0.1, 0.2))
    monkeypatch.setattr("transforms.accounting.board.time.monotonic", lambda: now)
    monkeypatch.setattr("transforms.accounting.board.time.thread_time", lambda: next(spent))
    board = Board(str(tmp_path))
    assert board.publish() is not None
    now += 9
    assert board.publish() is None  # A tenth of a second is not to be spent oftener than every ten seconds.
    now += 2
    assert board.publish() is not None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=30))
def test_the_lag_is_the_longest_of_the_last_minute(seen: list[tuple[int, int]]) -> None:
    lags, now = Lags(), 0.0
    all_of_them: list[tuple[float, float]] = []
    for after, lag in seen:
        now += after
        assert lags.longest(now) == max((each for at, each in all_of_them if at >= now - LAG_SPAN), default=0.0)
        lags.saw(lag, now)
        all_of_them.append((now, lag))
    assert lags.longest(now + LAG_SPAN + 1) == 0


def test_there_is_no_lag_without_a_stream_and_none_is_negative(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    board.advance(read=1)
    assert board.mine().job.lag is None
    board.advance(lag=-2.0)
    assert board.mine().job.lag == 0
    board.advance(lag=7.5)
    board.advance(lag=1.0)
    assert board.mine().job.lag == 7.5


def test_reasons_of_rejects_are_bounded(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    for number in range(MOST_REASONS + 10):
        board.advance(rejected={f"reason {number}": 2})
    board.advance(rejected={"reason 0": 1})
    rejected = board.mine().job.rejected
    assert len(rejected) == MOST_REASONS + 1
    assert (rejected[OTHER_REASONS], rejected["reason 0"]) == (20, 3)


def test_a_disk_that_is_full_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    board = posted(Board(str(tmp_path)))
    assert board.read().forwarders == {}
    assert board.mine().forwarders["f"].due == 3


def test_files_are_json_and_hold_what_readers_of_other_languages_need(tmp_path: Path) -> None:
    posted(Board(str(tmp_path)))
    (path,) = (tmp_path / "board").iterdir()
    assert json.loads(path.read_bytes())["forwarders"]["f"]["due"] == 3


def test_asking_to_stop_reaches_others(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    assert not board.read().stopping
    board.stop()
    assert board.read().stopping
    until((tmp_path / "stop").exists)
