"""Redrives and replays that users ask for: the job as a process, of which the plan is shown before anything is sent.

The operator says once what the job reads and where it writes (`--jobs CONFIG.toml`, as the job's `--config`). Users
choose forwarders, records and times, and nothing else. One job runs at a time; whether another run holds the output the
process finds out itself, by the output's lock.

A job is a file of the jobs' directory, so that it is known after a restart of the service. Whether its process lives is
told by a lock that the process inherits and nobody else holds: not by its id, which may be another process's by then.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from registry.deliveries import NOT_REACHED, hidden_reasons, shown_reason
from registry.usage import CommandError
from schemas import Kind
from schemas.json_values import JsonObject
from schemas.times import now_ms, rfc3339
from transforms import durability
from transforms.accounting.board import Board, Snapshot
from transforms.accounting.holder import named_holder
from transforms.storage import storage_at

logger = logging.getLogger(__name__)

MOST_FORWARDERS = 50
MOST_RECORDS = 500
MOST_REASONS = 20
"""What one selection may name."""

PLAN_HOLDS = 3600.0
"""Seconds for which a plan can be carried out."""

_JOBS_KEPT = 200
"""Jobs that are remembered, the latest ones."""

_POLL = 0.3
"""Seconds from one look at a process to the next."""

_MOST_LOG = 1024 * 1024
"""Bytes of a process's log from which on its older half is dropped, as long as the service runs."""

_LINES_SHOWN = 10
_LONGEST_LINE = 1000

_RECORD_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_REASON = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_JOB_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}", re.ASCII)

_USERS_CHOOSE = ("forwarder", "kind", "since", "until", "reason", "id", "redrive", "replay", "dry_run", "explain")
_NOT_OF_THIS = ("state", "catch_up", "write_records", "streaming", "log_format", "log_level", "forwarder_documents")
"""Flags that a config for users' jobs goes without."""

What = Literal["redrive", "replay"]
State = Literal["planning", "planned", "sending", "done", "stopped", "failed", "killed"]
_RUNS: tuple[State, ...] = ("planning", "sending")


class JobsBusyError(Exception):
    """A job runs already. The text says so."""


class NoSuchJobError(Exception):
    """There is no such job."""


