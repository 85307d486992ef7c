"""Which forwarders are in trouble, by the board, and what the log says when that begins and ends."""

import logging
from collections.abc import Mapping, Sequence

from transforms.accounting.board import Standing
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
    """Logs once when a forwarder begins to fail, once when its outage budget is over, and once when it is back.

    It looks at a board now and then. What begins and ends between two looks is no news.
    """

    def __init__(self) -> None:
        # Of which forwarders the log has said so: since when they fail, in unix seconds.
        self._failing: dict[str, float] = {}
        self._unavailable: set[str] = set()

    def look(self, forwarders: Mapping[str, Standing], now: float) -> None:
        """Say what has changed since the last look.

        Args:
            forwarders: how each one stands, by id.
            now: unix seconds.
        """
        self._tell_begun(forwarders, now)
        self._tell_unavailable(forwarders)
        self._tell_back(forwarders, now)

    def _tell_begun(self, forwarders: Mapping[str, Standing], now: float) -> None:
        begun = {
            id_: (standing, standing.failing)
            for id_, standing in forwarders.items()
            if standing.failing is not None and id_ not in self._failing
        }
        for id_, (standing, failing) in list(begun.items())[:MOST_AT_ONCE]:
            logger.warning(
                "forwarder %s: has taken nothing for %s (last: %s); %s of its records wait",
                id_,
                span(now - failing.since),
                failing.answer or "no answer",
                f"{standing.waiting + standing.in_flight:,}",
            )
        _tell_others(list(begun), "have taken nothing")
        self._failing |= {id_: failing.since for id_, (_, failing) in begun.items()}

    def _tell_unavailable(self, forwarders: Mapping[str, Standing]) -> None:
        given_up = [id_ for id_, each in forwarders.items() if each.unavailable and id_ not in self._unavailable]
        for id_ in given_up[:MOST_AT_ONCE]:
            logger.warning(
                "forwarder %s: no progress for the outage budget (last: %s); its records are given up as unavailable",
                id_,
                forwarders[id_].last_answer or "no answer",
            )
        _tell_others(given_up, "have made no progress for the outage budget")
        self._unavailable |= set(given_up)

    def _tell_back(self, forwarders: Mapping[str, Standing], now: float) -> None:
        back = [id_ for id_ in self._failing if self._is_back(id_, forwarders.get(id_))]
        for id_ in back[:MOST_AT_ONCE]:
            standing = forwarders[id_]
            logger.warning(
                "forwarder %s: takes records again, after %s; %s of its records waited",
                id_,
                span(now - self._failing[id_]),
                f"{standing.waiting + standing.in_flight:,}",
            )
        _tell_others(back, "take records again")
        for id_ in back:
            del self._failing[id_]
        self._unavailable.difference_update(back)

    def _is_back(self, id_: str, standing: Standing | None) -> bool:
        """Whether it has taken a record since it began to fail. That a worker has ended says nothing of it."""
        if standing is None or standing.failing is not None or standing.unavailable:
            return False
        return standing.last_success is not None and standing.last_success >= self._failing[id_]


def _tell_others(ids: Sequence[str], what: str) -> None:
    """Say how many there are that were not named."""
    if len(ids) > MOST_AT_ONCE:
        logger.warning("%s more forwarders %s", f"{len(ids) - MOST_AT_ONCE:,}", what)
