"""A Flink cluster on this machine: a JobManager, and two TaskManagers with the pools in which their user code runs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import MappingProxyType
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from local.process import ROOT

HOST = "127.0.0.1"
TASK_MANAGERS = 2
SLOTS = 2
"""Of each TaskManager: enough that a job of parallelism 2 goes on with one of them."""

_READY_WITHIN = 60.0
_POLL = 0.2
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_POOL = "worker-pool"
"""A name for each TaskManager's own pool: the job names one address for all, as on a cluster of many machines."""
OPENED = ("java.lang", "java.util", "java.nio", "java.net", "java.time", "java.util.concurrent", "sun.nio.ch")


class ClusterError(Exception):
    """The cluster did not come up. The text says where its logs are."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    rest_port: int
    pool_port: int
    task_managers: tuple["subprocess.Popen[bytes]", ...]
    pools: tuple["subprocess.Popen[bytes]", ...]

    def flags(self, parallelism: int = TASK_MANAGERS) -> tuple[str, ...]:
        """What the job needs to run on it."""
        return (
            "--runner=FlinkRunner",
            f"--flink_master={HOST}:{self.rest_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={_POOL}:{self.pool_port}",
            f"--parallelism={parallelism}",
        )

    def kill_task_manager(self) -> None:
        """Kills one without a warning. No other takes its place."""
        self.task_managers[0].send_signal(signal.SIGKILL)

    def largest_worker(self) -> int:
        """Resident memory of the largest worker, in bytes. Linux only."""
        children = " ".join(
            listed.read_text() for pool in self.pools for listed in Path("/proc").glob(f"{pool.pid}/task/*/children")
        )
        pages = (int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children.split())
        return max(pages, default=0) * os.sysconf("SC_PAGE_SIZE")

    def failures(self) -> list[str]:
        """What made Flink start a job again, by the exceptions' names, the latest first."""
        found = []
        for job in self._get("/jobs")["jobs"]:
            history = self._get(f"/jobs/{job['id']}/exceptions")["exceptionHistory"]["entries"]
            found += [entry["exceptionName"] for entry in history]
        return found

    def _get(self, path: str) -> Any:
        with urlopen(f"http://{HOST}:{self.rest_port}{path}", timeout=5) as answer:
            return json.load(answer)

    def registered(self) -> int:
        """How many TaskManagers the JobManager knows; 0 while it does not answer."""
        try:
            return len(self._get("/taskmanagers")["taskmanagers"])
        except (URLError, OSError):
            return 0


@contextmanager
def cluster(
    distribution: Path,
    place: Path,
    environment: Mapping[str, str],
    source: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Cluster]:
    """A cluster that ends with the block.

    Args:
        distribution: the directory in whose `lib/` Flink's jars are.
        place: the directory for its files, which is made.
        environment: the environment of the workers, who alone need the secrets.
        source: environment variables for a source that Flink itself runs.

    Raises:
        ClusterError: it does not start.
    """
    place.mkdir(parents=True)
    rpc, rest, pool = free_ports(3)
    java = _java(distribution)
    bare = {**_environment_of_java(), **source}
    with ExitStack() as stack:

        def start(name: str, command: Sequence[str], given: Mapping[str, str]) -> "subprocess.Popen[bytes]":
            log = stack.enter_context((place / f"{name}.log").open("wb"))
            process = subprocess.Popen(  # noqa: S603 - our own commands
                command, cwd=ROOT, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end, process)
            return process

        def configured(name: str) -> str:
            directory = place / name
            directory.mkdir()
            (directory / "flink-conf.yaml").write_text(_configuration(directory, rpc, rest, checkpoints))
            return str(directory)

        def address_of_pool(number: int) -> str:
            return f"127.0.1.{number + 1}"

        def worker_pool(number: int) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "local.flink.pool", f"--address={address_of_pool(number)}:{pool}"]
            return start(f"workers-{number}", command, {**environment, "PATH": path})

        def task_manager(number: int) -> "subprocess.Popen[bytes]":
            name = f"taskmanager-{number}"
            directory = configured(name)
            hosts = Path(directory, "hosts")
            hosts.write_text(f"{HOST} localhost {socket.gethostname()}\n{address_of_pool(number)} {_POOL}\n")
            own = [java[0], f"-Djdk.net.hosts.file={hosts.resolve()}", *java[1:]]
            return start(name, [*own, _TASK_MANAGER, "--configDir", directory], bare)

        checkpoints = place / "checkpoints"
        # A pool starts `python` as it finds it in the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        start("jobmanager", [*java, _JOB_MANAGER, "--configDir", configured("jobmanager")], bare)
        pools = tuple(map(worker_pool, range(TASK_MANAGERS)))
        started = Cluster(rest, pool, tuple(map(task_manager, range(TASK_MANAGERS))), pools)
        _await_task_managers(started, place)
        yield started


def _java(distribution: Path) -> list[str]:
    """The command that starts Java with Flink's jars, but for the class to run."""
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    return [shutil.which("java") or "java", "-Xmx768m", "-cp", f"{distribution}/lib/*", *opened]


def _environment_of_java() -> dict[str, str]:
    """What Java needs of this process's environment, and no more: secrets are for the workers, not for Flink."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME", "TMPDIR") if name in os.environ}


def _await_task_managers(started: Cluster, place: Path) -> None:
    deadline = monotonic() + _READY_WITHIN
    while started.registered() < TASK_MANAGERS:
        if monotonic() > deadline:
            raise ClusterError(f"the Flink cluster is not up after {_READY_WITHIN:.0f} s: see the logs in {place}")
        sleep(_POLL)


def _configuration(directory: Path, rpc: int, rest: int, checkpoints: Path) -> str:
    settings = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": HOST,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": rest,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "taskmanager.numberOfTaskSlots": SLOTS,
        # One worker of a job of parallelism 2 on each TaskManager, so that killing either hits the job.
        "taskmanager.load-balance.mode": "SLOTS",
        # Flink's start script would work these out.
        "taskmanager.cpu.cores": 1.0,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.network.min": "256m",
        "taskmanager.memory.network.max": "256m",
        # The graph has many exchanges of little data; each would take 16 MiB of network memory as it is.
        "taskmanager.network.sort-shuffle.min-buffers": 64,
        "taskmanager.memory.managed.size": "256m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        "blob.server.port": 0,
        "io.tmp.dirs": directory,
        # Of a streaming job. The JobManager's memory, where they are kept otherwise, takes 5 MB of a step's.
        "state.checkpoints.dir": checkpoints.resolve().as_uri(),
        # A TaskManager that was killed is missed soon, and the job starts again.
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 20000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 3,
        "restart-strategy.fixed-delay.delay": "1 s",
    }
    return "".join(f"{name}: {value}\n" for name, value in settings.items())


def free_ports(count: int) -> list[int]:
    """So many ports of this machine at which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and all it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
