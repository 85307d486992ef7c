"""The judge is judged: each kind of wrong is found, and nothing else."""

import pytest

from tests.support.laboratory.checker import End, Findings, check_ends

DUE = [("ann", "a1"), ("bob", "b1"), ("ann", "a2"), ("ann", "a3")]
DELIVERED = [End(id_, True, False) for _, id_ in DUE]
IN_ORDER = ["b1", "a1", "a2", "a3"]


def judged(arrivals: list[str], ends: list[End] = DELIVERED, in_doubt: str = "") -> Findings:
    return check_ends(DUE, arrivals, ends, {in_doubt: True})


def but(given_up: End) -> list[End]:
    return [given_up if end.id == given_up.id else end for end in DELIVERED]


def test_what_is_right() -> None:
    judged(IN_ORDER).assert_clean()
    assert judged(IN_ORDER).is_clean


@pytest.mark.parametrize(
    ("findings", "kind", "ids"),
    [
        (judged(["b1", "a1", "a3"]), "lost", ["a2"]),
        (judged(["b1", "a1", "a3", "a2"]), "inverted", ["a2"]),
        (judged(["b1", "a1", "a1", "a2", "a3"]), "unexplained", ["a1"]),
        (judged([*IN_ORDER, "x"]), "unknown", ["x"]),
        (judged(IN_ORDER, DELIVERED[:-1]), "never_settled", ["a3"]),
        (judged(IN_ORDER, [*DELIVERED, DELIVERED[0]]), "settled_twice", ["a1"]),
    ],
)
def test_what_is_wrong_is_found(findings: Findings, kind: str, ids: list[str]) -> None:
    assert getattr(findings, kind) == ids
    assert not findings.is_clean
    with pytest.raises(AssertionError):
        findings.assert_clean()


def test_a_duplicate_after_an_ambiguous_answer_is_explained() -> None:
    findings = judged(["b1", "a1", "a1", "a2", "a3"], in_doubt="a1")
    findings.assert_clean()
    assert findings.duplicated == ["a1"]


def test_order_is_judged_on_first_arrivals() -> None:
    judged(["b1", "a1", "a2", "a1", "a3"], in_doubt="a1").assert_clean()


def test_a_record_given_up_in_doubt_may_arrive_out_of_order_and_is_listed() -> None:
    findings = judged(["b1", "a2", "a1", "a3"], but(End("a1", False, True)))
    findings.assert_clean()
    assert findings.exempt == ["a1"]
    assert judged(["b1", "a2", "a1", "a3"], but(End("a1", False, False))).inverted == ["a1"]
