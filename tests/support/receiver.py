"""A willing HTTP receiver for whole jobs, in a thread of its own."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

from tests.support.laboratory.http_fault_server import FaultServer, Script, in_thread, scripted


class Receiver(FaultServer):
    """An HTTP receiver that takes everything; give it another `script` to make it less willing."""

    def __init__(self) -> None:
        self.script: Script = scripted()
        super().__init__(lambda arrival: self.script(arrival))

    def url(self, path: str) -> str:
        """As a forwarder document has it, without a scheme."""
        return f"127.0.0.1:{self.port}/{path}"

    def wait_for(self, count: int, within: float = 120) -> None:
        """Wait until so many requests have arrived; raises TimeoutError if they do not within so many seconds."""
        asyncio.run_coroutine_threadsafe(self.arrivals(count), self._loop).result(within)

    def stored(self) -> list[tuple[str, str]]:
        """(user, id) of what the receiver kept, in the order of arrival."""
        return [(arrival.user, arrival.key) for arrival in self.log if arrival.stored]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with in_thread(server):
        yield server


def by_user(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for user, identifier in pairs:
        found[user].append(identifier)
    return found
