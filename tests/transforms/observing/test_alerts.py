"""What is told of scripted outages: every alert that is due, once and in order, and none that is not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.accounting.board import Failing, JobCounts, Phase, Snapshot, Standing
from transforms.accounting.summary import RejectLimit
from transforms.observing.alerts import QUIET_SECONDS, Alert, AlertRules
from transforms.reading.bucket_blobs import ReadCounts

AFTER = 60.0
LIMIT = RejectLimit(0.05, 10)
READING = JobCounts(phase="reading", read=100)
DELIVERING = JobCounts(phase="delivering", read=100)


def board(job: JobCounts = DELIVERING, **forwarders: Standing) -> Snapshot:
    return Snapshot(job=job, forwarders=forwarders)


def failing(since: float, answer: str = "503", **more: object) -> Standing:
    return Standing(failing=Failing(since, answer), waiting=5, **more)  # type: ignore[arg-type]


def told(
    looks: Iterable[tuple[float, Snapshot]], rules: AlertRules | None = None
) -> list[tuple[str, str | None, float]]:
    """(type, forwarder, time) of all alerts that the looks make due."""
    rules = rules or AlertRules(AFTER, LIMIT)
    return [(alert.type, alert.forwarder_id, now) for now, seen in looks for alert in rules.saw(seen, now)]


def test_a_forwarder_that_fails_is_told_once_when_it_has_for_long_enough() -> None:
    looks = [(now, board(a=failing(100.0))) for now in (101.0, 159.9, 160.0, 161.0, 900.0)]
    assert told(looks) == [("forwarder.failing", "a", 160.0)]


def test_a_short_failure_is_not_told_nor_that_it_is_over() -> None:
    looks = [
        (101.0, board(a=failing(100.0))),
        (159.0, board(a=failing(100.0))),
        (160.0, board(a=Standing(last_success=159.5))),
    ]
    assert told(looks) == []


def test_that_a_forwarder_is_back_is_told_when_it_has_taken_a_record() -> None:
    looks = [
        (160.0, board(a=failing(100.0, last_success=99.0))),
        (200.0, board(a=Standing(last_success=99.0))),  # its worker is gone, and nothing more is known
        (201.0, board(a=failing(100.0, last_success=99.0))),
        (230.0, board(a=Standing(last_success=229.0))),
        (231.0, board(a=Standing(last_success=230.5))),
    ]
    assert told(looks) == [("forwarder.failing", "a", 160.0), ("forwarder.recovered", "a", 230.0)]


def test_a_second_failure_is_told_again_even_if_the_forwarder_was_back_between_two_looks() -> None:
    looks = [
        (160.0, board(a=failing(100.0))),
        (161.0, board(a=failing(160.8, last_success=160.5))),
        (221.0, board(a=failing(160.8, last_success=160.5))),
    ]
    assert told(looks) == [
        ("forwarder.failing", "a", 160.0),
        ("forwarder.recovered", "a", 161.0),
        ("forwarder.failing", "a", 221.0),
    ]


def test_an_outage_is_told_in_its_order() -> None:
    looks = [
        (160.0, board(a=failing(100.0))),
        (400.0, board(a=failing(100.0, unavailable=True, dead={"unavailable": 3}))),
        (401.0, board(a=failing(100.0, unavailable=True, dead={"unavailable": 300}))),
        (500.0, board(a=Standing(last_success=499.0, dead={"unavailable": 300}))),
    ]
    assert told(looks) == [
        ("forwarder.failing", "a", 160.0),
        ("forwarder.unavailable", "a", 400.0),
        ("forwarder.dead_letters", "a", 400.0),
        ("forwarder.recovered", "a", 500.0),
    ]


def test_an_outage_that_ends_with_the_run_between_two_looks_is_told() -> None:
    assert told([(10.0, board(a=Standing(dead={"unavailable": 7})))]) == [
        ("forwarder.unavailable", "a", 10.0),
        ("forwarder.dead_letters", "a", 10.0),
    ]


def test_dead_letters_are_told_when_they_begin_and_again_only_after_a_long_time_without() -> None:
    looks = [
        (0.0, board(a=Standing())),
        (1.0, board(a=Standing(dead={"http_400": 1}))),
        (2.0, board(a=Standing(dead={"http_400": 2, "timeout": 1}))),
        (2.0 + QUIET_SECONDS, board(a=Standing(dead={"http_400": 9, "timeout": 1}))),
        (3.0 + 2 * QUIET_SECONDS, board(a=Standing(dead={"http_400": 10, "timeout": 1}))),
    ]
    assert told(looks) == [
        ("forwarder.dead_letters", "a", 1.0),
        ("forwarder.dead_letters", "a", 3.0 + 2 * QUIET_SECONDS),
    ]


def test_forwarders_are_told_of_apart() -> None:
    looks = [(160.0, board(b=failing(99.0), a=failing(100.0), c=Standing(last_success=150.0)))]
    assert told(looks) == [("forwarder.failing", "a", 160.0), ("forwarder.failing", "b", 160.0)]


def test_an_alert_says_what_is_known_of_the_forwarder() -> None:
    rules = AlertRules(AFTER, LIMIT)
    standing = failing(100.0, "timeout", in_flight=2, dead={"http_400": 1})
    (alert, dead) = rules.saw(board(a=standing), 170.0)
    assert alert == Alert("forwarder.failing", 170.0, 1, "a", 100.0, "timeout", 7, {"http_400": 1})
    assert dead.type == "forwarder.dead_letters"


def test_alerts_of_a_type_and_forwarder_are_numbered() -> None:
    rules = AlertRules(AFTER, LIMIT)
    alerts = []
    for start in (0.0, 1000.0):
        alerts += rules.saw(board(a=failing(start)), start + 60)
        alerts += rules.saw(board(a=Standing(last_success=start + 70)), start + 71)
    assert [(alert.type, alert.number) for alert in alerts] == [
        ("forwarder.failing", 1),
        ("forwarder.recovered", 1),
        ("forwarder.failing", 2),
        ("forwarder.recovered", 2),
    ]


@pytest.mark.parametrize(
    ("limit", "read", "rejected", "is_told"),
    [
        (LIMIT, 1000, 5, False),
        (LIMIT, 1000, 6, True),
        (LIMIT, 1000, 0, False),
        (RejectLimit(0.05, 100), 1000, 9, False),
        (RejectLimit(0.05, 100), 1000, 10, True),
        (RejectLimit(0.0, 0), 1000, 1, True),
        (None, 1000, 900, False),
    ],
)
def test_rejects_over_a_tenth_of_the_limit_are_told_once_all_is_read(
    limit: RejectLimit | None, read: int, rejected: int, is_told: bool
) -> None:
    rules = AlertRules(AFTER, limit)
    counts = {"seq: is in quotes": rejected} if rejected else {}
    looks: list[tuple[float, Snapshot]] = []
    for now, phase in enumerate[Phase](("reading", "delivering", "delivering", "ending")):
        looks.append((float(now), board(JobCounts(phase=phase, read=read, rejected=counts))))
    assert told(looks, rules) == ([("run.rejects", None, 1.0)] if is_told else [])
    assert rules.read_all(ReadCounts(accepted=read - rejected, rejected=rejected), 9.0) == []


def test_a_run_that_only_reads_yet_is_not_judged_by_its_first_block() -> None:
    looks = [(1.0, board(JobCounts(phase="reading", read=1, rejected={"not JSON": 1})))]
    assert told(looks) == []


def test_rejects_that_are_many_by_their_bytes_alone_are_told_at_the_end() -> None:
    rules = AlertRules(AFTER, LIMIT)
    (alert,) = rules.read_all(ReadCounts(accepted=1000, rejected=1, accepted_bytes=10_000, rejected_bytes=5_000), 1.0)
    assert alert.type == "run.rejects"
    assert alert.share == pytest.approx(1 / 3)


def test_that_a_run_failed_is_told_once_with_its_first_reason() -> None:
    rules = AlertRules(AFTER, LIMIT)
    assert [alert.reason for alert in rules.failed("the disk is full", 1.0) + rules.failed("it ended", 2.0)] == [
        "the disk is full"
    ]


# Laws, held against a second telling of the rules.


_STEP = 30


@dataclass
class Script:
    """What a forwarder does, in seconds: outages from one time to another, and single dead letters."""

    outages: list[tuple[float, float]]
    letters: list[float] = field(default_factory=list)

    def standing(self, now: float) -> Standing:
        dead = sum(letter <= now for letter in self.letters)
        current = next((start for start, end in self.outages if start <= now < end), None)
        ended = [end for _, end in self.outages if end <= now]
        return Standing(
            failing=None if current is None else Failing(current, "503"),
            last_success=max(ended, default=None) if current is not None else now,
            dead={"http_400": dead} if dead else {},
        )


def script(moments: Sequence[int], letters: Sequence[int]) -> Script:
    ordered = sorted(moments)
    return Script(
        [(float(a), float(b)) for a, b in list(pairwise(ordered))[::2]], [float(at) for at in sorted(letters)]
    )


scripts = st.builds(
    script,
    st.lists(st.integers(1, 5_000), unique=True, max_size=12).map(lambda moments: moments[: len(moments) // 2 * 2]),
    st.lists(st.integers(1, 12_000), max_size=4),
)


@settings(max_examples=40)
@given(st.lists(scripts, min_size=1, max_size=3))
def test_every_outage_that_lasts_is_told_with_its_end_and_no_other(forwarders: list[Script]) -> None:
    rules = AlertRules(AFTER, None)
    alerts: list[tuple[str, str | None, float]] = []
    for now in range(0, 12_060, _STEP):
        seen = Snapshot(forwarders={f"f{number}": each.standing(float(now)) for number, each in enumerate(forwarders)})
        alerts += [(alert.type, alert.forwarder_id, float(now)) for alert in rules.saw(seen, float(now))]
    expected: list[tuple[float, str, str]] = []
    for number, each in enumerate(forwarders):
        name = f"f{number}"
        for start, end in each.outages:
            noticed = next_look(start + AFTER)
            if noticed < end:
                expected.append((noticed, name, "forwarder.failing"))
                expected.append((next_look(end), name, "forwarder.recovered"))
        last: float | None = None
        for look in sorted({next_look(at) for at in each.letters}):
            if last is None or look - last > QUIET_SECONDS:
                expected.append((look, name, "forwarder.dead_letters"))
            last = look
    assert sorted((now, str(name), type_) for type_, name, now in alerts) == sorted(expected)
    assert [now for _, _, now in alerts] == sorted(now for _, _, now in alerts)


def next_look(at: float) -> float:
    """When what happens at a time is seen: looks are _STEP seconds apart."""
    return -(-at // _STEP) * _STEP
