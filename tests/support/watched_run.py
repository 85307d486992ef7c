"""`python -m tests.support.watched_run DIRECTORY`: the live view of a board that somebody else posts on.

It shows the board until the run is asked to stop. What stands in the file `log` of the directory is logged.
"""

import logging
import sys
import time
from pathlib import Path

from pipeline.terminal import LiveView
from transforms.accounting.board import Board


def main(directory: str) -> None:
    """Show the board."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    board, log = Board(directory), Path(directory) / "log"
    try:
        with LiveView(board, interval=0.02):
            while not board.stopping():
                if log.exists():
                    logging.getLogger().warning("%s", log.read_text())
                    log.unlink()
                time.sleep(0.01)
        print("the report", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
