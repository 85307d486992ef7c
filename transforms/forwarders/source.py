"""Where forwarder documents are, and how the launcher and the workers read them. The job graph holds no document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas import KINDS, Kind
from transforms.forwarders import (
    Documents,
    Forwarder,
    Forwarders,
    Rules,
    load_forwarders,
    load_launched,
    read_documents,
    resolve_on_worker,
)
from transforms.forwarders.secrets import References
from transforms.forwarders.service import ServiceError, is_remote, read_remote
from transforms.query import compile_query
from transforms.storage import read_files

_SUFFIXES = (".json", ".jsonl", ".ndjson")


class ForwardersUnreadableError(Exception):
    """There are no documents at the location, or they cannot be read. The text says which, and why."""


class _Launched(NamedTuple):
    forwarders: tuple[Forwarder, ...]
    queries: tuple[object, ...]


@dataclass(frozen=True)
class ForwarderSource:
    """The forwarders of one run, for workers to load. It travels in the job graph and holds no document.

    Attributes:
        location: a file, a directory, or what `transforms.forwarders.service` reads.
        references: which references the documents may use.
        digest: of the documents that the job was launched with.
        ids: of the valid, active forwarders that take part, in the order of the documents.
    """

    location: str
    references: References
    digest: str
    ids: tuple[str, ...]

    def load(self) -> tuple[Forwarder, ...]:
        """The forwarders, with their references unresolved.

        A process that has them already goes on with them: documents may be edited while a run goes on.

        Raises:
            ForwardersUnreadableError: the documents cannot be read on this machine.
            ForwardersError: they are not those that the job was launched with.
        """
        known = _last_launched.get(self)
        if known is not None:
            return known.forwarders
        documents = _documents(self.location)
        # The queries were judged where the job was launched, and the digest says that these are the same.
        launched = load_launched(documents, Rules(_leave_query, self.references), self.digest, self.ids)
        self.keep(launched)
        return launched

    def keep(self, launched: tuple[Forwarder, ...], queries: Iterable[object] = ()) -> None:
        """Keep the forwarders for the steps that run in this process, which need not read and check them again.

        Args:
            launched: those that `load` would give.
            queries: theirs, compiled. As long as they are held, `compile_query` gives them again.
        """
        _last_launched.clear()
        _last_launched[self] = _Launched(launched, tuple(queries))

    def resolve(self) -> tuple[Forwarder, ...]:
        """The forwarders with their secrets, as this machine has them.

        Raises:
            ForwardersUnreadableError: as `load`.
            ForwardersError: as `load`; or a reference cannot be read on this machine.
        """
        return resolve_on_worker(self.load(), self.references)


# Several steps of a worker load the same forwarders, of which there may be thousands. On one machine the launcher,
# which has checked them, is the worker too.
_last_launched: dict[ForwarderSource, _Launched] = {}


def read_forwarders(location: str, rules: Rules) -> Forwarders:
    """Every forwarder, and every fault, in the documents at a location. Raises ForwardersUnreadableError."""
    return load_forwarders(_documents(location), rules)


def _documents(location: str) -> Documents:
    """The documents at a location."""
    if not is_remote(location):
        return read_documents(_files(location))
    try:
        return read_remote(location)
    except ServiceError as error:
        raise ForwardersUnreadableError(f"--forwarders {location} {error}") from None


def _leave_query(query: object) -> None:
    """Stands for `compile_query` where only the forwarders are wanted."""


def launch_rules(
    references: References, *, trusted: bool, require_organisation: bool, kinds: tuple[Kind, ...] = KINDS
) -> Rules:
    """The rules of a launcher: a query that does not compile is a fault.

    Args:
        references: which references the documents may use.
        trusted: the documents are the operator's own, or `--trust_references` is given.
        require_organisation: an active document without an organisation is refused.
        kinds: of the records that the run forwards.
    """
    return Rules(compile_query, references, trusted, require_organisation, kinds)


def _files(location: str) -> Mapping[str, bytes]:
    try:
        return read_files(location, _SUFFIXES)
    except FileNotFoundError:
        raise ForwardersUnreadableError(f"--forwarders {location}: there is no such file or directory") from None
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise ForwardersUnreadableError(f"--forwarders {location} cannot be read: {error}") from error
