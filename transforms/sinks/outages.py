"""Which reasons of dead letters an outage leaves: the record may be taken when all is well again, as it is.

All others say that the record, or its document, has to change first: a receiver has refused it, it is too large.
"""

from transforms.sinks.base import DEFERRED
from transforms.sinks.http import RETRIED

UNAVAILABLE = "unavailable"
"""The forwarder made no progress for the outage budget, and this is a record of the rest."""

BLOCKED_BY_EARLIER = "blocked_by_earlier"
"""An earlier record of the user was given up."""

SPOOL_FULL = "spool_full"
"""The forwarder was slow or down, and this machine's disk had no room for what it had not taken."""

KEEPS_FAILING = "keeps_failing"
"""The record has failed in run after run though the forwarder takes others: it is not tried again by itself."""

_UNTRIED = frozenset({UNAVAILABLE, BLOCKED_BY_EARLIER, SPOOL_FULL, DEFERRED})

_REASONS = frozenset(
    {
        *_UNTRIED,
        *(f"http_{status}" for status in RETRIED),
        *("timeout", "connection_refused", "unreachable", "connection_failed", "reset", "closed", "dns"),
        *("tls", "tls_handshake", "bad_response"),
        *("connect_timeout", "connection", "connection_cut", "unreadable_answer", "internal_failure", "throttled"),
        "attachment_unreadable",
    }
)
_OF_AWS = "aws_"
"""What the reasons begin with that are errors of Kinesis and Firehose of which nothing more is known."""


def is_of_outage(reason: str) -> bool:
    """Whether a record that was given up for this reason may be taken as it is when all is well again."""
    return reason in _REASONS or reason.startswith(_OF_AWS)


def was_tried(reason: str) -> bool:
    """Whether a reason that an outage leaves is what came of the record's own attempts."""
    return is_of_outage(reason) and reason not in _UNTRIED
