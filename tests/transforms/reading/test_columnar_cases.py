"""Avro and Parquet as people have them: inputs after public reports, and what is right for each."""

from pathlib import Path

import pytest

from tests.support.parts import admitted
from tests.support.paths import SHARED, needs_shared
from transforms.reading.files import blocks, format_of

INPUTS = SHARED / "cases" / "inputs"

REFUSED = {
    "20-date32.parquet": (0, [(row, "occurred_at: '2026-03-01'") for row in range(3)]),
    "20-int-user.parquet": (0, [(row, "user_id: 42 is a number") for row in range(3)]),
    "20-nan-for-null.parquet": (1, [(row, "num_questions: NaN and Infinity are not numbers here") for row in (0, 1)]),
    "21-binary-map-bad-row.parquet": (8, [(4, "action: not allowed")]),
    "21-capital-names.parquet": (0, [(row, "record_id: missing") for row in range(9)]),
    "21-duration.parquet": (0, [(row, "session_duration: ") for row in range(9)]),
    "22-bytes-not-records.avro": (0, [(0, "not readable as Avro: its rows are null or bytes; records")]),
    "22-far-time.avro": (8, [(4, "occurred_at: not allowed")]),
    "22-far-time-as-long.avro": (8, [(4, "occurred_at: not allowed")]),
    "22-odd-uuid.avro": (8, [(4, "session_id: 'demo' is not a UUID")]),
}
"""How many activities are taken, and the position of each reject and how its reason begins. All other inputs are read
whole: three activities up to number 20, nine from 21 on."""


def columnar_inputs() -> list[Path]:
    return sorted([*INPUTS.glob("*.avro"), *INPUTS.glob("*.parquet")])


@needs_shared
@pytest.mark.parametrize("path", columnar_inputs(), ids=lambda path: path.name)
def test_an_input_as_people_have_it(path: Path) -> None:
    with path.open("rb") as file:
        accepted, rejects = admitted(blocks(file, format_of(str(path))[0]))
    expected, refused = REFUSED.get(path.name, (3 if path.name < "21" else 9, []))
    assert (accepted, [position for position, _ in rejects]) == (expected, [position for position, _ in refused])
    for (_, reason), (_, beginning) in zip(rejects, refused, strict=True):
        assert reason.startswith(beginning)
