"""Some of the real statements; `python -m tests.lrs.real_data` forwards all of them."""

from pathlib import Path

import pytest

from tests.lrs.real_data import by_verb, forward, real_statements, verb_queries
from tests.support.lrs_server import running
from tests.support.paths import needs_shared


@pytest.mark.long
@needs_shared
def test_real_statements_reach_a_real_lrs_as_they_are_each_by_the_forwarder_of_its_verb(tmp_path: Path) -> None:
    sent = real_statements(most=150)
    (tmp_path / "job").mkdir()
    with running(tmp_path / "lrs", indexed=True) as lrs:
        outcome = forward(tmp_path / "job", lrs, sent, verb_queries(sent))
    assert outcome.matched == dict(by_verb(sent.values()))
    assert outcome.lost() == set()
    assert outcome.changed() == []
    assert len(outcome.held) + len(outcome.refused) == len(sent)
    assert len(outcome.held) > len(sent) // 2
