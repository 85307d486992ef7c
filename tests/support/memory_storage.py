"""A storage in memory: what every implementation of `transforms.storage.Storage` does, and no disk."""

import io
import threading
from collections.abc import Callable, Iterable
from typing import BinaryIO


class MemoryStorage:
    """`before_write` is called with each name that is about to be written, and may raise.

    `clock` is the store's own, in epoch seconds. Without one nobody knows when a file was written.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.written: dict[str, float] = {}
        self.root = "memory://out"
        self.files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.before_write: Callable[[str], None] = lambda name: None

    def directories(self, directory: str) -> list[str]:
        with self.lock:
            inside = (name.removeprefix(directory + "/") for name in self.files if name.startswith(directory + "/"))
            return sorted({name.partition("/")[0] for name in inside if "/" in name})

    def list(self, directory: str) -> list[str]:
        with self.lock:
            inside = (name.removeprefix(directory + "/") for name in self.files if name.startswith(directory + "/"))
            return sorted(name for name in inside if "/" not in name)

    def modified(self, directory: str) -> dict[str, float]:
        return {name: self.written.get(f"{directory}/{name}", 0.0) for name in self.list(directory)}

    def sizes(self, directory: str) -> dict[str, int]:
        return {name: len(self.files[f"{directory}/{name}"]) for name in self.list(directory)}

    def sync(self, directory: str, names: Iterable[str]) -> None:
        """Nothing to do."""

    def open(self, name: str) -> BinaryIO:
        with self.lock:
            if name not in self.files:
                raise FileNotFoundError(name)
            return io.BytesIO(self.files[name])

    def write(self, name: str, pieces: Iterable[bytes], *, durable: bool = True) -> None:
        data = b"".join(pieces)
        self.before_write(name)
        with self.lock:
            self.files[name] = data
            self.written[name] = self.clock()

    def keep_time(self, name: str, modified: float) -> None:
        """Nothing to do."""

    def remove(self, name: str) -> None:
        with self.lock:
            self.files.pop(name, None)

    def remove_each(self, names: Iterable[str]) -> None:
        for name in names:
            self.remove(name)

    def remove_all(self, directory: str) -> None:
        with self.lock:
            for known in [name for name in self.files if name.startswith(directory + "/")]:
                del self.files[known]
