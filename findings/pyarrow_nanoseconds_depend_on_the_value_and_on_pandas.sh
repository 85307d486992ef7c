#!/usr/bin/env bash
# Whether to_pylist() of a timestamp in nanoseconds works depends on the value, and on whether pandas is installed.
#
# Versions:  pyarrow 26.0.1, pandas 3.0.5.
# Behaviour: Without pandas, a count that is a whole number of microseconds comes as datetime, any other raises ValueError and
#            takes the other rows with it. With pandas installed, though never imported by the caller, the same column comes as
#            pandas.Timestamp. So a job that passed its tests fails in an image without pandas, at the first odd value.
# Source:    https://arrow.apache.org/docs/python/timestamps.html ; pyarrow/scalar.pxi, TimestampScalar.as_py.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet pyarrow==26.0.1
cat >"$place/look.py" <<'PYTHON'
import sys

import pyarrow as pa


def read(counts):
    try:
        return [type(value).__name__ for value in pa.array(counts, pa.timestamp("ns")).to_pylist()]
    except ValueError as error:
        return str(error)[:60]


whole, odd = 1_772_355_600_123_456_000, 1_772_355_600_123_456_789
seen = read([whole, whole]), read([whole, odd])
print(*seen, sep="\n")
if sys.argv[1] == "without":
    assert seen[0] == ["datetime", "datetime"] and seen[1].startswith("Nanosecond resolution temporal type"), seen
else:
    assert seen == (["Timestamp", "Timestamp"], ["Timestamp", "Timestamp"]), seen
PYTHON
echo "without pandas:"
"$place/venv/bin/python" "$place/look.py" without
"$place/venv/bin/pip" install --quiet pandas==3.0.5
echo "with pandas:"
"$place/venv/bin/python" "$place/look.py" with
