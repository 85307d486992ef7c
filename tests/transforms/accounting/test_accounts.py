import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.settlements import delivered, given_up
from transforms.accounting.accounts import (
    MOMENTS,
    SEEN_LIMIT,
    Account,
    Accounts,
    Latencies,
    Moment,
    SharedAccounts,
    Timeline,
    merge_accounts,
)

COUNT = st.integers(0, 5)
NAME = st.sampled_from(["a", "b", "c"])
MOMENTS_OF = st.lists(st.tuples(st.integers(0, 1 << 20) | st.integers(0, 1 << 42), COUNT, COUNT), max_size=50)
LATENCIES = st.lists(st.integers(-5, 1 << 40), max_size=6)


@st.composite
def some_books(draw: st.DrawFn) -> Accounts:
    books = Accounts()
    for forwarder in draw(st.lists(NAME, max_size=3)):
        account = books.account(forwarder)
        account.matched += draw(COUNT)
        account.delivered += draw(COUNT)
        account.already_delivered += draw(COUNT)
        account.pending += draw(COUNT)
        account.dead_lettered[draw(NAME)] = draw(COUNT)
        account.attempts += draw(COUNT)
        account.calls += draw(COUNT)
        account.hashed_keys += draw(COUNT)
        for latency in draw(LATENCIES):
            account.latencies.add(latency)
        for at, delivered_then, slowest in draw(MOMENTS_OF):
            account.timeline.add(at, Moment(delivered_then, 1, delivered_then + 1, slowest, slowest))
    for organisation in draw(st.lists(st.none() | st.integers(0, 300), max_size=4)):
        books.see(None if organisation is None else str(organisation), draw(st.none() | NAME))
    return books


@given(st.lists(some_books(), max_size=4), st.randoms())
def test_the_order_and_grouping_of_merging_do_not_matter(parts: list[Accounts], rng: Any) -> None:
    whole = merge_accounts(parts).to_json()
    shuffled = [Accounts.from_json(part.to_json()) for part in parts]
    rng.shuffle(shuffled)
    cut = rng.randint(0, len(shuffled))
    assert merge_accounts([merge_accounts(shuffled[:cut]), merge_accounts(shuffled[cut:])]).to_json() == whole


@given(some_books())
def test_books_go_through_json_and_pickle(books: Accounts) -> None:
    assert Accounts.from_json(books.to_json()) == books
    assert pickle.loads(pickle.dumps(books)) == books  # noqa: S301


@given(some_books(), some_books())
def test_merging_leaves_what_is_added_as_it_was(books: Accounts, other: Accounts) -> None:
    before = other.to_json()
    books.merge(other)
    books.account("a").matched += 1
    books.account("a").latencies.add(1)
    books.see("new", None)
    assert other.to_json() == before


def test_settlements_are_counted() -> None:
    books = Accounts()
    books.settle(
        [delivered("1"), given_up("2"), given_up("3", reason="timeout"), given_up("4", "f-2")], 1_700_000_000_250
    )
    account = books.accounts["f-1"]
    assert (account.delivered, account.dead_lettered) == (1, {"http_400": 1, "timeout": 1})
    assert (account.attempts, account.bytes, account.ambiguous, account.dead) == (1 + 3 + 3, 13, 2, 2)
    assert account.latencies.percentile(0.5) == pytest.approx(250, rel=1 / 16)
    assert list(account.timeline.moments.values()) == [Moment(1, 2, 3, 3 * 250, 250)]
    assert not books.balances()
    account.matched = 3
    assert books.unbalanced() == ["f-2"]
    books.account("f-2").matched = 1
    assert books.balances()


def test_an_account_balances_or_not() -> None:
    assert Account().balances()
    account = Account(matched=10, delivered=4, already_delivered=3, dead_lettered={"x": 1, "y": 1}, pending=1)
    assert account.balances()
    account.pending = 0
    assert not account.balances()


@given(st.lists(st.integers(0, 1 << 45), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_percentiles_are_at_most_a_sixteenth_too_high(latencies: list[int], share: float) -> None:
    counted = Latencies()
    for latency in latencies:
        counted.add(latency)
    true = next(value for value in sorted(latencies) if sum(x <= value for x in latencies) >= share * len(latencies))
    found = counted.percentile(share)
    assert found is not None
    assert true <= found <= true + true / 16


def test_percentiles_of_nothing_and_of_the_exact_range() -> None:
    assert Latencies().percentile(0.5) is None
    for value in range(32):
        counted = Latencies()
        counted.add(value)
        assert counted.percentile(0.99) == value
    counted = Latencies()
    counted.add(-3)
    assert counted.percentile(0.5) == 0


def test_what_was_seen_is_bounded() -> None:
    books = Accounts()
    for number in reversed(range(1000)):
        books.see(f"org {number:04}", "store")
    books.see(None, None)
    assert len(books.seen) == SEEN_LIMIT
    assert (None, None) in books.seen
    assert ("org 0000", "store") in books.seen
    assert books.more_seen


def test_a_ledger_is_counted_once_however_often_it_is_taken() -> None:
    ledger = SharedAccounts()
    taken: list[Accounts] = []

    def work() -> None:
        for number in range(200):
            ledger.settle([delivered(str(number))], 1_700_000_000_000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        taken.append(ledger.take())
    for thread in threads:
        thread.join()
    ledger.add(Accounts({"f-1": Account(matched=800)}))
    taken.append(ledger.take())
    assert ledger.take() == Accounts()
    total = merge_accounts(taken)
    assert total.accounts["f-1"].delivered == 800
    assert total.balances()


@given(MOMENTS_OF)
def test_a_timeline_loses_nothing_and_has_no_more_moments_than_it_may(times: list[tuple[int, int, int]]) -> None:
    timeline = Timeline()
    for at, delivered_then, slowest in times:
        timeline.add(at, Moment(delivered_then, 1, delivered_then + 1, slowest, slowest))
    moments = timeline.moments.values()
    assert len(moments) <= MOMENTS
    assert sum(moment.delivered for moment in moments) == sum(delivered_then for _, delivered_then, _ in times)
    assert sum(moment.dead for moment in moments) == len(times)
    assert max((moment.slowest for moment in moments), default=0) == max((slowest for *_, slowest in times), default=0)
    assert set(timeline.moments) == {at // timeline.width for at, *_ in times}
