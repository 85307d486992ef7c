"""Which dead letters are sent again."""

from dataclasses import replace
from typing import Any

import pytest

from schemas import DeadLetter
from schemas.record import encode_record
from tests.support.forwarders import http_forwarder
from tests.support.settlements import documented_record
from transforms.forwarders import Forwarder
from transforms.matching.statement import StatementBuilder
from transforms.receipts.letters import NOT_SELECTED, PresentDocuments, decide
from transforms.receipts.settlement_filter import SettlementFilter

FORWARDER = http_forwarder()


def letter(name: str, reason: str = "http_503", *, at: int = 0, user: str = "u", **given: Any) -> DeadLetter:
    record = documented_record(name, user=user)
    fields = {"forwarder_id": "f", "kind": "event", "run_id": "r", "attempts": 1, "payload_kind": "record"}
    return DeadLetter(
        id=record.id,
        user_id=user,
        outcome="dead_lettered",
        settled_at=at,
        reason=reason,
        record=encode_record(record),
        **(fields | given),  # type: ignore[arg-type]
    )


def decided(
    letters: list[DeadLetter], forwarder: Forwarder = FORWARDER, *, block_user: bool = False, **chosen: Any
) -> list[str]:
    """What becomes of each letter: why it stays, or `sent`, or `ahead` of one that stays."""
    documents = PresentDocuments([forwarder], StatementBuilder())
    decisions = decide(letters, documents, SettlementFilter(**chosen), block_user=block_user)
    return [each.kept or ("ahead" if each.ahead else "sent") for each in decisions]


LETTERS = [letter("1", "http_400", at=10), letter("2", at=20), letter("3", "timeout", at=30)]


@pytest.mark.parametrize(
    ("chosen", "becomes"),
    [
        ({}, ["sent", "sent", "sent"]),
        ({"reasons": ("http_503", "timeout")}, [NOT_SELECTED, "ahead", "ahead"]),
        ({"reasons": ("http_400",)}, ["sent", NOT_SELECTED, NOT_SELECTED]),
        ({"record_ids": (LETTERS[1].id,)}, [NOT_SELECTED, "ahead", NOT_SELECTED]),
        ({"since": 20}, [NOT_SELECTED, "ahead", "ahead"]),
        ({"until": 20}, ["sent", NOT_SELECTED, NOT_SELECTED]),
        ({"since": 20, "until": 21}, [NOT_SELECTED, "ahead", NOT_SELECTED]),
        ({"kinds": ("score",)}, [NOT_SELECTED] * 3),
        ({"forwarders": ("f",)}, ["sent", "sent", "sent"]),
        ({"forwarders": ("g",)}, []),
    ],
)
def test_a_filter_chooses_and_what_passes_an_earlier_letter_is_marked(
    chosen: dict[str, Any], becomes: list[str]
) -> None:
    assert decided(LETTERS, **chosen) == becomes


def test_with_block_user_nothing_passes_a_letter_that_stays_and_other_users_do_not_wait() -> None:
    letters = [*LETTERS, letter("4", user="v")]
    blocked = "blocked_by_earlier"
    assert decided(letters, block_user=True, reasons=("http_503", "timeout")) == [
        NOT_SELECTED,
        blocked,
        blocked,
        "sent",
    ]
    assert decided(letters, block_user=True) == ["sent"] * 4


def test_what_is_due_to_nobody_stays_and_holds_nobody_up() -> None:
    letters = [letter("1", forwarder_id="removed"), LETTERS[1]]
    assert decided(letters, block_user=True) == ["no_active_forwarder", "sent"]
    elsewhere, other = replace(FORWARDER, organisation="another"), replace(FORWARDER, query='{"kind": "score"}')
    assert decided(LETTERS, elsewhere, block_user=True) == ["out_of_scope"] * 3
    assert decided(LETTERS, other, block_user=True) == ["no_longer_matches"] * 3
