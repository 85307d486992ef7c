"""Voiding statements leave when all other records of the run are settled."""

import random
import signal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pipeline.test_job import start
from tests.pipeline.test_originals import XAPI, to_statements, write
from tests.support.laboratory.http_fault_server import Answer, Arrival, Script, scripted
from tests.support.receiver import Receiver
from tests.support.statements import statement
from tests.support.workshop import Workshop
from transforms.reading.originals import VOIDED_VERB

USERS = ("ann", "bob", "cid", "dee")


def of(user: str, number: int, **more: Any) -> dict[str, Any]:
    return statement(number, actor={"account": {"homePage": "https://lms.example.org", "name": user}}, **more)


def voiding(user: str, number: int, target: int, **more: Any) -> dict[str, Any]:
    reference = {"objectType": "StatementRef", "id": statement(target)["id"].upper()}
    return of(user, number, verb={"id": VOIDED_VERB}, object=reference, **more)


def number_of(arrival: Arrival) -> int:
    return int(arrival.key[-12:])


def path_of(arrival: Arrival) -> str:
    return arrival.request_line.split()[1].strip("/")


def unwilling(seed: int) -> Script:
    """Some answers are late, and some requests are refused, for good or for now."""
    chance = random.Random(seed)  # noqa: S311
    answers = [Answer()] * 6 + [Answer(fault="late", interval=0.03)] * 2 + [Answer(503), Answer(400), Answer(429)]
    return lambda _: chance.choice(answers)


TARGETS = 40
VOIDING = st.lists(
    st.tuples(st.sampled_from(USERS), st.integers(1, TARGETS), st.integers(0, 59)),
    min_size=1,
    max_size=12,
    unique_by=lambda void: void[2],  # of two that were stored at one moment, the place in the input decides
)


def check_order(receiver: Receiver, first_voiding: int) -> None:
    """Nothing else arrives once a voiding statement has, and each user's arrive in their order."""
    numbers = [number_of(arrival) for arrival in receiver.log]
    kinds = [number >= first_voiding for number in numbers]
    assert kinds == sorted(kinds), "a record came after a voiding statement"
    for path in {path_of(arrival) for arrival in receiver.log}:
        for user in USERS:
            mine = [a for a in receiver.log if path_of(a) == path and a.user == user and number_of(a) >= first_voiding]
            firsts = list(dict.fromkeys(number_of(arrival) for arrival in mine))
            assert firsts == sorted(firsts)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(VOIDING, st.integers(0, 1000))
def test_no_voiding_statement_arrives_before_any_other_record(
    workshop: Workshop, receiver: Receiver, voids: list[tuple[str, int, int]], seed: int
) -> None:
    others = [of(USERS[number % len(USERS)], number) for number in range(1, TARGETS + 1)]
    # Each is stored before its target was, or at about the same time.
    moments = sorted(moment for _, _, moment in voids)
    writes = [
        voiding(user, 100 + n, target, stored=f"2026-03-01T09:{moments[n]:02}:00Z")
        for n, (user, target, _) in enumerate(voids)
    ]
    mixed = [*others, *writes]
    random.Random(seed).shuffle(mixed)  # noqa: S311
    write(workshop, mixed)
    workshop.write_forwarders(*(to_statements(receiver, name, maxRetries=1) for name in ("one", "other")))
    receiver.script = unwilling(seed)
    receiver.log.clear()
    assert workshop.run(XAPI, "--replay=all") in (0, 3)
    report = workshop.report()
    assert report["records"] == {"statement": len(mixed)}
    for account in report["forwarders"]:
        assert account["matched"] == len(mixed)
        assert account["delivered"] + account["dead_lettered"] == len(mixed)
    assert report["balanced"]
    check_order(receiver, 100)


