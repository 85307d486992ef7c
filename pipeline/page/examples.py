"""What dead letters and rejects look like: a few rows of those that a run has left, found in bounded time."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import fastavro

from transforms.accounting.summary import Summary
from transforms.reading.reasons import Reason
from transforms.receipts.journal import DEAD_LETTERS, PART
from transforms.receipts.parts import open_part, reading_part, rows_of
from transforms.storage import Storage, StorageError

logger = logging.getLogger(__name__)

REJECTS = "rejects"

_LETTERS_READ = 2_000
_REJECTS_READ = 2_000
_FILES_READ = 8


@dataclass(frozen=True)
class Letter:
    """A dead letter, as an example of its reason."""

    forwarder_id: str
    id: str
    user_id: str
    status: int | None
    attempts: int
    response: str | None


def letters_of(storage: Storage, run_id: str, summary: Summary) -> dict[str, Letter]:
    """The first dead letter that is found of each reason, by reason. Only so many rows are looked at.

    Args:
        storage: the output.
        run_id: of the run that left them.
        summary: what it counted: which reasons there are.
    """
    wanted = {reason for account in summary.books.accounts.values() for reason in account.dead_lettered}
    found: dict[str, Letter] = {}
    if wanted:
        for row in islice(_letter_rows(storage, run_id), _LETTERS_READ):
            if row["reason"] not in found:
                found[row["reason"]] = Letter(**{name: row[name] for name in Letter.__dataclass_fields__})
                if len(found) == len(wanted):
                    break
    return found


def _letter_rows(storage: Storage, run_id: str) -> Iterator[Mapping[str, Any]]:
    names = [name for name in storage.list(DEAD_LETTERS) if name.startswith(f"{run_id}-") and name.endswith(PART)]
    for name in names[:_FILES_READ]:
        path = f"{DEAD_LETTERS}/{name}"
        with reading_part(storage, path):
            for schema, blocks in open_part(storage, path):
                yield from rows_of(schema, blocks, "dead_letter")


def rejects_of(storage: Storage, files: tuple[str, ...], reasons: list[Reason]) -> dict[tuple[str, int], bytes]:
    """How the content begins that was refused first for each reason, by file and position. Some may not be found.

    Args:
        storage: the output.
        files: the paths of the files of rejects.
        reasons: whose first places are looked for.
    """
    wanted = {(reason.first.file, reason.first.position) for reason in reasons}
    found: dict[tuple[str, int], bytes] = {}
    rows = (row for path in files[:_FILES_READ] for row in _reject_rows(storage, path))
    for row in islice(rows, _REJECTS_READ) if wanted else ():
        place = (row["file"], row["position"])
        if place in wanted:
            found[place] = row["content"][:400]
            if len(found) == len(wanted):
                break
    return found


def _reject_rows(storage: Storage, path: str) -> Iterator[Mapping[str, Any]]:
    with storage.open(f"{REJECTS}/{path.rpartition('/')[2]}") as stream:
        yield from fastavro.reader(stream)  # type: ignore[misc]


def without_failure(found: Any) -> Any:
    """What a look for examples gives; nothing if it fails. Examples are worth no failure of a run that has ended."""
    try:
        return found()
    except (StorageError, OSError, ValueError) as error:
        logger.debug("no examples: %s", error)
        return {}
