"""What is told of a run, for those who are not at its terminal."""

from collections.abc import Callable, Mapping

from pipeline.report import FAILED, Report
from transforms.accounting.board import ForwarderName, Snapshot

BUG = "an error ended it, which its log names"
"""Why a run failed, of whose error there is no sentence for a user."""


class Monitor:
    """Told what becomes of a run. This one tells nobody.

    Attributes:
        exit_status: of the run, once that is known.
    """

    def __init__(self) -> None:
        self.exit_status = FAILED

    def open(self) -> None:
        """Make ready what is asked for.

        Raises:
            UsageError: in the launcher, an address, a port or a file cannot be used.
        """

    def problems(self) -> list[str]:
        """What of it cannot be used now, each in a sentence. Nothing is sent, and nothing stays open."""
        return []

    def begin(self, run_id: str, look: Callable[[], Snapshot], names: Mapping[str, ForwarderName]) -> None:
        """Watch a run from now on.

        Args:
            run_id: its name.
            look: reads the board.
            names: what its forwarders are called, by id.
        """

    def failed(self, reason: str) -> None:
        """The run has failed, or cannot begin.

        Args:
            reason: a sentence, without a secret.
        """

    def ended(self, report: Report) -> None:
        """The run has ended, and this is what it comes to. Call it while the board is still there."""

    def close(self, exit_status: int) -> None:
        """Tell how the run ended, for the last time, and wait for that for a bounded time."""
