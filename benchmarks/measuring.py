"""Runs a program in a process of its own and says what it took."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.sinks import SinksClient


@dataclass
class Run:
    """One run. Seconds without imports; `peak` bytes of memory of the process and all its children at one time.

    `delivered`: the `Tally` of the sinks, or of the program's own counting end. `sink_cpu`: seconds the sinks worked.
    """

    program: str
    stage: str
    wall: float
    cpu: float
    peak: int
    delivered: dict[str, Any] = field(default_factory=dict)
    sink_cpu: float = 0.0
    load: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Task:
    """What programs are given."""

    input: Path
    forwarders: Path
    ends: str = "all"
    workers: int = 1
    broker: str = ""
    number: int = 0


def run(
    program: str, stage: str, task: Task, sinks: SinksClient, python: str = sys.executable, timeout: float = 3600
) -> Run:
    """Run `program` on `task`, under `python`. Raises RuntimeError when it fails."""
    sinks.reset()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        output = Path(directory) / "out"
        command = [
            python, "-m", "benchmarks.programs", program, stage,
            f"--input={task.input}", f"--forwarders={task.forwarders}", f"--output={output}",
            f"--ends={task.ends}", f"--port={sinks.port}", f"--workers={task.workers}",
            f"--broker={task.broker}", f"--number={task.number}",
        ]  # fmt: skip
        result, peak = _run(command, sinks.environment(), timeout)
    report = sinks.report()
    delivered = result["counted"] or {name: report[name] for name in ("count", "size", "digest")}
    return Run(program, stage, result["wall"], result["cpu"], peak, delivered, report["cpu"], load)


def _run(command: Sequence[str], environment: dict[str, str], timeout: float) -> tuple[dict[str, Any], int]:
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environment}
        ) as process,
    ):
        memory = _PeakMemory(process.pid)
        try:
            printed, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
            peak = memory.stop()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-4000:]}")
    return json.loads(printed.splitlines()[-1]), peak


class _PeakMemory:
    """The most memory a process had (the kernel's own high-water mark), and at one time with its children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            peak = _kib(self._pid, "VmHWM")
            tree = sum(_kib(pid, "VmRSS") for pid in _descendants(self._pid))
            self._peak = max(self._peak, 1024 * peak, 1024 * (_kib(self._pid, "VmRSS") + tree))


def _kib(pid: int, name: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _descendants(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += [int(child), *_descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return pids
