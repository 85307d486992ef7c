"""How many sessions a state would forget: a count of them by when something arrived last.

`current.json` has it for each part of the state. So a run knows what its clock would make it forget before it reads a
part, and before it sends anything.
"""

from collections.abc import Iterable, Mapping

Arrivals = tuple[tuple[int, int], ...]
"""(epoch ms, how many sessions), sorted. All that arrived in one run has one time."""

GROUPS = 64
"""Times that are told apart in a part, at most. If there are more, those that are near each other are put together."""


def counted(sessions: Mapping[int, int], groups: int = GROUPS) -> Arrivals:
    """The counts of a part.

    Args:
        sessions: how many sessions have which latest arrival (epoch ms).
        groups: see GROUPS.

    Returns:
        At most `groups` counts. Those of times that were put together count as of the latest of these.
    """
    if len(sessions) <= groups:
        return tuple(sorted(sessions.items()))
    first = min(sessions)
    width = (max(sessions) - first) // groups + 1
    together: dict[int, tuple[int, int]] = {}
    for arrived, count in sorted(sessions.items()):
        group = (arrived - first) // width
        together[group] = (arrived, together.get(group, (0, 0))[1] + count)
    return tuple(together.values())


def arrived_since(parts: Iterable[Arrivals], since: int) -> int:
    """How many sessions there are of which something arrived at `since` (epoch ms) or later."""
    return sum(count for part in parts for arrived, count in part if arrived >= since)
