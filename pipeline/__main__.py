"""`python -m pipeline`."""

from pipeline.console import run_console


def console() -> None:
    """The entry of the process."""
    run_console("pipeline.command")


if __name__ == "__main__":
    console()
