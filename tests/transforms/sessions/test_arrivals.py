"""How many sessions a state would forget."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from transforms.sessions.arrivals import arrived_since, counted

SESSIONS = st.lists(st.integers(0, 300), max_size=60).map(Counter)


@given(SESSIONS, st.integers(1, 8), st.integers(-1, 301))
def test_few_counts_tell_what_is_kept_and_never_too_little(sessions: Counter[int], groups: int, since: int) -> None:
    """Times that are put together count as of the latest: no run stops for what it would not forget."""
    counts = counted(sessions, groups)
    exact = sum(count for arrived, count in sessions.items() if arrived >= since)
    assert len(counts) <= groups or len(sessions) <= groups
    assert sorted(counts) == list(counts)
    assert {arrived for arrived, _ in counts} <= sessions.keys()
    assert arrived_since([counts], -1) == sessions.total()
    assert arrived_since([counts], since) >= exact
    if len(sessions) <= groups:
        assert arrived_since([counts], since) == exact


def test_all_parts_count() -> None:
    assert arrived_since([((1, 2), (5, 3)), (), ((4, 1),)], 4) == 4