class JobRefusedError(Exception):
    """What is asked for cannot be done. The text says why and what to do."""


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be sent again.

    Attributes:
        what: dead letters (`redrive`), or records of the input, delivered or not (`replay`).
        forwarders: ids.
        reasons: of dead letters, as they are shown; empty for all.
        records: ids; empty for all.
        kinds: of records; empty for all.
        since: epoch ms: of a redrive, when a record was given up; of a replay, the record's own time.
        until: epoch ms; what is at that time or later is left out.
    """

    what: What
    forwarders: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    since: int | None = None
    until: int | None = None

    def check(self) -> None:
        """Raises JobRefusedError where the selection is none."""
        if not 1 <= len(self.forwarders) <= MOST_FORWARDERS:
            raise JobRefusedError(f"choose 1 to {MOST_FORWARDERS} forwarders")
        if len(self.records) > MOST_RECORDS or not all(map(_RECORD_ID.fullmatch, self.records)):
            raise JobRefusedError(f"choose at most {MOST_RECORDS} records, by their ids; or choose a time instead")
        if len(self.reasons) > MOST_REASONS or not all(map(_REASON.fullmatch, self.reasons)):
            raise JobRefusedError(f"choose at most {MOST_REASONS} reasons, as they are shown")
        if self.what == "replay" and self.reasons:
            raise JobRefusedError("a replay goes by time, kind and record: reasons are of dead letters alone")
        if self.what == "replay" and self.since is None and not self.records:
            raise JobRefusedError("choose records, or the time from which on they are sent again")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise JobRefusedError("the time that was chosen ends before it begins")


class Job(msgspec.Struct):
    """A job as it is kept. Nothing in it is secret.

    Attributes:
        organisation: of the client who asked for it.
        by: who that was.
        selection: what is sent again. `until` is never None: what comes later was not in the plan.
        pid: of the process that runs, or ran last.
        run_id: of that run, once it has one.
        documents: the digest of the forwarder documents of the plan.
        digest: of the plan; who wants it carried out names it.
        plan: what would be sent; None before that is known.
        report: what was sent.
        problems: why it failed, in lines.
        times: when each state began, RFC 3339.
    """

    id: str
    organisation: str
    by: str
    selection: Selection
    state: State = "planning"
    pid: int | None = None
    run_id: str | None = None
    documents: str | None = None
    digest: str | None = None
    plan: JsonObject | None = None
    report: JsonObject | None = None
    problems: list[str] = []
    times: dict[str, str] = {}

    def enter(self, state: State) -> None:
        """Be in a state from now on."""
        self.state = state
        self.times[state] = rfc3339(now_ms())


@dataclass(frozen=True)
class JobsConfig:
    """What the operator lets users' jobs do.

    Attributes:
        path: of the config file, absolute.
        output: the job's output.
        has_input: whether there is input to replay.
        places: what stands in the file of places, by the flag's name. They are not shown to users.
    """

    path: str
    output: str
    has_input: bool
    places: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: str, output: str) -> Self:
        """Read the file that `--jobs` names.

        Args:
            output: what `--deliveries` names.

        Raises:
            CommandError: the file cannot be read, or is none for users' jobs.
        """
        try:
            flags = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CommandError(f"--jobs {path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise CommandError(f"--jobs {path} is not TOML: {error}") from None
        for name in ("forwarders", "output"):
            if not isinstance(flags.get(name), str) or not flags[name]:
                raise CommandError(f"--jobs {path}: {name} is missing: name it as the job's flag")
        if _same_place(flags["output"]) != _same_place(output):
            raise CommandError(f"--jobs {path}: output is not that of --deliveries: both are of one job")
        for name in _USERS_CHOOSE:
            if name in flags:
                raise CommandError(f"--jobs {path}: leave {name} out: users choose what is sent again")
        for name in _NOT_OF_THIS:
            if name in flags:
                raise CommandError(f"--jobs {path}: leave {name} out: a job that sends again goes without it")
        places = {
            name: _texts(flags.get(name)) for name in ("output", "forwarders", "input", "attachments", "temp_dir")
        }
        return cls(str(Path(path).resolve()), flags["output"], bool(flags.get("input")), places)


def _same_place(place: str) -> str:
    return place.rstrip("/") if "://" in place else str(Path(place).resolve())


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, str) and each)


class Jobs:
    """The jobs of one output. Safe to use from several threads.

    Args:
        config: what users' jobs may do.
        directory: where jobs are kept, of this service alone.
        hides_inside: as `registry.deliveries.shown_reason` takes it.

    Raises:
        CommandError: the directory cannot be used, or another service uses it.
    """

    def __init__(self, config: JobsConfig, directory: Path, *, hides_inside: bool = False) -> None:
        self.config = config
        self._directory = directory
        self._hides_inside = hides_inside
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._progress: dict[str, JsonObject] = {}
        self._stopped = threading.Event()
        self._watchers: list[threading.Thread] = []
        self._held = _hold(directory)
        self._load()

    def close(self) -> None:
        """Watch no more. A process that runs goes on, and is found again by the next service on the directory."""
        self._stopped.set()
        for watcher in list(self._watchers):
            watcher.join()
        os.close(self._held)

    def listed(self) -> list[Job]:
        """All jobs, the latest first. They must not be changed."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)

    def get(self, job_id: str) -> Job:
        """One job, which must not be changed. Raises NoSuchJobError."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise NoSuchJobError
        return job

    def progress(self, job_id: str) -> JsonObject | None:
        """How far the process of a job is; None if nothing is known of it."""
        with self._lock:
            return self._progress.get(job_id)

    def plan(self, selection: Selection, organisation: str, by: str) -> Job:
        """Begin to plan what would be sent again. Nothing is sent.

        Args:
            organisation: of who asks.
            by: who asks.

        Raises:
            JobRefusedError: the selection is none, or there is no input to replay.
            JobsBusyError: another job runs.
        """
        selection.check()
        if selection.what == "replay" and not self.config.has_input:
            raise JobRefusedError("there is no input to replay: the service's --jobs names none")
        # What comes from now on is not in the plan, so it is not sent either.
        until = min(now_ms(), selection.until or now_ms())
        if selection.since is not None and selection.since >= until:
            raise JobRefusedError("the time that was chosen has not begun")
        selection = msgspec.structs.replace(selection, until=until)
        job = Job(f"{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(4)}", organisation, by, selection)
        with self._lock:
            self._check_free()
            job.enter("planning")
            self._jobs[job.id] = job
            self._forget_old()
            self._start(job, [*self._words("plan", selection)])
        return job

    def confirm(self, job_id: str, digest: str) -> Job:
        """Carry out a plan.

        Args:
            digest: of the plan that was shown.

        Raises:
            NoSuchJobError: there is no such job.
            JobRefusedError: it is not planned, or the plan is another one, or too old.
            JobsBusyError: another job runs.
        """
        with self._lock:
            job = self.get(job_id)
            if job.state != "planned":
                raise JobRefusedError(f"this job is {job.state}: make a new plan")
            if digest != job.digest:
                raise JobRefusedError("this is not the plan that is to be carried out: look at it again")
            planned = datetime.fromisoformat(job.times["planned"])
            if (datetime.now(UTC) - planned).total_seconds() > PLAN_HOLDS:
                raise JobRefusedError("the plan is more than an hour old: make a new one")
            self._check_free()
            job.enter("sending")
            job.run_id = None
            self._start(job, [*self._words("send", job.selection), f"--forwarder_documents={job.documents}"])
        return job

    def stop(self, job_id: str) -> None:
        """Ask the process of a job to end: it finishes what is in flight. A plan that waits is withdrawn.

        Raises:
            NoSuchJobError: there is no such job.
            JobRefusedError: it has ended.
        """
        with self._lock:
            job = self.get(job_id)
            if job.state == "planned":
                job.enter("stopped")
                self._keep(job)
                return
            if job.state not in _RUNS or job.pid is None or not self._lives(job):
                raise JobRefusedError("this job has ended")
            # Its lock is held, so this is its process.
            with suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGTERM)

    # What is started.

    def _words(self, step: Literal["plan", "send"], selection: Selection) -> Iterator[str]:
        """The command of a step, after the name of the program. Each value is one word with its flag."""
        is_redrive = selection.what == "redrive"
        yield "plan" if step == "plan" else "redrive" if is_redrive else "run"
        yield f"--config={self.config.path}"
        yield "--log_format=json"
        yield "--skip_invalid_forwarders"
        if is_redrive and step == "plan":
            yield "--redrive"
        if not is_redrive:
            yield "--replay=all"
        for flag, values in (
            ("forwarder", selection.forwarders),
            ("kind", selection.kinds),
            ("id", selection.records),
            ("reason", self._reasons(selection)),
        ):
            yield from (f"--{flag}={value}" for value in values)
        for flag, time_ in (("since", selection.since), ("until", selection.until)):
            if time_ is not None:
                yield f"--{flag}={rfc3339(time_)}"

    def _reasons(self, selection: Selection) -> list[str]:
        """The reasons that a selection means. One that is shown may stand for several."""
        meant: dict[str, None] = {}
        for reason in selection.reasons:
            also = sorted(hidden_reasons(self._hides_inside)) if reason == NOT_REACHED else [reason]
            meant |= dict.fromkeys(also)
        return list(meant)

    def _check_free(self) -> None:
        if any(job.state in _RUNS for job in self._jobs.values()):
            raise JobsBusyError("another job runs on this output: wait for its end, or stop it")

    def _start(self, job: Job, words: Sequence[str]) -> None:
        """Start a process for a job. The caller holds the lock."""
        lock = os.open(self._path(job.id, "lock"), os.O_RDWR | os.O_CREAT, durability.FILE_MODE)
        log = os.open(
            self._path(job.id, "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, durability.FILE_MODE
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = subprocess.Popen(  # noqa: S603 - this program, and values that were checked, each one word
                [sys.executable, "-m", "commands", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(lock,),
                # Ctrl-C at the service's terminal is not for the job.
                start_new_session=True,
            )
        except OSError as error:
            job.problems = [f"the job could not be started: {error.strerror or error}"]
            job.enter("failed")
            self._keep(job)
            return
        finally:
            os.close(lock)
            os.close(log)
        job.pid = process.pid
        self._keep(job)
        self._watch(job, process)

    def _watch(self, job: Job, process: subprocess.Popen[bytes] | None) -> None:
        watcher = threading.Thread(target=self._follow, args=(job, process), name=f"job {job.id}", daemon=True)
        self._watchers = [each for each in self._watchers if each.is_alive()]
        self._watchers.append(watcher)
        watcher.start()

    def _follow(self, job: Job, process: subprocess.Popen[bytes] | None) -> None:
        """Watch a process to its end, or to that of the service.

        Args:
            process: None if a service before this one has started it.
        """
        lives: Callable[[], bool] = (
            (lambda: process.poll() is None) if process is not None else (lambda: self._lives(job))
        )
        while lives():
            try:
                self._see(job)
            except Exception:  # What is shown of it is not worth its end.
                logger.warning("how far job %s is cannot be told", job.id, exc_info=True)
            if self._stopped.wait(_POLL):
                return
        with self._lock:
            try:
                self._end(job, None if process is None else process.returncode)
            except Exception:
                logger.exception("job %s ended, and what it did cannot be told", job.id)
                job.problems = ["what the job did cannot be told: its log is in the directory of jobs"]
                job.enter("failed")
            self._progress.pop(job.id, None)
            self._keep(job)

    def _see(self, job: Job) -> None:
        """Look how far a process is, and keep its log short."""
        log = self._path(job.id, "log")
        if log.stat().st_size > _MOST_LOG:
            # What is written meanwhile may be lost. The file is opened for appending, so all goes on at its end.
            data = log.read_bytes()[-_MOST_LOG // 2 :]
            with log.open("r+b") as file:
                file.truncate(0)
                file.write(data.partition(b"\n")[2])
        if job.run_id is None:
            run_id = _run_id_in(log)
            with self._lock:
                job.run_id = run_id
                if run_id is not None:
                    self._keep(job)
        holder = named_holder(self.config.output)
        if holder is not None and holder.pid == job.pid and holder.board is not None:
            progress = _progress(Board(holder.board).read(), job.selection.forwarders)
            with self._lock:
                self._progress[job.id] = progress

    def _lives(self, job: Job) -> bool:
        """Whether the process of a job lives: whether its lock is held."""
        try:
            lock = os.open(self._path(job.id, "lock"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # Shared: who else looks at the same time must not be taken for the process.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    # How it ended.

    def _end(self, job: Job, status: int | None) -> None:
        """Note how the process of a job ended.

        Args:
            status: of its exit, negative for a signal; None where nobody knows.
        """
        log = self._path(job.id, "log")
        job.run_id = job.run_id or _run_id_in(log)
        report = self._report(job.run_id)
        job.problems = list(self._problems(log, job)) if report is None or status not in (0, 3, None) else []
        if report is None:
            was_killed = status is None or status < 0
            job.enter("killed" if was_killed and not job.problems else "failed")
            if job.state == "killed":
                job.problems = ["the process was ended from outside; what it had sent is in the receipts"]
            elif not job.problems:
                job.problems = [f"the job ended with status {status}; its log is in the directory of jobs"]
            return
        shown = self._shown_report(report, job)
        if job.state == "planning":
            if report["state"] != "done" or report["exit_status"] != 0:
                job.enter("stopped" if report["state"] == "stopped" else "failed")
                return
            job.plan = shown
            job.documents = report["forwarder_documents"]
            job.digest = _digest_of([msgspec.to_builtins(job.selection), shown, job.documents])
            job.enter("planned")
            return
        job.report = shown
        job.enter("done" if report["state"] == "done" else "stopped" if report["state"] == "stopped" else "failed")

    def _report(self, run_id: str | None) -> Mapping[str, Any] | None:
        if run_id is None:
            return None
        try:
            with storage_at(self.config.output).open(f"runs/{run_id}/report.json") as stream:
                report = json.loads(stream.read())
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) else None

    def _shown_report(self, report: Mapping[str, Any], job: Job) -> JsonObject:
        """What users see of a report: counts of the chosen forwarders. No place is in it, and no other forwarder."""
        chosen = [self._shown_account(each) for each in report["forwarders"] if each["id"] in job.selection.forwarders]
        input_ = report["input"]
        return {
            "run_id": report["run_id"],
            "state": report["state"],
            "elapsed_seconds": report["elapsed_seconds"],
            "input": {name: input_[name] for name in ("files", "read", "rejected")},
            "forwarders": chosen,
            "records": sum(each["matched"] for each in chosen),
        }

    def _shown_account(self, account: Mapping[str, Any]) -> JsonObject:
        names = ("id", "matched", "delivered", "already_delivered", "dead_lettered", "pending", "attempts", "sample")
        shown: JsonObject = {name: account[name] for name in names if name in account}
        if "kept" in account:
            shown["kept"] = account["kept"]
        if "dead_letter_reasons" in account:
            reasons: dict[str, int] = {}
            for reason, count in account["dead_letter_reasons"].items():
                name = self._shown_reason(reason)
                reasons[name] = reasons.get(name, 0) + count
            shown["dead_letter_reasons"] = reasons
        if "letters" in account:
            by_reason: dict[str, dict[str, int]] = {}
            for reason, plan in account["letters"]["by_reason"].items():
                of_reason = by_reason.setdefault(self._shown_reason(reason), {})
                for name, count in plan.items():
                    of_reason[name] = of_reason.get(name, 0) + count
            shown["letters"] = {"delivered_since": account["letters"]["delivered_since"], "by_reason": by_reason}
        return shown

    def _shown_reason(self, reason: str) -> str:
        return shown_reason(reason, self._hides_inside) or reason

    def _problems(self, log: Path, job: Job) -> Iterator[str]:
        """Why a process failed, for users: without what concerns others, and without places and addresses inside."""
        found = []
        for line in _lines_of(log):
            if line.get("level") not in ("error", "critical"):
                continue
            for text in str(line.get("message", "")).splitlines():
                shown = self._shown_problem(text, job)
                if shown and shown not in found:
                    found.append(shown)
        yield from found[-_LINES_SHOWN:]

    def _shown_problem(self, text: str, job: Job) -> str | None:
        if "is in use by another run" in text:
            return "another run is under way on the output: wait for its end"
        if "--forwarder_documents" in text:
            return "the forwarders were changed since the plan was made: make a new plan"
        if "configuration.url" in text or "configuration.tokenUrl" in text:
            return "a receiver was not reached, or may not be reached: whoever runs the service finds in the log which"
        if "no active, valid forwarder is left" in text:
            return "none of these forwarders is active and without a fault by now"
        if "forwarder" in text and not any(
            f"forwarder {id_}{end}" in text for id_ in job.selection.forwarders for end in (" (", ":")
        ):
            return None
        for name, places in self.config.places.items():
            for each in sorted(places, key=len, reverse=True):
                text = text.replace(each, f"the {name}")
        return text.replace(self.config.path, "the config")[:_LONGEST_LINE]

    # What is kept.

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._directory / f"{job_id}.{suffix}"

    def _keep(self, job: Job) -> None:
        """Write a job down. That this fails ends no process."""
        try:
            durability.write_file(self._path(job.id, "json"), [msgspec.json.encode(job)], durable=True)
        except OSError as error:
            logger.error("job %s cannot be written down: %s", job.id, error.strerror or error)

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*.json")):
            if _JOB_ID.fullmatch(path.stem) is None:
                continue
            try:
                job = msgspec.json.decode(path.read_bytes(), type=Job)
            except (OSError, msgspec.DecodeError) as error:
                logger.warning("%s is no job, and is left out (%s)", path, type(error).__name__)
                continue
            self._jobs[job.id] = job
            if job.state in _RUNS:
                self._watch(job, None)

    def _forget_old(self) -> None:
        ended = sorted(job.id for job in self._jobs.values() if job.state not in _RUNS)
        for job_id in ended[: max(0, len(self._jobs) - _JOBS_KEPT)]:
            del self._jobs[job_id]
            for suffix in ("json", "log", "lock"):
                self._path(job_id, suffix).unlink(missing_ok=True)


def _hold(directory: Path) -> int:
    """Hold the jobs' directory for this service. Raises CommandError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, durability.FILE_MODE)
    except OSError as error:
        raise CommandError(f"--jobs_dir {directory} cannot be used: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise CommandError(f"--jobs_dir {directory} is another service's: give each its own") from None
    return descriptor


def _lines_of(log: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a log that are JSON."""
    with suppress(OSError):
        for line in log.read_bytes().splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    yield told


def _run_id_in(log: Path) -> str | None:
    return next((line["run_id"] for line in _lines_of(log) if isinstance(line.get("run_id"), str)), None)


def _digest_of(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _progress(snapshot: Snapshot, forwarders: Sequence[str]) -> JsonObject:
    """How far a run is, of the chosen forwarders."""
    standings = [snapshot.forwarders[id_] for id_ in forwarders if id_ in snapshot.forwarders]
    total = snapshot.run.total_bytes if snapshot.run is not None else None
    return {
        "phase": snapshot.phase,
        "read_share": min(1.0, snapshot.job.size / total) if total else None,
        "due": sum(each.due for each in standings),
        "delivered": sum(each.delivered + each.already_delivered for each in standings),
        "dead_lettered": sum(each.dead_letters for each in standings),
        "waiting": sum(each.waiting + each.in_flight for each in standings),
        "at": rfc3339(int((snapshot.at or time.time()) * 1000)),
    }
