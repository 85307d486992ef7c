"""What the checks of targets before a run come to."""

from dataclasses import dataclass, field

from transforms.forwarders import Fault
from transforms.sinks.data_streams import StreamLimits


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known about the targets of forwarders before anything is sent.

    `faults` say why a forwarder cannot be delivered to; `warnings` what could not be checked, or may go wrong. `limits`
    are by forwarder id, for the data streams that could be described. Pickles, and holds no secret.
    """

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    limits: dict[str, StreamLimits] = field(default_factory=dict)

    def add(self, other: "Preflight") -> None:
        """Adds what another check came to."""
        self.faults.extend(other.faults)
        self.warnings.extend(other.warnings)
        self.limits.update(other.limits)
