#!/usr/bin/env bash
# Avro's UUID of fixed(16) and its timestamp-nanos come as bytes and as a count, from readers that convert their siblings.
#
# Versions:  fastavro 1.13.1, avro 1.12.1 (Apache's own, Python).
# Behaviour: Avro 1.12 added `uuid` on fixed(16) and timestamps in nanoseconds. fastavro gives uuid.UUID for a `uuid` that is a
#            string and a datetime for timestamp-micros, but bytes and an int for these two; it says nothing. Nor does it
#            write a uuid.UUID into the fixed one. avro gives the same values, with a warning. Code that takes any int for
#            milliseconds reads a time that is a million times too far away.
# Source:    https://avro.apache.org/docs/1.12.0/specification/#logical-types ; fastavro/_logical_readers_py.py,
#            LOGICAL_READERS.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet fastavro==1.13.1 avro==1.12.1
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import io
import uuid

import avro.datafile
import avro.io
import fastavro

each = uuid.UUID(int=5)
fields = [
    {"name": "text_uuid", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "fixed_uuid", "type": {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}},
    {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "nanos", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
]
schema = {"type": "record", "name": "Row", "fields": fields}
row = {"text_uuid": str(each), "fixed_uuid": each.bytes, "micros": 1_772_355_600_000_000, "nanos": 1_772_355_600_000_000_000}
file = io.BytesIO()
fastavro.writer(file, schema, [row])


def opened():
    return io.BytesIO(file.getvalue())


seen = {
    "fastavro": next(iter(fastavro.reader(opened()))),
    "avro": next(iter(avro.datafile.DataFileReader(opened(), avro.io.DatumReader()))),
}
for name, values in seen.items():
    print(name, values)
    assert values["fixed_uuid"] == each.bytes
    assert values["nanos"] == row["nanos"]
    assert type(values["micros"]).__name__ == "datetime"
assert seen["fastavro"]["text_uuid"] == each
try:
    fastavro.writer(io.BytesIO(), schema, [row | {"fixed_uuid": each}])
except TypeError as error:
    print("fastavro, to write a uuid.UUID into the fixed one:", error)
else:
    raise AssertionError("fastavro writes uuid.UUID into a fixed one now")
PYTHON
