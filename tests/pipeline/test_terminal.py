"""The line that a user watches."""

from pathlib import Path

from pipeline.terminal import ProgressLine
from transforms.accounting.progress import Progress


def test_what_was_given_up_does_not_count_as_delivered(tmp_path: Path) -> None:
    progress = Progress(str(tmp_path))
    progress.advance(size=500, records=7, derived=1200)
    progress.advance(delivered=1100)
    progress.flush()
    assert (
        ProgressLine(progress, 1000)
        .line()
        .startswith("read 7 (500 B of 1.0 KB (50%))  derived 1,200  delivered 1,100  ")
    )
    assert "dead letters" not in ProgressLine(progress, 1000).line()
    progress.advance(delivered=1, dead_lettered=2)
    progress.flush()
    assert "  delivered 1,101  dead letters 2  " in ProgressLine(progress, None).line()
