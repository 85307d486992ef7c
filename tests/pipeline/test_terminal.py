"""The line that a user watches."""

from pathlib import Path

from pipeline.terminal import ProgressLine
from transforms.accounting.board import Board, Standing


def test_what_was_given_up_does_not_count_as_delivered(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    standings: dict[str, Standing] = {"f": Standing(due=1200, delivered=1100)}
    board.watch(lambda now: standings)
    board.advance(size=500, read=7, derived=1200)
    board.publish(at_once=True)
    assert (
        ProgressLine(board, 1000).line().startswith("read 7 (500 B of 1.0 KB (50%))  derived 1,200  delivered 1,100  ")
    )
    assert "dead letters" not in ProgressLine(board, 1000).line()
    standings["f"] = Standing(due=1200, delivered=1101, dead={"http_400": 2})
    board.publish(at_once=True)
    assert "  delivered 1,101  dead letters 2  " in ProgressLine(board, None).line()
