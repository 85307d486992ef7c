"""Whether the rows of a block are those that were written.

An Avro container has no checksums. A power cut may leave zeros, or what was on the disk before, in the middle of a
block whose frame is whole. Such rows must not count: a receipt of zeros says `delivered`. What was written shows by
three things. The rows fill the block. All of them are of one run, and name it, as well as a forwarder and a record.
And a payload is JSON, which has no bytes of zero.
"""

import io
from typing import Any

import fastavro

from transforms.receipts.avro_container import EncodedBlock


class DamagedError(ValueError):
    """A block holds rows that were not written so."""


def read_rows(written: Any, wanted: Any, block: EncodedBlock) -> list[dict[str, Any]]:
    """The rows of a block. It takes some 10 us a row.

    Args:
        written: the schema that they were written with, as `plain` gives it.
        wanted: the schema whose fields the rows are to have; None for the same.
        block: of receipts or dead letters.

    Raises:
        DamagedError: they are not as they were written.
    """
    stream = io.BytesIO(block.data)
    rows: list[dict[str, Any]] = []
    try:
        for _ in range(block.count):
            row = fastavro.schemaless_reader(stream, written, wanted)
            if not isinstance(row, dict) or not _is_sound(row):
                raise DamagedError
            rows.append(row)
    except Exception as error:  # fastavro raises whatever the damage leads to.
        raise DamagedError("a row cannot be read") from error
    if stream.tell() != len(block.data) or any(row["run_id"] != rows[0]["run_id"] for row in rows):
        raise DamagedError("the rows do not fill the block, or are not of one run")
    return rows


def _is_sound(row: dict[str, Any]) -> bool:
    """Whether a row has what every receipt and every dead letter has."""
    json_texts = row.get("payload") or b"", row.get("record") or b""
    return bool(row["forwarder_id"] and row["id"] and row["run_id"]) and not any(b"\0" in text for text in json_texts)
