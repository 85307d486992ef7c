"""The open dead letters that the next run begins with, and the copy of them that runs hand on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.settlements import documented_record
from transforms.receipts.history import History
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.journal import Journal
from transforms.receipts.outage_letters import KEPT, OutageLetters
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict
from transforms.sinks.outages import is_of_outage


@dataclass
class Runs:
    """Runs on one output, which settle and look what is open."""

    output: Path
    number: int = 0

    def id(self) -> str:
        return f"r{self.number:06}-20260101T000000Z-abcdef"

    def settle(self, **reasons: str) -> None:
        """A run that gives records up, each for its reason; an empty reason: delivered. All are of one user."""
        self.number += 1
        journal = Journal(str(self.output), self.id(), "w", durability="none")
        for name, reason in reasons.items():
            record = documented_record(name, timestamp=ord(name))
            verdict = Verdict.GIVE_UP if reason else Verdict.DELIVERED
            journal.settle([Settlement(Item("f", record, record.body, "record"), AttemptResult(verdict, reason))])
        journal.close()

    def open(self, committed: int | None = None, *, block_user: bool = False, looks_only: bool = False) -> str:
        """The names of the records whose letters the next run tries again, in order; it ends at once."""
        self.number += 1
        catch_up = OutageLetters(self.number - 1 if committed is None else committed, block_user, looks_only)
        index = index_history(str(self.output), self.id(), catch_up=catch_up)
        names = {documented_record(name).id: name for name in "abcdefg"}
        found = "".join(names[letter.id] for letter in History(index).undelivered_dead_letters())
        remove_index(index)
        return found

    def kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.output / KEPT).glob("*")}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "out")


def test_what_an_outage_left_is_open_until_it_is_delivered_or_refused(runs: Runs) -> None:
    assert runs.open() == ""
    runs.settle(a="timeout", b="http_400", c="http_503", d="", e="aws_odd")
    assert runs.open() == "ace"
    runs.settle(f="unavailable")
    assert runs.open() == "acef"
    runs.settle(a="", c="http_422")
    assert runs.open() == "ef"
    runs.settle(e="", f="")
    assert runs.open() == ""
    assert list(runs.kept()) == ["current.json"]


def test_letters_of_a_run_that_has_not_ended_are_derived_again_instead(runs: Runs) -> None:
    runs.settle(a="timeout")
    runs.settle(b="timeout")
    assert runs.open(committed=0) == ""
    assert runs.open(committed=1) == "a"
    # The first letter counts: the record was derived by a run that has ended.
    runs.settle(a="http_500")
    assert runs.open(committed=1) == "a"
    assert runs.open() == "ab"


def test_with_block_user_what_waits_for_a_refused_record_goes_on_waiting(runs: Runs) -> None:
    runs.settle(a="http_400", b="blocked_by_earlier")
    runs.settle(c="timeout")
    for _ in range(2):
        assert runs.open(block_user=True) == "c"
        assert runs.open() == "bc"
    runs.settle(a="")
    assert runs.open(block_user=True) == "bc"


def test_with_block_user_a_record_that_is_refused_after_an_outage_holds_up_what_waited_behind_it(runs: Runs) -> None:
    runs.settle(a="unavailable", b="unavailable", c="http_503")
    assert runs.open(block_user=True) == "abc"
    runs.settle(a="", b="http_422")
    runs.settle(d="unavailable")
    for _ in range(2):
        assert runs.open(block_user=True) == "d", "what is of a later run was sent in spite of it"
        assert runs.open() == "cd"
    runs.settle(b="")
    assert runs.open(block_user=True) == "cd"


def _cut(data: bytes) -> bytes:
    return data[:-1]


def _zeros(data: bytes) -> bytes:
    return bytes(len(data))


def _long_frame(data: bytes) -> bytes:
    return b"\xff\xff\xff\x7f" + data[4:]


@pytest.mark.parametrize("spoil", [_cut, _zeros, _long_frame], ids=["cut", "zeros", "a length"])
@pytest.mark.parametrize("which", ["current.json", "letters"])
def test_a_copy_that_is_spoilt_is_made_anew(runs: Runs, which: str, spoil: Callable[[bytes], bytes]) -> None:
    runs.settle(a="timeout", b="timeout", c="timeout")
    assert runs.open() == "abc"
    (name,) = [name for name in runs.kept() if (name == "current.json") == (which == "current.json")]
    path = runs.output / KEPT / name
    path.write_bytes(spoil(path.read_bytes()))
    runs.settle(b="")
    assert runs.open() == "ac"
    assert runs.open() == "ac"


def test_letters_whose_files_are_taken_away_are_gone_and_come_back_with_them(runs: Runs) -> None:
    runs.settle(a="timeout")
    runs.settle(b="timeout")
    assert runs.open() == "ab"
    (part,) = (runs.output / "dead_letters").glob("r000001-*")
    away = part.rename(runs.output / part.name)
    assert runs.open() == "b"
    away.rename(part)
    assert runs.open() == "ab"


@pytest.mark.parametrize("damage", ["zeros", "cut"])
def test_letters_of_a_file_that_was_damaged_come_back_when_it_is_restored(runs: Runs, damage: str) -> None:
    runs.settle(a="timeout", b="timeout")
    runs.settle(c="timeout")
    (part,) = (runs.output / "dead_letters").glob("r000001-*")
    content = part.read_bytes()
    part.write_bytes(content[:-200] + (bytes(100) + content[-100:] if damage == "zeros" else b""))
    assert runs.open() == "ac"
    part.write_bytes(content)
    assert runs.open() == "abc"
    runs.settle(d="timeout")
    assert runs.open() == "abcd"


def test_a_look_leaves_the_copy_as_it_is(runs: Runs) -> None:
    runs.settle(a="timeout")
    assert runs.open() == "a"
    before = runs.kept()
    runs.settle(b="timeout")
    assert runs.open(looks_only=True) == "ab"
    assert runs.kept() == before


def test_an_output_whose_runs_are_numbered_anew_is_read_anew(runs: Runs) -> None:
    runs.number = 40
    runs.settle(a="timeout")
    assert runs.open() == "a"
    for part in runs.output.glob("*/*.avro"):
        part.unlink()
    runs.number = 0
    runs.settle(b="timeout")
    assert runs.open() == "b"


@pytest.mark.parametrize(
    ("reason", "of_outage"),
    [
        *((reason, True) for reason in ("unavailable", "http_429", "http_502", "timeout", "dns", "tls", "aws_x")),
        *((reason, False) for reason in ("http_400", "http_401", "http_413", "http_501", "oversize", "undecided")),
        *((reason, False) for reason in ("conflict", "address_refused", "attachment_missing", "internal_error")),
    ],
)
def test_which_reasons_an_outage_leaves(reason: str, of_outage: bool) -> None:
    assert is_of_outage(reason) is of_outage