def test_worker_processes_wait_for_each_other(workshop: Workshop, receiver: Receiver) -> None:
    others = [of(USERS[number % len(USERS)], number) for number in range(1, TARGETS + 1)]
    voids = [voiding(USERS[number % len(USERS)], 100 + number, number) for number in range(20)]
    write(workshop, [*voids, *others])
    workshop.write_forwarders(*(to_statements(receiver, name) for name in ("one", "other")))
    receiver.script = unwilling(1)
    status = workshop.run(XAPI, "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    assert status in (0, 3)
    assert workshop.report()["balanced"]
    assert {number_of(arrival) for arrival in receiver.log} == {*range(1, TARGETS + 1), *range(100, 120)}
    check_order(receiver, 100)


def refusing(*numbers: int) -> Script:
    return lambda arrival: Answer(400) if number_of(arrival) in numbers else Answer()


def test_a_target_that_was_given_up_holds_no_voiding_statement_back(workshop: Workshop, receiver: Receiver) -> None:
    write(workshop, [voiding("bob", 100, 1), of("ann", 1), of("ann", 2)])
    workshop.write_forwarders(to_statements(receiver))
    receiver.script = refusing(1)
    assert workshop.run(XAPI) == 3
    assert {*map(number_of, receiver.log[:2])} == {1, 2}
    assert number_of(receiver.log[2]) == 100
    assert workshop.account("http")["delivered"] == 2


def test_with_block_user_a_voiding_statement_waits_for_its_users_earlier_record(
    workshop: Workshop, receiver: Receiver
) -> None:
    write(workshop, [of("ann", 1), of("bob", 2), voiding("ann", 100, 2), voiding("bob", 101, 1)])
    workshop.write_forwarders(to_statements(receiver), to_statements(receiver, "other", query=OTHER))
    receiver.script = lambda arrival: Answer(400) if (number_of(arrival), path_of(arrival)) == (1, "http") else Answer()
    assert workshop.run(XAPI, "--on_failure=block_user") == 3
    reasons = {(row["forwarder_id"], int(row["id"][-12:])): row["reason"] for row in workshop.avro("dead_letters")}
    assert reasons.keys() == {("http", 1), ("http", 100)}
    assert reasons["http", 100] == "blocked_by_earlier"
    assert sorted(number_of(arrival) for arrival in receiver.log if path_of(arrival) == "other") == [1, 100]
    receiver.log.clear()
    receiver.script = scripted()
    assert workshop.redrive("--on_failure=block_user") == 0
    assert [number_of(arrival) for arrival in receiver.log] == [1, 100]


OTHER = '{"statement.actor.account.name": "ann"}'


def test_a_redrive_sends_voiding_letters_after_all_others(workshop: Workshop, receiver: Receiver) -> None:
    others = [of(USERS[number % len(USERS)], number) for number in range(1, TARGETS + 1)]
    write(workshop, [*others, *(voiding(USERS[number % 4], 100 + number, number) for number in range(10))])
    workshop.write_forwarders(to_statements(receiver))
    receiver.script = lambda _: Answer(400)
    assert workshop.run(XAPI) == 3
    receiver.log.clear()
    receiver.script = unwilling(2)
    assert workshop.redrive() in (0, 3)
    assert len({number_of(arrival) for arrival in receiver.log}) == TARGETS + 10
    check_order(receiver, 100)


def test_a_forwarder_that_is_down_does_not_cost_a_second_outage(workshop: Workshop, receiver: Receiver) -> None:
    write(workshop, [of("ann", 1), voiding("bob", 100, 1), voiding("ann", 101, 1)])
    workshop.write_forwarders(to_statements(receiver, configuration={"maxRetries": 10}))
    receiver.script = lambda _: Answer(503)
    assert workshop.run(XAPI, "--outage_budget=0.2", "--max_backoff=0.1") == 3
    assert {row["reason"] for row in workshop.avro("dead_letters")} == {"unavailable"}
    assert workshop.account("http")["dead_lettered"] == 3
    attempts = [number_of(arrival) for arrival in receiver.log]
    assert attempts.count(1) > 2
    assert attempts.count(100) <= 1
    assert attempts.count(101) <= 1


def test_what_is_stopped_leaves_voiding_statements_pending_and_unsent(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(fault="hold") if number_of(arrival) == 2 else Answer()
    write(workshop, [of("ann", 1), of("bob", 2), voiding("cid", 100, 2)])
    workshop.write_forwarders(to_statements(receiver))
    job = start(workshop, XAPI)
    receiver.wait_for(2)
    job.send_signal(signal.SIGTERM)
    job.wait_for_text("taking no more records")
    receiver.release()
    assert job.wait(60) == 1, job.printed()
    assert (workshop.report()["state"], workshop.report()["balanced"]) == ("stopped", True)
    account = workshop.account("http")
    assert (account["matched"], account["delivered"], account["pending"]) == (3, 2, 1)
    assert sorted(map(number_of, receiver.log)) == [1, 2]

    receiver.script = scripted()
    assert workshop.run(XAPI) == 0
    assert [number_of(arrival) for arrival in receiver.log[2:]] == [100]
