"""Where forwarder documents lie, and how launcher and workers read them. No document is in the job graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.forwarders import Forwarder, Forwarders, Rules, load_forwarders, read_documents, resolve
from transforms.query import compile_query
from transforms.secrets import References

_SUFFIXES = (".json", ".jsonl", ".ndjson")


class ForwardersUnreadableError(Exception):
    """The location holds no documents, or cannot be read. The text says which and why."""


class ForwardersChangedError(RuntimeError):
    """The documents on a worker are not those the job was launched with, or their secrets are not there."""


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
        """The forwarders, references unresolved. Raises ForwardersChangedError."""
        # Queries were compiled where the job was launched, and the digest says that these are the same.
        found = load_forwarders(read_documents(_files(self.location)), Rules(_leave_query, self.references))
        if found.digest != self.digest:
            raise ForwardersChangedError(
                f"{self.location} is not what it was when the job was launched: run the job again"
            )
        by_id = {forwarder.id: forwarder for forwarder in found.forwarders}
        return tuple(by_id[forwarder_id] for forwarder_id in self.ids)

    def resolve(self) -> tuple[Forwarder, ...]:
        """The forwarders with their secrets, read from this machine. Raises ForwardersChangedError."""
        resolution = resolve(self.load(), self.references)
        if resolution.faults:
            raise ForwardersChangedError("; ".join(str(fault) for fault in resolution.faults))
        return resolution.forwarders

    def only(self, ids: Iterable[str]) -> "ForwarderSource":
        """The same source, for those of `ids` that are in it."""
        wanted = set(ids)
        return replace(self, ids=tuple(forwarder_id for forwarder_id in self.ids if forwarder_id in wanted))


def read_forwarders(location: str, rules: Rules) -> Forwarders:
    """Every forwarder and every fault in the documents at `location`. Raises ForwardersUnreadableError."""
    return load_forwarders(read_documents(_files(location)), rules)


def _leave_query(query: object) -> None:
    """Stands in for `compile_query` where only the forwarders are wanted."""


def rules(references: References, *, trusted: bool, require_organisation: bool) -> Rules:
    """The rules of a launcher: queries are compiled, so that a bad one is a fault."""
    return Rules(compile_query, references, trusted, require_organisation)


def _files(location: str) -> Mapping[str, bytes]:
    try:
        inside = FileSystems.match([FileSystems.join(location, "*")])[0].metadata_list
        paths = [found.path for found in inside if found.path.endswith(_SUFFIXES)]
        if not paths and not FileSystems.exists(location):
            raise ForwardersUnreadableError(f"--forwarders {location}: there is no such file or directory")
        return {path: _content(path) for path in paths or [location]}
    except ForwardersUnreadableError:
        raise
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise ForwardersUnreadableError(f"--forwarders {location} cannot be read: {error}") from error


def _content(path: str) -> bytes:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        content: bytes = file.read()
        return content
