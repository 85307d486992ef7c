#!/usr/bin/env bash
# Spark's timestamps of 96 bits: pyarrow reads a year after 2262 as another year, without an error.
#
# Version:   pyarrow 26.0.1.
# Behaviour: INT96 holds any year. pyarrow reads it as timestamp[ns] unless told otherwise, and 64 bits of nanoseconds end in
#            2262: the count wraps. 9999-03-01, a usual "never ends", comes as 1815-05-29, and 2263 as 1678. The default is
#            the same for a file with only near years, so nothing shows in tests. `coerce_int96_timestamp_unit` is the cure.
# Source:    https://arrow.apache.org/docs/python/parquet.html#storing-timestamps
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet pyarrow==26.0.1
"$place/venv/bin/python" - <<'PYTHON'
import io
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

given = [datetime(year, 3, 1) for year in (2026, 2261, 2263, 9999)]
file = io.BytesIO()
pq.write_table(pa.table({"t": pa.array(given, pa.timestamp("us"))}), file, use_deprecated_int96_timestamps=True)
default = pq.read_table(file)["t"].cast(pa.timestamp("us"), safe=False).to_pylist()
coerced = pq.read_table(file, coerce_int96_timestamp_unit="us")["t"].to_pylist()
for one, read, right in zip(given, default, coerced):
    print(f"{one.date()} is read as {read.date()}, with coerce_int96_timestamp_unit as {right.date()}")
assert [moment.year for moment in default] == [2026, 2261, 1678, 1815]
assert coerced == given
PYTHON
