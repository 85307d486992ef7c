"""The lane's spool and parking in memory: what the ones on disk must behave like."""

from collections import deque
from collections.abc import Sequence

from transforms.sinks.base import Item


class MemorySpool:
    """`limit`: items that it has room for; None for no limit."""

    def __init__(self, chunk: int = 3, limit: int | None = None) -> None:
        self._items: deque[Item] = deque()
        self._chunk = chunk
        self._limit = limit

    def append(self, items: Sequence[Item]) -> int:
        taken = items if self._limit is None else items[: max(0, self._limit - len(self._items))]
        self._items.extend(taken)
        return len(taken)

    def take(self) -> list[Item]:
        return [self._items.popleft() for _ in range(min(self._chunk, len(self._items)))]

    def __len__(self) -> int:
        return len(self._items)


class MemoryParking:
    """`limit`: items that it has room for; None for no limit."""

    def __init__(self, chunk: int = 2, limit: int | None = None) -> None:
        self._users: dict[str, deque[Item]] = {}
        self._chunk = chunk
        self._limit = limit

    def put(self, user_id: str, item: Item) -> bool:
        if self._limit is not None and len(self) >= self._limit:
            return False
        self._users.setdefault(user_id, deque()).append(item)
        return True

    def take(self, user_id: str) -> list[Item]:
        queue = self._users[user_id]
        items = [queue.popleft() for _ in range(min(self._chunk, len(queue)))]
        if not queue:
            del self._users[user_id]
        return items

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._users

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))
