"""What holds for all tests."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A timing is never a test: what a busy machine does to an example says nothing of the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = [
    "tests.support.aws",
    "tests.support.flink",
    "tests.support.lrs_server",
    "tests.support.markers",
    "tests.support.mongo_server",
    "tests.support.receiver",
    "tests.support.workshop",
]
"""The support modules that define fixtures. They import no Beam, since `pytest -m fast` does without."""


@pytest.fixture(autouse=True)
def _garbage_is_collected() -> Iterator[None]:
    """A job in this process keeps what is alive from the garbage collector, for good (`transforms.derive`)."""
    thresholds = gc.get_threshold()
    yield
    if gc.get_threshold() != thresholds:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
