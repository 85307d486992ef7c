"""Waiting for something that is to happen, instead of for a time that is thought to do."""

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object],
    seconds: float = 120.0,
    *,
    every: float = 0.002,
    failing: Callable[[], object] = str,
) -> None:
    """Returns once the condition holds; it is asked every few milliseconds.

    Raises AssertionError after so many seconds, with what `failing` gives then. They are many, since nobody waits for
    them where all is well, and on a busy machine a process takes half a minute to start.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {failing()}"
        time.sleep(every)


def until_still(value: Callable[[], object], quiet: float = 0.05) -> None:
    """Returns once the value has stayed as it is for `quiet` seconds: whoever changes it has come to a halt."""
    last, since = value(), time.monotonic()
    while time.monotonic() < since + quiet:
        time.sleep(0.002)
        if (now := value()) != last:
            last, since = now, time.monotonic()
