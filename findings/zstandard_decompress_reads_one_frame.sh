#!/usr/bin/env bash
# zstandard.decompress() of valid data: of two frames it returns the first alone, and one without its size it refuses.
#
# Version:   zstandard 0.25.0.
# Behaviour: A zstd file may hold any number of frames, and a frame need not tell the size of its content; writers that stream
#            leave it out (Avro's blocks from Java, `zstd` from a pipe), and `cat a.zst b.zst` makes two frames. The one-shot
#            decompress() returns the first frame and drops the rest without a word. Without a size it raises. Decompression
#            objects read both, if what is left in `unused_data` is fed to the next one.
# Source:    RFC 8878, sections 3 and 3.1.1; https://python-zstandard.readthedocs.io/en/stable/decompressor.html
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet zstandard==0.25.0
"$place/venv/bin/python" - <<'PYTHON'
import zstandard


def every_frame(data):
    content = b""
    while data:
        stream = zstandard.ZstdDecompressor().decompressobj()
        content += stream.decompress(data)
        data = stream.unused_data
    return content


two = zstandard.compress(b"first ") + zstandard.compress(b"second")
writer = zstandard.ZstdCompressor().compressobj()
streamed = writer.compress(b"streamed") + writer.flush()
print("of two frames decompress() returns", zstandard.decompress(two))
assert zstandard.decompress(two) == b"first "
try:
    zstandard.decompress(streamed)
except zstandard.ZstdError as error:
    print("of a frame without its size:", error)
else:
    raise AssertionError("decompress() reads frames without a size now")
assert every_frame(two) == b"first second"
assert every_frame(streamed) == b"streamed"
PYTHON
