"""What holds for all tests."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A timing is never a test: what a busy machine does to an example says nothing of the code. Other examples are drawn
# every time. What guards order, or that nothing is lost, has more of them, and says so itself.
settings.register_profile("project", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist=loadfile`, gives the tests of real LRSs to one process, as if they were one file.

    Each LRS starts once, then.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    # Here, since pytest does without where it is not installed.
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    scheduler = LoadFileScheduling(config, log)
    of_file = scheduler._split_scope
    scheduler._split_scope = lambda test: "tests/lrs" if test.startswith("tests/lrs/") else of_file(test)
    return scheduler


@pytest.fixture(scope="session", autouse=True)
def _what_was_imported_is_no_garbage() -> Iterator[None]:
    """Keeps the collector from modules and tests alone: to walk over them takes it half a second, each time.

    A job keeps all that is alive from it, for good (`transforms.bundles`), and leaves some 8 MB of cycles. In a process
    with many jobs the cycles of one would be kept by the next.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


@pytest.fixture(autouse=True)
def _garbage_is_collected() -> Iterator[None]:
    """A job lets the collector come seldom; after it, it comes as ever."""
    thresholds = gc.get_threshold()
    yield
    if gc.get_threshold() != thresholds:
        gc.set_threshold(*thresholds)
        gc.collect()
