"""Which open dead letters the next run on a state begins with (`--catch_up`), and where they are kept until then.

A letter is of an outage by its reason (`transforms.sinks.outages`). One that is tried again and is not delivered, since
the outage goes on, is not written again: it stays as it is. So there is one letter of each (forwarder, id), whatever
the number of runs that an outage lasts.

To read all dead letters of an output takes 0.1 ms each, too much for every run of an outage. So what is open is kept
beside them, sorted by bucket of users, and a run adds what is new to it. That is a copy: if it is damaged or removed,
or if files of dead letters are removed, merged or put back, it is made anew from them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from schemas import DeadLetter
from transforms.receipts.runs import run_number
from transforms.sinks.outages import is_of_outage
from transforms.storage import Storage

KEPT = ".catch_up"
"""The directory under the output that holds the open letters."""

_CURRENT = f"{KEPT}/current.json"
_VERSION = 1
_RUN_BYTES = 8


class KeptLetters(msgspec.Struct, frozen=True):
    """The open letters of an output, as a run has left them: the contents of `current.json`.

    Attributes:
        up_to: the number of the latest run whose letters have gone into it; -1: none.
        parts: a digest of the names of the files with letters of those runs.
        name: the file with the letters, relative to the output; empty if there is none.
        size: bytes of the file.
        at: the offset of each bucket in the file, and the end of the last one.
        version: of this format.
    """

    up_to: int = -1
    parts: str = ""
    name: str = ""
    size: int = 0
    at: tuple[int, ...] = ()
    version: int = _VERSION


NOTHING_KEPT = KeptLetters()


def known_letters(storage: Storage, parts: Iterable[str], run_id: str) -> KeptLetters:
    """The open letters that the last run has left; NOTHING_KEPT if they do not fit the files of dead letters.

    Args:
        storage: of the output.
        parts: the names of all files of dead letters.
        run_id: the present run.
    """
    try:
        with storage.open(_CURRENT) as stream:
            kept = msgspec.json.decode(stream.read(), type=KeptLetters)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return NOTHING_KEPT
    fits = kept.version == _VERSION and kept.up_to < run_number(run_id) and kept.parts == _digest(parts, kept.up_to)
    if not fits or (kept.name and storage.sizes(KEPT).get(kept.name.removeprefix(f"{KEPT}/")) != kept.size):
        return NOTHING_KEPT
    return kept


def new_parts(kept: KeptLetters, parts: Iterable[str]) -> list[str]:
    """Those of the files of dead letters that have not gone into `kept`, in their order."""
    return [name for name in parts if run_number(name) > kept.up_to]


def keep_letters(
    storage: Storage, parts: Iterable[str], damaged: Iterable[str], name: str, at: tuple[int, ...]
) -> None:
    """Put open letters in force that are in the file `name`, and remove those that were.

    Args:
        storage: of the output.
        parts: the names of all files of dead letters, which have gone into it.
        damaged: those of them that are damaged. They may be restored, so they are read again, with all that follow.
        name: of the file, relative to the output; empty if no letter is open.
        at: the offset of each bucket in the file, and the end of the last one.
    """
    first_damaged = min(map(run_number, damaged), default=sys.maxsize)
    up_to = min(max(map(run_number, parts), default=-1), first_damaged - 1)
    kept = KeptLetters(up_to, _digest(parts, up_to), name, at[-1] if at else 0, at)
    storage.write(_CURRENT, [msgspec.json.encode(kept)], durable=False)
    for other in storage.list(KEPT):
        if f"{KEPT}/{other}" not in (name, _CURRENT):
            storage.remove(f"{KEPT}/{other}")


def _digest(parts: Iterable[str], up_to: int) -> str:
    names = sorted(name for name in parts if run_number(name) <= up_to)
    return blake2b("\n".join(names).encode(), digest_size=16).hexdigest()


class OpenLetter(NamedTuple):
    """The last dead letter of a record to a forwarder that has not got it.

    Attributes:
        forwarder_id: of the letter.
        user_id: of the letter.
        reason: of the letter.
        first_run: the number of the run that gave the record up first.
        last_run: the number of the run that wrote the letter.
        key: sorts letters by user, and each user's in order.
        read: gives the bytes of the letter, as they are kept.
    """

    forwarder_id: str
    user_id: str
    reason: str
    first_run: int
    last_run: int
    key: tuple[str, str, int, str, int, str]
    read: Callable[[], bytes]


def to_keep(letters: Iterable[OpenLetter]) -> Iterator[OpenLetter]:
    """Those letters of a bucket that later runs have to know: of an outage, or refused while such a letter was open.

    Args:
        letters: in order.
    """
    letters = list(letters)
    open_since: dict[tuple[str, str], int] = {}
    for letter in letters:
        if is_of_outage(letter.reason):
            due = (letter.forwarder_id, letter.user_id)
            open_since[due] = min(letter.first_run, open_since.get(due, letter.first_run))
    for letter in letters:
        since = open_since.get((letter.forwarder_id, letter.user_id))
        if since is not None and (is_of_outage(letter.reason) or since <= letter.last_run):
            yield letter


def kept_bytes(first_run: int, letter: bytes) -> bytes:
    """A letter as it is kept: with the number of the run that gave the record up first."""
    return first_run.to_bytes(_RUN_BYTES, "big") + letter


def split_kept(data: bytes) -> tuple[int, bytes]:
    """What `kept_bytes` was given."""
    return int.from_bytes(data[:_RUN_BYTES], "big"), data[_RUN_BYTES:]


class OutageLetters(msgspec.Struct, frozen=True):
    """Chooses among the open letters those that a run tries again. It pickles.

    Attributes:
        committed: the number of the run that wrote the state; 0 if there is none, or if runs had no numbers then. What
            later runs gave up is derived again by this one, at its place among what is new, so it is no letter yet.
        block_user: whether a record goes on waiting for an earlier one of its user that was refused for itself
            (`--on_failure`). It does if it had been given up by then: the run that refused the earlier one went no
            further. A record of a later run was sent in spite of that.
        looks_only: whether the run changes nothing.
    """

    committed: int
    block_user: bool
    looks_only: bool = False

    def choose(self, letters: Iterable[tuple[int, DeadLetter]]) -> Iterator[DeadLetter]:
        """Those of the kept letters of a bucket that are tried again.

        Args:
            letters: with the number of the run that gave the record up first; each user's in order.
        """
        refused: dict[tuple[str, str], int] = {}
        for first_run, letter in letters:
            due = (letter.forwarder_id, letter.user_id)
            if not is_of_outage(letter.reason):
                refused[due] = max(run_number(letter.run_id), refused.get(due, 0))
                continue
            waits = self.block_user and first_run <= refused.get(due, -1)
            if self.committed > 0 and first_run <= self.committed and not waits:
                yield letter
