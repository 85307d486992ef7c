"""The programs that are compared, each run in a process of its own:

    python -m benchmarks.programs NAME --input FILE --forwarders FILE --output DIR [--ends all]

Prints one line of JSON when it is done: seconds of wall clock and of processor time from the first line of work to the
last (imports are not in it), and what it counted. `benchmarks.measuring` starts them and adds memory.
"""

import argparse
import json
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Stage = Literal["derive", "encode", "deliver"]


@dataclass(frozen=True)
class Arguments:
    """What a program works on. `ends` names the forwarders for programs that bring their own predicates.

    `number`: of forwarders to match against, of deliveries after which Quix Streams is to stop, or the port of metrics.
    """

    input: Path
    forwarders: Path
    output: Path
    ends: Any
    port: int
    workers: int
    broker: str
    number: int


Program = Callable[[Arguments], Any]
"""Gives what it counted, or None if the sinks do; or another Program, which is then what is timed."""


def _floor(collect_garbage: bool) -> Callable[[Stage], Program]:
    def of_stage(stage: Stage) -> Program:
        from benchmarks import floor

        def run(arguments: Arguments) -> dict[str, Any] | None:
            forwarders = _load(arguments.forwarders)
            floor.prepare(collect_garbage)
            if stage == "derive":
                return floor.derive_only(arguments.input)
            if stage == "encode":
                return floor.encode_only(arguments.input, forwarders)
            floor.deliver(arguments.input, forwarders, arguments.output)
            return None

        return run

    return of_stage


def _job(*flags: str, what: Any = "activity") -> Callable[[Stage], Program]:
    """The job, with further flags where it delivers. `what`: is read, see `benchmarks.job.Input`."""

    def of_stage(stage: Stage) -> Program:
        from benchmarks import job

        def run(arguments: Arguments) -> dict[str, Any] | None:
            workers = arguments.workers
            beam_args = (
                () if workers == 1 else ("--direct_running_mode=multi_processing", f"--direct_num_workers={workers}")
            )
            if stage == "deliver":
                job.deliver(arguments.input, arguments.forwarders, arguments.output, (*flags, *beam_args))
                return None
            return job.count(arguments.input, arguments.forwarders, arguments.output, stage, beam_args, what)

        return run

    return of_stage


def _unwatched(stage: Stage) -> Program:
    """The job without a board: its workers post nothing, so nobody sees how far it is."""
    from transforms.accounting.board import Board

    def publish(self: Board, *, at_once: bool = False) -> None:
        """Nothing."""

    Board.publish = publish  # type: ignore[method-assign]
    return _job()(stage)


def _with_metrics(stage: Stage) -> Program:
    """The job, which answers Prometheus at a port."""
    from benchmarks import job

    def run(arguments: Arguments) -> None:
        flag = f"--metrics_port={arguments.number}"
        job.deliver(arguments.input, arguments.forwarders, arguments.output, (flag,))

    return run


def _load(location: Path) -> Any:
    """As `pipeline.preflight` does, without Beam's file systems."""
    from transforms.forwarders import Rules, load_forwarders, read_documents
    from transforms.forwarders.secrets import References
    from transforms.query import compile_query

    rules = Rules(compile_query, References("FORWARDER_", None), True, False)
    return load_forwarders(read_documents({str(location): location.read_bytes()}), rules).forwarders


def _script(batches: bool) -> Callable[[Stage], Program]:
    def of_stage(stage: Stage) -> Program:
        from benchmarks import script
        from benchmarks.workload import wishes

        def run(arguments: Arguments) -> None:
            send = script.in_batches if batches else script.one_by_one
            send(arguments.input, wishes(arguments.ends), f"http://127.0.0.1:{arguments.port}")

        return run

    return of_stage


def _bare(decoder: str) -> Callable[[Stage], Program]:
    def of_stage(stage: Stage) -> Program:
        from benchmarks import bare

        return lambda arguments: bare.loop(arguments.input, _load(arguments.forwarders), decoder)

    return of_stage


