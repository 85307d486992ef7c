"""`python -m pipeline`."""

import logging
import sys

from transforms.beam_import import without_garbage_collection

with without_garbage_collection():
    from pipeline.command import main


def console() -> None:
    """The entry of the installed command."""
    # Before Beam is imported: it would install a handler of its own, and warn of extras this job does not need.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
