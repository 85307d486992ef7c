"""What the log says of each call with `--log_level debug`: no word of a payload or a receiver, and nobody's name."""

import logging
from collections import Counter
from collections.abc import Sequence

from transforms.accounting.words import counted
from transforms.sinks.base import AttemptResult, Item, Verdict

logger = logging.getLogger(__name__)

_WORDS = {
    Verdict.DELIVERED: "delivered",
    Verdict.RETRY: "not taken",
    Verdict.GIVE_UP: "refused",
    Verdict.SPLIT: "to be sent in parts",
}


def log_calls(ended: Sequence[tuple[Item, AttemptResult]]) -> None:
    """Say what came of calls of one record each."""
    if logger.isEnabledFor(logging.DEBUG):
        for item, outcome in ended:
            log_call((item,), (outcome,))


def log_call(items: Sequence[Item], outcomes: Sequence[AttemptResult]) -> None:
    """Say what came of a call: of one record which one and what was answered, of several how many had which answer."""
    if not items or not logger.isEnabledFor(logging.DEBUG):
        return
    if len(items) == 1:
        (item,), (outcome,) = items, outcomes
        logger.debug(
            "forwarder %s: %s %s is %s, try %d",
            item.forwarder_id,
            item.record.kind,
            item.record.id,
            _in_words(outcome),
            item.attempts,
        )
        return
    told = Counter(map(_in_words, outcomes))
    logger.debug(
        "forwarder %s: %s in a call: %s",
        items[0].forwarder_id,
        counted(len(items), "record"),
        ", ".join(f"{count:,} {what}" for what, count in told.most_common()),
    )


def _in_words(outcome: AttemptResult) -> str:
    answer = outcome.reason if outcome.status is None else str(outcome.status)
    return _WORDS[outcome.verdict] + (f" ({answer})" if answer else "")
