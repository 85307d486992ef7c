"""`session-forwarder`, or `python -m commands`."""

import sys

from transforms.beam_import import without_garbage_collection

with without_garbage_collection():
    from commands.command import main
    from pipeline.logs import start_logging


def console() -> None:
    """The entry of the installed command."""
    start_logging()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
