"""The whole job on this machine: stand-ins up, a sample in, the job run, and what arrived held against what was due."""

import argparse
import fcntl
import os
import shlex
import shutil
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from uuid import uuid4

import trustme

from local import learninglocker
from local.check import (
    Finding,
    check_data_stream,
    check_delivery_stream,
    check_http,
    count_receipts,
    faults_met,
    read_lines,
    verdict,
)
from local.endpoint import Endpoint, EndpointError, aws_endpoint
from local.examples import (
    CONTRACT_EXAMPLE,
    CONTRACT_ORGANISATION,
    EXAMPLES,
    Credentials,
    Example,
    Json,
    Line,
    Places,
    data_stream,
    delivery_stream,
    render,
    write_documents,
)
from local.process import ROOT, Stopped, run_child, signals_as_exceptions
from local.receiver import FaultPlan, Receiver
from local.stack import Stack, stack


class RunError(Exception):
    """The run cannot go on. The text says what to do."""


RunJob = Callable[[Path, dict[str, str]], int]
"""Runs the job in a directory with `in` and `forwarders`, in an environment; returns its exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    started = monotonic()
    try:
        with signals_as_exceptions(), workspace(ROOT / ".local") as place:
            if arguments.learninglocker:
                status = learninglocker.run(place, arguments.statements, arguments.seed)
            else:
                status = run(place, arguments.sessions, arguments.seed)
    except (RunError, EndpointError, learninglocker.LockerError) as error:
        print(f"run_local: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"run_local: stopped by {stop}; nothing is left running", file=sys.stderr)
        return stop.status
    print(f"took {monotonic() - started:.0f} s")
    return status


def run(place: Path, sessions: int, seed: int, job: RunJob | None = None, *, may_repeat: bool = False) -> int:
    """One run inside the empty directory `place`.

    Args:
        place: the directory.
        sessions: the size of the sample.
        seed: of the sample, and of the receiver's failures.
        job: runs the job; `run_job` unless given.
        may_repeat: a message may arrive again without a fault, because workers are killed.

    Returns:
        The exit status: 0 when the job succeeded, and what arrived is what was due.

    Raises:
        RunError: the job failed.
        EndpointError: there is no AWS endpoint to run against.
    """
    name = f"session-forwarder-local-{uuid4().hex[:8]}"
    credentials = Credentials.random()
    ca_file, certificate = _certificate(place)
    with (
        aws_endpoint() as endpoint,
        stack(endpoint, name) as aws,
        Receiver(credentials.authorization(), FaultPlan(seed), certificate) as receiver,
    ):
        documents = [render(example, Places(name, receiver.http, receiver.https, ca_file)) for example in EXAMPLES]
        write_documents(documents, place / "forwarders")
        aws.create_data_streams([stream for stream in map(data_stream, documents) if stream])
        aws.create_delivery_streams([stream for stream in map(delivery_stream, documents) if stream])
        print(f"HTTP: a receiver at http://{receiver.http} and https://{receiver.https}, which fails now and then")
        print(
            f"Forwarders: {len(documents)}; {CONTRACT_EXAMPLE} is the contract's own example, changed only in its url,"
        )
        print("    which names the receiver, and by a caFile that vouches for the receiver's certificate")
        make_sample(place / "in", sessions, seed)
        status = (job or run_job)(place, job_environment(endpoint, credentials))
        if status not in (0, 3):
            raise RunError(f"the job ended with status {status}; what it printed above says why")
        lines = read_lines(place / "out" / "records")
        findings = [look(*pair, lines, aws, receiver) for pair in zip(EXAMPLES, documents, strict=True)]
        receipts = count_receipts(place / "out" / "receipts")
        for finding in findings:
            finding.receipts = receipts[finding.id]
            if may_repeat:
                finding.allow_repeats()
        failures = faults_met(
            attempt for example in EXAMPLES if example.http_path for attempt in receiver.attempts(example.http_path)
        )
    print(f"\nDue of {len(lines):,} records, and what the streams, the bucket and the receiver have:\n")
    return verdict(findings, failures, status, place / "out")


def make_sample(directory: Path, sessions: int, seed: int) -> None:
    """The input: activity of so many sessions, by the project's own generator."""
    directory.mkdir()
    print(f"Sample: {sessions:,} sessions, seed {seed}", flush=True)
    command = [sys.executable, "-m", "pipeline.sample", f"--sessions={sessions}", f"--seed={seed}"]
    command += ["--format=jsonl", "--compress=gz", f"--output={directory / 'sample.jsonl.gz'}"]
    status = run_child(command, os.environ)
    if status:
        raise RunError(f"the generator ended with status {status}; what it printed above says why")


def run_job(place: Path, environment: dict[str, str], runner: Sequence[str] = ("--runner=DirectRunner",)) -> int:
    """Runs the job on the sample, as a user would; returns its exit status. runner: the flags that say on what."""
    here = os.path.relpath(place, ROOT)
    command = [sys.executable, "-m", "pipeline", *runner]
    command += ["--input", f"{here}/in/*.jsonl.gz", "--forwarders", f"{here}/forwarders", "--output", f"{here}/out"]
    # The contract's example is for one organisation only, so the activity has to be of that one.
    command += ["--organisation", CONTRACT_ORGANISATION, "--write_records", "jsonl"]
    command += ["--allow_network", "127.0.0.0/8", "--max_backoff", "2", "--outage_budget", "30"]
    print("Job:", shlex.join(["python", *command[1:]]), flush=True)
    return run_child(command, environment)


def job_environment(endpoint: Endpoint, credentials: Credentials) -> dict[str, str]:
    """The job's environment: the endpoint, and the secrets that the documents refer to."""
    return {
        **endpoint.environment(os.environ),
        **credentials.environment(),
        "FORWARDER_LOCAL_AWS_KEY": endpoint.access_key_id,
        "FORWARDER_LOCAL_AWS_SECRET": endpoint.secret_access_key,
    }


def look(example: Example, document: Json, lines: Sequence[Line], aws: Stack, receiver: Receiver) -> Finding:
    """What became of what this forwarder was due."""
    if example.http_path is not None:
        return check_http(example, lines, receiver.attempts(example.http_path))
    stream = data_stream(document)
    if stream is not None:
        return check_data_stream(example, lines, aws.read_data_stream(stream))
    return check_delivery_stream(example, lines, aws.read_delivery_stream(document["kinesisOptions"]["streamName"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_local.sh", description=__doc__)
    parser.add_argument("--sessions", type=int, default=3000, metavar="N", help="size of the sample (default 3000)")
    parser.add_argument(
        "--learninglocker",
        action="store_true",
        help="instead: a Learning Locker's database, its statements forwarded by its own forwarders",
    )
    parser.add_argument("--statements", type=int, default=20_000, metavar="N", help="of that database (default 20000)")
    parser.add_argument(
        "--seed", type=int, default=7, metavar="S", help="of the sample and of the failures (default 7)"
    )
    return parser


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """The directory, emptied, for one run at a time."""
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another run is using {place}: wait for it, or end it") from None
        for entry in place.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        yield place


def _certificate(place: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for the receiver, and the file with the authority that vouches for it: made for this run."""
    authority = trustme.CA()
    ca_file = place / "receiver-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return ca_file, context


if __name__ == "__main__":
    sys.exit(main())
