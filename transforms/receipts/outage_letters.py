"""Which open dead letters the next run on a state begins with (`--catch_up`), and which files these can be in.

A letter is of an outage by its reason (`transforms.sinks.outages`). One that is tried again and is not delivered, since
the outage goes on, is not written again: it stays as it is. So there is one letter of each (forwarder, id) however many
runs an outage lasts. And files of runs whose letters are all delivered, or of another reason, are not read again: a
small file says which runs these are. It only saves time, and may be removed at any time.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from transforms.receipts.runs import run_number
from transforms.sinks.outages import BLOCKED_BY_EARLIER, is_of_outage
from transforms.storage import Storage

OPEN_RUNS = ".catch_up.json"
"""The file of an output that says which runs have letters which are tried again."""

_VERSION = 1


class _OpenRuns(msgspec.Struct):
    """The contents of OPEN_RUNS.

    Attributes:
        up_to: of the runs up to this number it is known.
        open: the numbers of those among them whose letters are read again.
        version: of this format.
    """

    up_to: int = -1
    open: list[int] = []
    version: int = _VERSION


class OpenLetter(Protocol):
    """The last dead letter of a record to a forwarder that is not delivered, as far as it is asked for here."""

    @property
    def forwarder_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def reason(self) -> str: ...

    @property
    def first_run(self) -> int:
        """The number of the run that gave the record up first."""
        ...

    @property
    def last_run(self) -> int:
        """The number of the run that wrote this letter."""
        ...


_Letter = TypeVar("_Letter", bound=OpenLetter)


class OutageLetters:
    """Chooses the open dead letters that an outage has left, and notes which runs have any.

    Args:
        committed: the number of the run that wrote the state; 0 if there is none, or if runs had no numbers then. What
            later runs gave up is derived again by this one, at its place among what is new, so it is no letter yet.
        block_user: whether a record that was given up only because an earlier one of its user was (`--on_failure`) goes
            on waiting for that one if it is refused for itself.
        looks_only: whether the run changes nothing.
    """

    def __init__(self, committed: int, *, block_user: bool, looks_only: bool) -> None:
        self._committed = committed
        self._block_user = block_user
        self._looks_only = looks_only
        self._open: set[int] = set()

    def parts(self, storage: Storage, parts: list[str], run_id: str) -> list[str]:
        """Those of the parts of dead letters that may hold a letter which is tried again.

        Args:
            storage: of the output.
            parts: their names, in their order.
            run_id: the present run.
        """
        known = self._read(storage)
        if known.up_to >= run_number(run_id):  # Of files that are gone: the numbers of runs have begun anew.
            known = _OpenRuns()
        return [name for name in parts if run_number(name) > known.up_to or run_number(name) in known.open]

    def choose(self, letters: Iterable[_Letter]) -> Iterator[_Letter]:
        """Those of the open letters of a bucket that are tried again.

        Args:
            letters: each user's in order.
        """
        refused: set[tuple[str, str]] = set()
        for letter in letters:
            if letter.last_run != letter.first_run:
                self._open.add(letter.last_run)  # It says what the earlier letter no longer says.
            due = (letter.forwarder_id, letter.user_id)
            if not is_of_outage(letter.reason):
                refused.add(due)
                continue
            self._open |= {letter.first_run, letter.last_run}
            waits = self._block_user and letter.reason == BLOCKED_BY_EARLIER and due in refused
            if letter.first_run <= self._committed and self._committed and not waits:
                yield letter

    def note(self, storage: Storage, parts: Iterable[str]) -> None:
        """Write down which runs have letters that are tried again, when all of `parts` have been looked through."""
        up_to = max(map(run_number, parts), default=-1)
        noted = _OpenRuns(up_to, sorted(self._open))
        if not self._looks_only and up_to >= 0 and noted != self._read(storage):
            storage.write(OPEN_RUNS, [msgspec.json.encode(noted)], durable=False)

    def _read(self, storage: Storage) -> _OpenRuns:
        try:
            with storage.open(OPEN_RUNS) as stream:
                known = msgspec.json.decode(stream.read(), type=_OpenRuns)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return _OpenRuns()
        return known if known.version == _VERSION else _OpenRuns()


class LetterAt(NamedTuple):
    """An `OpenLetter`, and where it is."""

    forwarder_id: str
    user_id: str
    reason: str
    first_run: int
    last_run: int
    offset: int
    key: tuple[str, str, int, str, int, str]
