"""How much may be refused: by rows or by bytes, and never for a handful."""

import pytest

from transforms.accounting.summary import ANY_REJECTS, RejectLimit, reject_share
from transforms.reading.bucket_blobs import ReadCounts

USUAL = RejectLimit(ratio=0.05, floor=10)


def read(accepted: int, rejected: int, rejected_bytes: int | None = None) -> ReadCounts:
    """Activities of 100 bytes each; `rejected_bytes` of those refused, if they are not of that size."""
    size = 100 * rejected if rejected_bytes is None else rejected_bytes
    return ReadCounts(accepted=accepted, rejected=rejected, accepted_bytes=100 * accepted, rejected_bytes=size)


@pytest.mark.parametrize(
    ("counts", "exceeded"),
    [
        (read(0, 0), False),
        (read(190, 10), False),  # 5 %: not more than that
        (read(180, 10), True),
        (read(2, 9), False),  # too few to judge by
        (read(2, 10), True),
        (read(10_000, 10), False),
        # One reject that is a whole file: a thousand rows, or ten, or nine.
        (read(1000, 1, 100_000), True),
        (read(100, 1, 1000), True),
        (read(100, 1, 900), False),
        (read(100_000, 1, 100_000), False),
        # Nothing at all could be read.
        (read(0, 1, 50_000), True),
        (read(0, 1, 300), False),
        (read(0, 10, 30), True),
        # Long lines that are empty of activity, few by their number.
        (read(1000, 20, 200_000), True),
        (read(1000, 20, 20), False),
    ],
)
def test_too_many_rejects(counts: ReadCounts, exceeded: bool) -> None:
    assert USUAL.is_exceeded(counts) is exceeded


def test_the_worse_of_rows_and_bytes_is_the_share() -> None:
    assert reject_share(read(90, 10)) == 0.1
    assert reject_share(read(90, 10, 9000)) == 0.5
    assert reject_share(read(90, 10, 1)) == 0.1
    assert reject_share(read(0, 0)) == 0


def test_without_a_limit_nothing_is_too_much() -> None:
    assert not ANY_REJECTS.is_exceeded(read(0, 1000))
    assert RejectLimit(ratio=0, floor=1).is_exceeded(read(1000, 1))
