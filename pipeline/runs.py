"""What a run leaves for those who look: `report.json` and `report.html`, of the latest run and of each one before."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.page import page_of
from pipeline.page.sections import total
from pipeline.report import Report
from schemas.times import millis_of, rfc3339
from transforms.receipts.runs import place
from transforms.storage import Storage, StorageError, storage_at

logger = logging.getLogger(__name__)

RUNS = "runs"
"""The directory under the output with a directory for each run, of the run's id."""

REPORT = "report.json"
PAGE = "report.html"

_LOOKED_BACK = 10
"""Runs that are looked at for one that the present run can be compared with."""


def leave(report: Report) -> None:
    """Write the report and the page of a run, under its own name and as the latest of the output.

    A page that cannot be written is no failure of the run: that is logged. Called again for a run, it replaces both. An
    explanation is not kept, since it is none of the output's runs.

    Raises:
        StorageError: the report cannot be written.
    """
    if report.job.output is None:
        return
    storage = storage_at(report.job.output)
    facts = report.as_json()
    text = json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n"
    durable = report.job.durable
    if report.job.explain is not None:
        storage.write(REPORT, [text], durable=durable)
        return
    page = _page(report, facts, storage)
    kept = f"{RUNS}/{report.run_id}"
    storage.write(f"{kept}/{REPORT}", [text], durable=durable)
    written = set()
    for name in (f"{kept}/{PAGE}", PAGE) if page else ():
        try:
            storage.write(name, [page], durable=durable)
            written.add(name)
        except StorageError as error:
            logger.warning("the page of the run is missing: %s", error)
    if PAGE not in written:
        # That of the run before would pass for this one's beside the new report.
        with suppress(OSError):
            storage.remove(PAGE)
    storage.write(REPORT, [text], durable=durable)


def _page(report: Report, facts: Mapping[str, Any], storage: Storage) -> bytes:
    """The page of a run; nothing if it cannot be made."""
    try:
        return page_of(report, facts, _run_before(storage, facts), storage)
    except Exception:
        logger.warning("the page of the run is missing: it could not be made", exc_info=True)
        return b""


def _run_before(storage: Storage, facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The report of the latest run before that is of the same mode; None if there is none among the last few."""
    latest = _read(storage, REPORT)
    if latest is None:
        return None
    if _comparable(latest, facts):
        return latest
    names = sorted(storage.directories(RUNS), key=place, reverse=True)
    for name in names[:_LOOKED_BACK]:
        earlier = _read(storage, f"{RUNS}/{name}/{REPORT}")
        if earlier is not None and _comparable(earlier, facts):
            return earlier
    return None


def latest_run(output: str) -> str:
    """The id of the latest run of an output, by its report; empty if there is none."""
    latest = _read(storage_at(output), REPORT)
    return "" if latest is None else str(latest["run_id"])


def _comparable(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    # Releases that named no mode had runs that are compared with runs.
    return bool(earlier["run_id"] != facts["run_id"] and earlier.get("mode", "run") == facts["mode"])


def _read(storage: Storage, name: str) -> Mapping[str, Any] | None:
    """A report; None if it is not there, or cannot be read."""
    try:
        with storage.open(name) as stream:
            report = json.loads(stream.read())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and isinstance(report.get("run_id"), str) else None


@dataclass(frozen=True)
class KeptRun:
    """A run as lists of runs show it. Counts are of records, unless their name says otherwise.

    Attributes:
        id: of the run.
        mode: `run`, `replay`, `redrive` or `dry_run`; None if its release did not say.
        begin: RFC 3339.
        end: RFC 3339.
        elapsed: seconds.
        state: how it ended, as `report.json` says it.
        exit_status: of the process.
        read: pieces of input.
        rejected: pieces of input.
        derived: records that were derived or given on.
        matched: due to forwarders, all of them added up; and so are the following.
        delivered: by this run.
        already_delivered: by runs before.
        dead_lettered: given up.
        pending: neither, since the run was stopped.
        balanced: whether the books add up; None where nothing was to be delivered.
    """

    id: str
    mode: str | None
    begin: str
    end: str
    elapsed: float
    state: str
    exit_status: int
    read: int
    rejected: int
    derived: int
    matched: int
    delivered: int
    already_delivered: int
    dead_lettered: int
    pending: int
    balanced: bool | None


def kept_runs(output: str | Storage) -> Iterator[KeptRun]:
    """The runs that are kept under an output, the latest first. Each is read as it is asked for.

    A run whose report is damaged or missing, as of one that was killed, is left out.
    """
    storage = storage_at(output)
    for name in sorted(storage.directories(RUNS), key=place, reverse=True):
        report = _read(storage, f"{RUNS}/{name}/{REPORT}")
        if report is not None:
            try:
                yield _kept(report)
            except (KeyError, TypeError, ValueError, AttributeError):
                logger.warning("%s/%s/%s/%s is no report of a run: it is left out", storage.root, RUNS, name, REPORT)


def _kept(report: Mapping[str, Any]) -> KeptRun:
    begin, elapsed = str(report["started"]), float(report["elapsed_seconds"])
    return KeptRun(
        id=report["run_id"],
        mode=report.get("mode"),
        begin=begin,
        end=rfc3339(millis_of(datetime.fromisoformat(begin) + timedelta(seconds=elapsed))),
        elapsed=elapsed,
        state=report["state"],
        exit_status=report["exit_status"],
        read=report["input"]["read"],
        rejected=report["input"]["rejected"],
        derived=sum(report["records"].values()),
        matched=total(report, "matched"),
        delivered=total(report, "delivered"),
        already_delivered=total(report, "already_delivered"),
        dead_lettered=total(report, "dead_lettered"),
        pending=total(report, "pending"),
        balanced=report["balanced"],
    )
