"""What is found wrong with one forwarder document while it is read, and words for it."""

import difflib
import json
from collections.abc import Iterable

from transforms.forwarders.model import Fault


class Findings:
    """Faults and warnings of one document, in the order in which they were found.

    Args:
        forwarder_id: the document's id; None if it has no usable one.
        where: the document's place in its source.
    """

    def __init__(self, forwarder_id: str | None, where: str) -> None:
        self.forwarder_id = forwarder_id
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self._where = where
        self._faulty: set[str] = set()

    def fault(self, path: str, message: str) -> None:
        """Note that the field at `path` breaks a rule. The message says which one, and holds no secret."""
        self.faults.append(self.about(path, message))
        self._faulty.add(path)

    def warn(self, path: str, message: str) -> None:
        """Note that what stands at `path` is probably not meant."""
        self.warnings.append(self.about(path, message))

    def is_faulty(self, path: str) -> bool:
        """Whether a fault of the field at `path` was noted already."""
        return path in self._faulty

    def about(self, path: str, message: str) -> Fault:
        """A message about the field at `path`, which is not noted."""
        # A path holds names from the document: a line break in one must not forge a line of a log.
        return Fault(self.forwarder_id, self._where, path if path.isprintable() else ascii(path), message)


def shown(value: object, most: int = 60) -> str:
    """A value that is no secret, for a message: as JSON, cut when it has more than `most` characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the known name it is most like, if there is one."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
