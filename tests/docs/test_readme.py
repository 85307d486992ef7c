"""The README is what a newcomer does first: every block works as it is printed, and prints what is shown under it."""

import json
from pathlib import Path

import pytest

from tests.docs.shell_blocks import Block, Ran, copy_of_the_tree, run_blocks, shell_blocks
from tests.support.paths import ROOT

README = ROOT / "README.md"
NOT_RUN = ("./run_local.sh", "./run_tests.sh")
"""The commands that a test cannot run: they make an environment, and one of them runs this test."""

LEARNING_LOCKER = "python -m pipeline --input mongodb://host/"
"""How the command begins that needs a Learning Locker. tests/local/test_learninglocker.py runs it on a database."""


def is_run(block: Block) -> bool:
    return not block.command.startswith((*NOT_RUN, LEARNING_LOCKER))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    blocks = [block for block in shell_blocks(README) if is_run(block)]
    return run_blocks(blocks, copy_of_the_tree(tmp_path_factory.mktemp("readme")))


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 145


def test_the_blocks_that_are_not_run_are_the_two_commands_and_that_of_learning_locker() -> None:
    block, _ = [block for block in shell_blocks(README) if not is_run(block)]
    assert tuple(line.split()[0] for line in block.command.splitlines()) == NOT_RUN
    assert all((ROOT / command).is_file() for command in NOT_RUN)


def test_every_block_prints_what_is_shown_under_it(ran: list[Ran]) -> None:
    assert {one.block.command: (missing, one.output) for one in ran if (missing := one.missing())} == {}
    assert sum(bool(one.block.shown) for one in ran) >= 5


def test_what_the_receiver_has_and_what_the_receipts_say_is_the_same(ran: list[Ran]) -> None:
    (look,) = [one for one in ran if one.block.command.startswith("cat received.jsonl")]
    received = {json.loads(line)["key"] for line in look.output.splitlines() if line.startswith("{")}
    assert len(received) == 3
    assert all(any(id_ in line and "delivered" in line for line in look.output.splitlines()) for id_ in received)


def test_code_that_is_marked_another_way_is_not_passed_over(tmp_path: Path) -> None:
    page = tmp_path / "a_page"
    for text in ("```\nls\n```\n", "Look:\n\n    ls\n", "```sh\nls\n```\n\nThen\n\n```text\na\n```\n"):
        page.write_text(text)
        with pytest.raises(ValueError, match="a_page"):
            shell_blocks(page)


def test_a_page_that_shows_another_number_is_found_out() -> None:
    table = "forwarder  to  matched  delivered\ngradebook  http 127.0.0.1  59  58  1  0  0  58  1  12\n"
    shown = "gradebook  http 127.0.0.1       59         58        1     0        0        58       7      90\n"
    assert Ran(Block("", shown), table).missing() == []
    assert Ran(Block("", shown.replace("59", "58")), table).missing() != []
    assert Ran(Block("", "finished after 0.4 s\n"), "finished after 3.1 s (details in out)\n").missing() == []
    assert Ran(Block("", "one ... three\n"), "12:00 one two three four\n").missing() == []
    assert Ran(Block("", "b\na\n"), "a\nb\n").missing() == ["a"]
