"""Books that are open before the first record is sent, and that are where they are looked for."""

import shutil
from pathlib import Path

import pytest

from tests.support.avro_parts import read_parts
from tests.support.limits import no_descriptors
from tests.support.settlements import delivered, given_up
from transforms.receipts.journal import Journal, JournalError


def test_open_books_without_rows_leave_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.open()
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".journal"] * 2
    journal.settle([delivered("1")])
    journal.close()
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.*")] == ["receipts"]


def test_books_that_are_open_need_no_descriptor_more(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    with no_descriptors(), pytest.raises(JournalError, match=r"Too many open files; allow .*\(`ulimit -n`\)"):
        journal.open()
    journal.open()
    with no_descriptors():
        journal.settle([delivered("1"), given_up("2")])
    journal.close()
    assert len(read_parts(tmp_path / "receipts")) == 2
    assert len(read_parts(tmp_path / "dead_letters")) == 1


def test_a_receipt_in_a_file_that_nobody_can_find_is_none(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1")])
    journal.check()
    shutil.rmtree(tmp_path / "receipts")
    with pytest.raises(JournalError, match="was deleted or moved during the run"):
        journal.settle([delivered("2")])
    with pytest.raises(JournalError, match="was deleted or moved during the run"):
        journal.check()
    with pytest.raises(JournalError, match="was deleted or moved during the run"):
        journal.close()


def test_books_that_were_moved_are_missed(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "out"), "run", "w")
    journal.open()
    journal.check()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(JournalError, match="was deleted or moved during the run"):
        journal.check()
