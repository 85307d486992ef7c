#!/usr/bin/env bash
# A Parquet VARIANT is a plain struct of binaries to pyarrow: nothing in the Arrow schema says that it is one.
#
# Versions:  duckdb 2.0.1 (writes), pyarrow 26.0.1 (reads).
# Behaviour: The column comes as struct<metadata, value, typed_value>, no extension type, no field metadata. The annotation is
#            only in the text of the Parquet schema, `(Variant(1))`. DuckDB shreds by itself, so the user's fields lie below
#            `typed_value`, each a struct of `value` and `typed_value` again. Code that takes the struct for the user's data
#            gets these names in place of the user's.
# Source:    https://github.com/apache/parquet-format/blob/master/VariantEncoding.md ;
#            https://github.com/apache/parquet-format/blob/master/VariantShredding.md
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet duckdb==2.0.1 pyarrow==26.0.1
cd "$place"
venv/bin/python - <<'PYTHON'
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

duckdb.sql("""
    COPY (SELECT ({'class': '7b', 'seat': i})::VARIANT AS metadata FROM range(3) AS rows(i)) TO 'variant.parquet' (FORMAT parquet)
""")
file = pq.ParquetFile("variant.parquet")
field = file.schema_arrow.field("metadata")
row = file.read().to_pylist()[0]["metadata"]
print("Arrow:", field.type, "metadata:", field.metadata)
print("Parquet:", next(line.strip() for line in str(file.schema).splitlines() if " metadata (" in line))
print("a value:", row)
assert pa.types.is_struct(field.type) and not isinstance(field.type, pa.BaseExtensionType)
assert b"variant" not in repr(field.metadata).lower().encode()
assert "group field_id=-1 metadata (Variant(1)) {" in str(file.schema)
assert list(row) == ["metadata", "value", "typed_value"]
PYTHON
