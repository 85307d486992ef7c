"""The markers of the tests: what each needs, by the folder or the module it stands in.

`pytest -m fast` is the loop for work on a core. It imports no other module, so that Apache Beam stays out.
A test that needs more than the rest of its module says so itself: `@pytest.mark.server`, `@pytest.mark.slow`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

MARKERS = {
    "fast": "a pure core: no Apache Beam, no server, no other process, milliseconds",
    "slow": "a pure core too, but it takes a second or more",
    "beam": "Apache Beam: a step, or the whole job",
    "server": "starts servers, threads of servers or other processes",
    "browser": "a browser: Chromium",
    "long": "takes seconds, and is of a tool beside the job, or does again and again what others do: `make long`",
    "flink": "a Flink cluster: `./run_flink.sh --tests`",
}

NEEDS: dict[str, tuple[str, ...]] = {
    "benchmarks": ("beam", "server"),
    "commands": ("beam", "server"),
    "deploy": ("server",),
    "deploy/test_images.py": ("beam",),
    "docs": ("beam", "server"),
    "local": ("server",),
    "local/test_check.py": ("fast",),
    "local/test_examples.py": ("fast",),
    "local/test_flink_cluster.py": ("beam", "server", "flink"),
    "local/test_streaming.py": ("fast",),
    "lrs": ("beam", "server"),
    "pipeline": ("beam", "server"),
    "pipeline/test_cancel.py": ("server",),
    "pipeline/test_config_file.py": ("fast",),
    "pipeline/test_cells.py": ("fast",),
    "pipeline/test_flink.py": ("beam", "server", "flink"),
    "pipeline/test_graph.py": ("beam",),
    "pipeline/test_lock.py": ("server",),
    "pipeline/test_logs.py": ("fast",),
    "pipeline/test_options.py": ("beam",),
    "pipeline/test_next_steps.py": ("beam",),
    "pipeline/test_preflight.py": ("beam",),
    "pipeline/test_progress.py": ("fast",),
    "pipeline/test_report.py": ("beam",),
    "pipeline/test_sample.py": ("slow",),
    "pipeline/test_terminal.py": ("server",),
    "pipeline/test_top.py": ("server",),
    "pipeline/test_streaming.py": ("beam", "server", "flink"),
    "registry": ("server",),
    "registry/test_job.py": ("beam", "server"),
    "registry/test_matching.py": ("beam", "server"),
    "registry/test_page.py": ("beam", "server", "browser"),
    "registry/test_tester_page.py": ("server", "browser"),
    "registry/test_sample_delivery.py": ("beam", "server"),
    "schemas": ("fast",),
    "support": ("fast",),
    "support/laboratory": ("server",),
    "support/laboratory/test_checker.py": ("fast",),
    "test_project.py": ("server",),
    "transforms": ("beam",),
    "transforms/accounting": ("fast",),
    "transforms/test_durability.py": ("fast",),
    "transforms/delivery": ("fast",),
    "transforms/delivery/test_http_batches.py": ("server",),
    "transforms/delivery/test_random_faults.py": ("server",),
    "transforms/delivery/test_sender.py": ("server",),
    "transforms/forwarders": ("fast",),
    "transforms/matching": ("fast",),
    "transforms/observing": ("fast",),
    "transforms/query": ("fast",),
    "transforms/query/test_laws.py": ("slow",),
    "transforms/reading": ("fast",),
    "transforms/receipts": ("fast",),
    "transforms/sessions": ("fast",),
    "transforms/sessions/test_derivation_oracle.py": ("slow",),
    "transforms/sinks": ("server",),
    "transforms/sources": ("server",),
    "transforms/sources/test_documents.py": ("fast",),
    "transforms/sources/test_locations.py": ("fast",),
    "transforms/telemetry": ("fast",),
    "transforms/test_spoilt_files.py": ("slow",),
}
"""By path below `tests/`; of a module's own entry and those of its folders, the nearest counts."""

_TESTS = Path(__file__).resolve().parents[1]
_NOT_FAST = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "socket.bind", "socket.connect"}
"""Audit events of the interpreter."""


def needs(path: Path) -> tuple[str, ...]:
    """The markers of the tests in a module; raises UsageError if neither it nor a folder of it has an entry."""
    below = path.relative_to(_TESTS)
    for place in (below, *below.parents):
        if place.as_posix() in NEEDS:
            return NEEDS[place.as_posix()]
    raise pytest.UsageError(f"tests/{below.as_posix()} has no entry in NEEDS of tests/support/markers.py")


def _may_be_fast(path: Path) -> bool:
    """Whether there is something fast at the path, a module or a folder."""
    if path.is_file():
        return "fast" in needs(path)
    return any(
        (_TESTS / entry).is_relative_to(path) or path.is_relative_to(_TESTS / entry)
        for entry, markers in NEEDS.items()
        if "fast" in markers
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if config.option.markexpr == "fast":
        # Whoever imports it now gets a ModuleNotFoundError, and with it the import to blame.
        sys.modules["apache_beam"] = None  # type: ignore[assignment]
        settings.register_profile("fast", settings.get_profile("project"), max_examples=20)
        settings.load_profile("fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast`, leaves out what cannot be fast before it is imported."""
    is_test = collection_path.is_dir() or collection_path.name.startswith("test_")
    if config.option.markexpr == "fast" and is_test and collection_path.is_relative_to(_TESTS):
        return None if _may_be_fast(collection_path) else True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        own = {marker.name for marker in item.iter_markers()} & MARKERS.keys()
        for name in needs(item.path):
            if name != "fast" or not own:
                item.add_marker(name)
    # What takes long comes first, so that at the end no process of pytest-xdist is left alone with it: files with
    # Beam or servers, then slow tests of cores, then fast ones. Tests of one file stay together.
    files: dict[Path, int] = {}
    for item in items:
        files[item.path] = min(files.get(item.path, len(_LONGEST_FIRST)), _turn(item))
    items.sort(key=lambda item: files[item.path])


_LONGEST_FIRST = ("beam", "server", "slow")


def _turn(item: pytest.Item) -> int:
    names = {marker.name for marker in item.iter_markers()}
    return next((turn for turn, name in enumerate(_LONGEST_FIRST) if name in names), len(_LONGEST_FIRST))


class _Watch:
    """Refuses what a fast test has no need of, while one runs; an audit hook cannot be taken back."""

    def __init__(self) -> None:
        self.is_on = False
        sys.addaudithook(self)

    def __call__(self, event: str, _: tuple[object, ...]) -> None:
        if self.is_on and event in _NOT_FAST:
            raise RuntimeError(f"{event}, in a test that is marked as fast: mark it with what it needs")


_watch = _Watch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    _watch.is_on = item.get_closest_marker("fast") is not None
    try:
        yield
    finally:
        _watch.is_on = False
