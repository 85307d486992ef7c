"""`session-forwarder`, or `python -m commands`."""

from pipeline.console import run_console


def console() -> None:
    """The entry of the installed command."""
    run_console("commands.command")


if __name__ == "__main__":
    console()
