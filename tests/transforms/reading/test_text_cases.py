"""JSON text and compression as people have them: inputs after public reports, and what is right for each."""

from pathlib import Path

import pytest

from tests.support.parts import taken
from tests.support.paths import SHARED, needs_shared
from transforms.reading.files import blocks, format_of

INPUTS = SHARED / "cases" / "inputs"

REFUSED = {
    "08-zip-named.jsonl.gz": (0, [(0, "this is a zip archive")]),
    "09-utf16le-bom.jsonl": (0, [(0, "this is text in UTF-16")]),
    "10-lambda-log.jsonl": (3, [(0, "not JSON: "), (610, "not JSON: ")]),
    "02-pretty-single.json": (1, []),
}
"""How many activities are taken, and the position of each reject and how its reason begins. All others hold three."""

NAMES = ("01-*", "02-*", "03-*", "08-*", "09-*", "10-array*", "10-lambda*")


@needs_shared
@pytest.mark.parametrize(
    "path", sorted(path for name in NAMES for path in INPUTS.glob(name)), ids=lambda path: path.name
)
def test_an_input_as_people_have_it(path: Path) -> None:
    with path.open("rb") as file:
        activities, _, rejects = taken(blocks(file, format_of(str(path))[0]))
    expected, refused = REFUSED.get(path.name, (3, []))
    assert (len(activities), [reject.position for reject in rejects]) == (expected, [place for place, _ in refused])
    for reject, (_, beginning) in zip(rejects, refused, strict=True):
        assert reject.reason.startswith(beginning)
