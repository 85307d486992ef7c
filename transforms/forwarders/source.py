"""Where forwarder documents lie, and how launcher and workers read them. No document is in the job graph."""

from collections.abc import Mapping
from dataclasses import dataclass

from transforms.forwarders import (
    Documents,
    Forwarder,
    Forwarders,
    Rules,
    load_forwarders,
    load_launched,
    load_on_worker,
    read_documents,
)
from transforms.forwarders.secrets import References
from transforms.forwarders.service import ServiceError, is_remote, read_remote
from transforms.query import compile_query
from transforms.storage import read_files

_SUFFIXES = (".json", ".jsonl", ".ndjson")


class ForwardersUnreadableError(Exception):
    """The location holds no documents, or cannot be read. The text says which and why."""


@dataclass(frozen=True)
class ForwarderSource:
    """The forwarders of one run, for workers to load: location, digest and ids; never the documents.

    ids: of the valid, active forwarders that take part, in the order of the documents.
    """

    location: str
    references: References
    digest: str
    ids: tuple[str, ...]

    def load(self) -> tuple[Forwarder, ...]:
        """The forwarders, references unresolved. Raises ForwardersError."""
        return load_launched(*self._launched())

    def resolve(self) -> tuple[Forwarder, ...]:
        """The forwarders with their secrets, read from this machine. Raises ForwardersError."""
        return load_on_worker(*self._launched())

    def _launched(self) -> tuple[Documents, Rules, str, tuple[str, ...]]:
        # Queries were compiled where the job was launched, and the digest says that these are the same.
        rules = Rules(_leave_query, self.references)
        return _documents(self.location, self.digest), rules, self.digest, self.ids


def read_forwarders(location: str, rules: Rules) -> Forwarders:
    """Every forwarder and every fault in the documents at `location`. Raises ForwardersUnreadableError."""
    return load_forwarders(_documents(location), rules)


_last_remote: dict[str, Documents] = {}


def _documents(location: str, digest: str | None = None) -> Documents:
    """The documents at a location; those with `digest`, if this process has read them, as they were then.

    A service is edited while a run goes on: a process keeps to the snapshot it has of that run.
    """
    if not is_remote(location):
        return read_documents(_files(location))
    known = _last_remote.get(location)
    if known is not None and known.digest == digest:
        return known
    try:
        documents = read_remote(location)
    except ServiceError as error:
        raise ForwardersUnreadableError(f"--forwarders {location} {error}") from None
    _last_remote.clear()
    _last_remote[location] = documents
    return documents


def _leave_query(query: object) -> None:
    """Stands in for `compile_query` where only the forwarders are wanted."""


def launch_rules(references: References, *, trusted: bool, require_organisation: bool) -> Rules:
    """The rules of a launcher: queries are compiled, so that a bad one is a fault."""
    return Rules(compile_query, references, trusted, require_organisation)


def _files(location: str) -> Mapping[str, bytes]:
    try:
        return read_files(location, _SUFFIXES)
    except FileNotFoundError:
        raise ForwardersUnreadableError(f"--forwarders {location}: there is no such file or directory") from None
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise ForwardersUnreadableError(f"--forwarders {location} cannot be read: {error}") from error
