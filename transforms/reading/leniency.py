"""What is read though the rules refuse it, because whoever runs the job says so."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leniency:
    """naive_utc: times without a zone are in UTC, in every form (`--naive_times utc`).

    lenient_numbers: numbers in quotes are numbers, and ids that are numbers are their text (`--lenient_numbers`).
    """

    naive_utc: bool = False
    lenient_numbers: bool = False


STRICT = Leniency()
"""As the rules of docs/spec/records.md section 1 are."""
