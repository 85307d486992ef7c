"""Learning Locker replaced in place: what is due, what is found out, and a whole run on a real server."""

from pathlib import Path

import pytest

from local import learninglocker
from local.examples import Json
from local.ferretdb import binary
from local.learninglocker import check
from local.receiver import Attempt
from local.statements import FORWARDERS, LockerForwarder, content, documents, due_to, original

Documents = list[Json]


@pytest.fixture(scope="module")
def made() -> Documents:
    return documents(2_000, seed=1)


def arrivals(forwarder: LockerForwarder, made: Documents) -> list[Attempt]:
    """All that is due, as it should come."""
    statements: dict[str, Json] = {content(statement): statement for statement in map(original, made)}
    return [
        Attempt(f"/{forwarder.name}", statements[due.content]["id"], due.content.encode(), {}, 200, None, True, 0.0)
        for due in due_to(forwarder, made)
    ]


@pytest.mark.parametrize("forwarder", FORWARDERS, ids=lambda forwarder: forwarder.name)
def test_each_forwarder_is_due_some_statements_and_not_others(forwarder: LockerForwarder, made: Documents) -> None:
    came = arrivals(forwarder, made)
    assert 10 < len(came) < 0.6 * len(made)
    assert check(forwarder, made, came).arrived_as_due


def test_what_is_wrong_is_found_out(made: Documents) -> None:
    forwarder = FORWARDERS[0]
    came = arrivals(forwarder, made)
    assert check(forwarder, made, came[1:]).missing == 1
    assert check(forwarder, made, [*came, came[5]]).duplicates == 1
    assert check(forwarder, made, list(reversed(came))).out_of_order
    other = Attempt(came[0].path, came[0].key, came[0].body.replace(b"1.5", b"2.5"), {}, 200, None, True, 0.0)
    finding = check(forwarder, made, [other, *came[1:]])
    assert (finding.missing, finding.unexpected) == (1, 1)


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not binary().is_file():
        pytest.skip(f"{binary()} is absent: python -m local.ferretdb makes it")
    assert learninglocker.run(tmp_path, 400, 7) == 0
    shown = capsys.readouterr().out
    assert shown.count("as due") == len(FORWARDERS) + 1
    assert "x 503" in shown
