"""What holds for all tests."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A timing is never a test: what a busy machine does to an example says nothing of the code.
settings.register_profile("project", deadline=None, max_examples=60)
settings.load_profile("project")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = [
    "tests.support.aws",
    "tests.support.flink",
    "tests.support.lrs_feed",
    "tests.support.lrs_server",
    "tests.support.markers",
    "tests.support.mongo_server",
    "tests.support.moved_clock",
    "tests.support.power",
    "tests.support.receiver",
    "tests.support.workshop",
    "tests.support.xapi_rs_server",
]
"""The support modules that define fixtures. They import no Beam, since `pytest -m fast` does without."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a parameter of bytes after its argument, since the name has to be the same in every process.

    pytest takes the bytes themselves. What a compressor made holds the second in which it was made, and pytest-xdist
    stops when two of its workers collected tests of other names.
    """
    return argname if isinstance(val, bytes) else None


_TESTS_PER_COLLECTION = 4
_tests_with_jobs = 0


@pytest.fixture(autouse=True)
def _garbage_is_collected() -> Iterator[None]:
    """A job in this process keeps what is alive from the garbage collector, for good (`transforms.derive`).

    A job leaves some 8 MB of cycles. The collector alone comes to them when they are a quarter of all that is alive,
    which in a process that has all tests is after hundreds of jobs, and at two gigabytes.
    """
    global _tests_with_jobs
    thresholds = gc.get_threshold()
    yield
    if gc.get_threshold() != thresholds:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        _tests_with_jobs += 1
        if _tests_with_jobs % _TESTS_PER_COLLECTION == 0:
            gc.collect()
