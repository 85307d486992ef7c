"""Which letters are counted as failing though their forwarder takes others, and when they are set aside."""

import pytest

from tests.support.records import item
from transforms.accounting.accounts import Accounts
from transforms.delivery.failing_letters import SET_ASIDE_AFTER, FailingLetters
from transforms.sinks.base import AttemptResult, Settlement, Verdict


def letter(reason: str = "http_500", failed_runs: int = 0, response: str | None = None) -> Settlement:
    of_letter = item("odd", 0)
    of_letter.is_letter, of_letter.failed_runs = True, failed_runs
    return Settlement(of_letter, AttemptResult(Verdict.GIVE_UP, reason, 500, response))


def new(reason: str, number: int) -> Settlement:
    verdict = Verdict.GIVE_UP if reason else Verdict.DELIVERED
    return Settlement(item(f"user-{number}", 0), AttemptResult(verdict, reason))


def written(*settlements: Settlement) -> list[tuple[int, str, str | None]]:
    """What is written anew: runs, reason and response."""
    failing, books = FailingLetters(), Accounts()
    failing.note(settlements)
    books.settle(settlements, 0)
    found = [(now.item.failed_runs, now.outcome.reason, now.outcome.response) for _, now in failing.take(books)]
    assert failing.take(books) == []
    return found


@pytest.mark.parametrize(
    ("others", "counts"),
    [
        ([], False),
        (["", ""], True),
        ([""], True),
        (["", "http_503"], False),
        (["", "unavailable"], False),
        (["", "http_400", "blocked_by_earlier", "blocked_by_earlier"], True),
    ],
)
def test_a_letter_counts_as_failing_if_its_forwarder_takes_as_many_as_it_fails(others: list[str], counts: bool) -> None:
    found = written(letter(), *(new(reason, number) for number, reason in enumerate(others)))
    assert found == ([(1, "http_500", None)] if counts else [])


@pytest.mark.parametrize("reason", ["unavailable", "blocked_by_earlier", "spool_full", "http_400"])
def test_what_was_not_tried_or_is_refused_does_not_count(reason: str) -> None:
    assert written(letter(reason), *(new("", number) for number in range(5))) == []
    assert written(new("http_500", 9), *(new("", number) for number in range(5))) == [], "it is no letter"


def test_after_some_runs_it_is_set_aside() -> None:
    others = [new("", number) for number in range(3)]
    assert written(letter(failed_runs=SET_ASIDE_AFTER - 2), *others) == [(SET_ASIDE_AFTER - 1, "http_500", None)]
    ((runs, reason, response),) = written(letter("timeout", SET_ASIDE_AFTER - 1, "late"), *others)
    assert (runs, reason, response) == (SET_ASIDE_AFTER, "keeps_failing", f"timeout in {SET_ASIDE_AFTER} runs: late")


def test_what_is_kept_of_a_run_is_bounded() -> None:
    many = [letter() for _ in range(5_000)]
    assert len(written(*many, *(new("", number) for number in range(6_000)))) == 1_000
