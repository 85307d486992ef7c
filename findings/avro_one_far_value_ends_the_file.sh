#!/usr/bin/env bash
# One value that Python's datetime cannot hold ends the reading of an Avro file, and no reader schema of `long` prevents it.
#
# Versions:  fastavro 1.13.1, avro 1.12.1 (Apache's own, Python).
# Behaviour: A `timestamp-millis` is a long of 64 bits; the year 10000 is as valid as any other. fastavro writes it. Both
#            packages raise OverflowError at the row. Who catches that and goes on loses rows or gets too many. fastavro's
#            iterator is a generator, which is exhausted then: no further row, no further error. avro's goes on with the next
#            row, but has not counted the one that failed, and so reads one more than the block has: it makes a row of the
#            sync marker. A reader schema that says plain `long` changes nothing, because fastavro converts by the writer's
#            logical type. A reader schema without the field does help: what is skipped is not converted.
# Source:    https://avro.apache.org/docs/1.12.0/specification/#timestamps ; fastavro/_read_py.py, read_data and skip_data.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet fastavro==1.13.1 avro==1.12.1
"$place/venv/bin/python" - <<'PYTHON'
import io

import avro.datafile
import avro.io
import fastavro

number = {"name": "n", "type": "long"}
written = {"type": "record", "name": "Row", "fields": [number, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}
plain = {"type": "record", "name": "Row", "fields": [number, {"name": "at", "type": "long"}]}
without = {"type": "record", "name": "Row", "fields": [number]}
file = io.BytesIO()
fastavro.writer(file, written, [{"n": n, "at": 253_402_300_800_000 if n == 4 else 0} for n in range(9)], sync_marker=b"\2\2" + bytes(14))


def read(rows):
    """The rows before the error, the error, and the rows after it, up to another one."""
    seen, errors = [[], []], []
    rows = iter(rows)
    for part in seen:
        try:
            for row in rows:
                part.append(row["n"])
        except Exception as error:
            errors.append(type(error).__name__)
    return seen[0], errors[:1], seen[1]


def opened():
    return io.BytesIO(file.getvalue())


seen = {
    "fastavro": read(fastavro.reader(opened())),
    "fastavro, reader schema of plain long": read(fastavro.reader(opened(), plain)),
    "fastavro, reader schema without the field": read(fastavro.reader(opened(), without)),
    "avro": read(avro.datafile.DataFileReader(opened(), avro.io.DatumReader())),
}
for name, (before, error, after) in seen.items():
    print(f"{name}: rows {before}, then {error}, then rows {after}")
assert seen == {
    "fastavro": ([0, 1, 2, 3], ["OverflowError"], []),
    "fastavro, reader schema of plain long": ([0, 1, 2, 3], ["OverflowError"], []),
    "fastavro, reader schema without the field": (list(range(9)), [], []),
    "avro": ([0, 1, 2, 3], ["OverflowError"], [5, 6, 7, 8, 1]),
}
PYTHON
