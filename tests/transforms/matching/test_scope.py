"""Scope: matching, explaining and `out_of_scope` judge alike (docs/spec/forwarders.md section 1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Record
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.matching.explanation import explain
from transforms.matching.matcher import Matcher
from transforms.matching.scope import Tenant, out_of_scope
from transforms.matching.statement import StatementBuilder

ANYONE = st.none() | st.sampled_from(["", "a", "b"])


def forwarder(organisation: str | None, lrs_id: str | None) -> Forwarder:
    return Forwarder("f", organisation, lrs_id, None, "record", 0, KinesisTarget("streams", "s"))


def record(organisation: str | None, lrs_id: str | None) -> Record:
    message = {"event": "session-started", "session_id": "s", "activity_id": "a", "user_id": "u"}
    return Record("r", "event", organisation, lrs_id, "u", 0, "1", 0, message, b"", {})


@given(ANYONE, ANYONE, ANYONE, ANYONE)
def test_matching_and_explaining_agree_on_the_scope(
    organisation: str | None, lrs_id: str | None, of_record: str | None, store: str | None
) -> None:
    one, due = forwarder(organisation, lrs_id), record(of_record, store)
    reason = out_of_scope(due, one)
    assert (reason is None) == (organisation in (None, of_record) and lrs_id in (None, store))
    assert (Matcher([one], StatementBuilder()).match(due) is not None) == (reason is None)
    _, line = explain(due, (one,), StatementBuilder())
    assert line == f"  f: {reason}" or reason is None
    assert out_of_scope(Tenant(of_record, store), one) == reason


@pytest.mark.parametrize(
    ("organisation", "lrs_id", "reason"),
    [
        ("o", None, None),
        ("other", None, "not in scope: organisation is 'o', the forwarder's is 'other'"),
        (None, "l", "not in scope: lrs_id is None, the forwarder's is 'l'"),
    ],
)
def test_the_reason_names_the_field_and_both_values(
    organisation: str | None, lrs_id: str | None, reason: str | None
) -> None:
    assert out_of_scope(record("o", None), forwarder(organisation, lrs_id)) == reason