def _statement_script(in_session: bool) -> Callable[[Stage], Program]:
    def of_stage(stage: Stage) -> Program:
        from benchmarks import script
        from benchmarks.workload import wishes

        def run(arguments: Arguments) -> None:
            url = f"http://127.0.0.1:{arguments.port}"
            script.statements(arguments.input, wishes(arguments.ends), url, in_session=in_session)

        return run

    return of_stage


def _delivering(way: str) -> Callable[[Stage], Program]:
    def of_stage(stage: Stage) -> Program:
        from benchmarks import delivering

        def run(arguments: Arguments) -> Program:
            forwarders = _load(arguments.forwarders)
            users = delivering.prepared(arguments.input, forwarders)
            return lambda _: delivering.WAYS[way](users, forwarders, arguments.output)

        return run

    return of_stage


def _match(stage: Stage) -> Program:
    from benchmarks import core

    def run(arguments: Arguments) -> Program:
        records, matching = core.prepare_matching(arguments.input, arguments.number)
        return lambda _: core.match(records, matching)

    return run


def _bytewax(stage: Stage) -> Program:
    from benchmarks.peers import bytewax_flow

    return lambda arguments: bytewax_flow.run(arguments.input, _load(arguments.forwarders))


def _quix(stage: Stage) -> Program:
    from benchmarks.peers import quix_streams
    from benchmarks.workload import wishes

    def run(arguments: Arguments) -> None:
        url = f"http://127.0.0.1:{arguments.port}"
        quix_streams.run(arguments.broker, arguments.number, wishes(arguments.ends), url)

    return run


def _quix_feed(stage: Stage) -> Program:
    from benchmarks.peers import quix_streams

    return lambda arguments: quix_streams.feed(arguments.broker, arguments.input)


PROGRAMS: dict[str, Callable[[Stage], Program]] = {
    "floor": _floor(collect_garbage=False),
    "floor-gc": _floor(collect_garbage=True),
    "job": _job(),
    "job-none": _job("--durability=none"),
    "job-unwatched": _unwatched,
    "job-metrics": _with_metrics,
    "job-statements": _job("--input_format=xapi", what="statements"),
    "job-derived-statements": _job(what="derived-statements"),
    "bare-orjson": _bare("orjson"),
    "bare-msgspec": _bare("msgspec"),
    "script-statements": _statement_script(in_session=False),
    "script-statements-session": _statement_script(in_session=True),
    "engine": _delivering("engine"),
    "floor-lanes": _delivering("floor"),
    "bare-boto3": _delivering("bare-boto3"),
    "bare-aiohttp": _delivering("bare-aiohttp"),
    "match": _match,
    "bytewax": _bytewax,
    "quix": _quix,
    "quix-feed": _quix_feed,
    "script": _script(batches=False),
    "script-batches": _script(batches=True),
}
"""By name: makes the program for a stage (`derive`, `encode`, `deliver`); imports what it needs when asked."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("stage", choices=("derive", "encode", "deliver"))
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--forwarders", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--ends", default="all")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--broker", default="")
    parser.add_argument("--number", type=int, default=0)
    options = vars(parser.parse_args())
    logging.basicConfig(level=logging.WARNING)
    name, stage = options.pop("program"), options.pop("stage")
    run = PROGRAMS[name](stage)
    arguments = Arguments(**options)
    wall, cpu = time.perf_counter(), _cpu()
    counted = run(arguments)
    if callable(counted):
        wall, cpu = time.perf_counter(), _cpu()
        counted = counted(arguments)
    result = {"wall": time.perf_counter() - wall, "cpu": _cpu() - cpu, "counted": counted}
    print("\n" + json.dumps(result), flush=True)


def _cpu() -> float:
    """Of this process and of those of its children that have ended."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
