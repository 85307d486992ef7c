"""Which forwarders are in trouble, by the board, and what the log says when that begins and ends."""

import logging
from collections.abc import Callable, Mapping

from transforms.accounting.board import Failing, Standing
from transforms.accounting.spans import span

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 10
"""Forwarders that the log names when many begin to fail, or are back, at once."""


def in_trouble(standing: Standing) -> bool:
    """Whether a forwarder takes nothing, or had records given up in this run."""
    return standing.failing is not None or standing.unavailable or bool(standing.dead)


def badness(standing: Standing) -> tuple[bool, bool, int, int]:
    """Sorts the worst last: those that fail, or are given up, by what waits or was given up."""
    failing = standing.failing is not None or standing.unavailable
    return failing, bool(standing.dead), standing.waiting, standing.dead_letters


class TroubleLog:
    """Logs once when a forwarder begins to fail, and once when it is back.

    Args:
        name: what the log calls a forwarder, by its id.
    """

    def __init__(self, name: Callable[[str], str] = str) -> None:
        self._name = name
        self._failing: dict[str, Failing] = {}

    def look(self, forwarders: Mapping[str, Standing], now: float) -> None:
        """See who began to fail since the last look, and who is back. `now` is in unix seconds."""
        begun = {
            id_: standing
            for id_, standing in forwarders.items()
            if standing.failing is not None and id_ not in self._failing
        }
        back = [
            id_ for id_ in self._failing if (standing := forwarders.get(id_)) is not None and standing.failing is None
        ]
        for id_, standing in list(begun.items())[:MOST_AT_ONCE]:
            failing = standing.failing
            if failing is not None:
                logger.warning(
                    "forwarder %s: has taken nothing for %s (last: %s); %s of its records wait",
                    self._name(id_),
                    span(now - failing.since),
                    failing.answer or "no answer",
                    f"{standing.waiting + standing.in_flight:,}",
                )
        if len(begun) > MOST_AT_ONCE:
            logger.warning("%s more forwarders have taken nothing", f"{len(begun) - MOST_AT_ONCE:,}")
        for id_ in back[:MOST_AT_ONCE]:
            standing = forwarders[id_]
            logger.warning(
                "forwarder %s: takes records again, after %s; %s of its records waited",
                self._name(id_),
                span(now - self._failing[id_].since),
                f"{standing.waiting + standing.in_flight:,}",
            )
        if len(back) > MOST_AT_ONCE:
            logger.warning("%s more forwarders take records again", f"{len(back) - MOST_AT_ONCE:,}")
        for id_ in back:
            del self._failing[id_]
        for id_, standing in begun.items():
            if standing.failing is not None:
                self._failing[id_] = standing.failing
