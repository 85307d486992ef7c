"""Any schedule of faults, for the engine with its real sinks on every protocol at once."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.laboratory.job_experiment import assert_clean
from tests.support.laboratory.scenarios import by_schedule, random_schedule


@settings(max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    source=st.randoms(use_true_random=False),
    max_retries=st.integers(0, 4),
    users=st.integers(1, 6),
    blocks=st.booleans(),
    hurried=st.booleans(),
)
def test_nothing_is_lost_or_out_of_order_and_every_duplicate_is_explained(
    source: random.Random, max_retries: int, users: int, blocks: bool, hurried: bool
) -> None:
    schedule = random_schedule(
        source,
        users=users,
        max_retries=max_retries,
        on_failure="block_user" if blocks else "continue",
        hurried=hurried,
    )
    assert_clean(by_schedule(schedule))


def test_what_goes_wrong_there_is_the_faults_doing() -> None:
    lines = by_schedule(random_schedule(random.Random(1), length=0))  # noqa: S311
    assert [(line.faults, line.dead, line.duplicated) for line in lines] == [(0, 0, 0)] * 3
    lines = by_schedule(random_schedule(random.Random(1), max_retries=0))  # noqa: S311
    assert all(line.faults and line.dead for line in lines)
