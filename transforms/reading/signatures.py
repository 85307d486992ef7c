"""Content that is not what its file should hold, told by its first bytes, so that a reject can say what it is."""

from transforms.reading.activity import BOM
from transforms.reading.blocks import BLANK, FileFormat
from transforms.reading.compression import compression_of

HEAD = 512
"""Bytes that are enough to tell."""

_UNPACK = "unpack it, or compress each file in it with gzip, bzip2, zstd or xz"
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", f"a zip archive, which is not read: {_UNPACK}"),
    (b"PK\x05\x06", f"an empty zip archive, which is not read: {_UNPACK}"),
    (b"PK\x07\x08", f"a zip archive in parts, which is not read: {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive, which is not read: {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive, which is not read: {_UNPACK}"),
    (b"\x04\x22\x4d\x18", "compressed with lz4, which is not read: use gzip, bzip2, zstd or xz"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with snappy, which is not read: use gzip, bzip2, zstd or xz"),
    (b"LZIP", "compressed with lzip, which is not read: use gzip, bzip2, zstd or xz"),
    (b"\x1f\x9d", "compressed with compress (.Z), which is not read: use gzip, bzip2, zstd or xz"),
    (b"ORC", "an ORC file, which is not read: write JSON Lines, Avro or Parquet"),
    (b"SQLite format 3\0", "an SQLite database, which is not read: export it as JSON Lines"),
    (b"%PDF-", "a PDF, which is not read"),
)
_TAR = (257, b"ustar")
_CONTAINERS: tuple[tuple[bytes, FileFormat, str], ...] = (
    (b"Obj\x01", "avro", "Avro"),
    (b"PAR1", "parquet", "Parquet"),
)
_UNICODE = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def problem(head: bytes, file_format: FileFormat) -> str | None:
    """Why content that begins with `head` is not read as `file_format`; None if nothing is known to be wrong with it.

    `head` is HEAD bytes of it or more, if it has as many. Of Parquet it is the file's own beginning, else what comes of
    decompressing it.
    """
    for magic, container, name in _CONTAINERS:
        if head.startswith(magic):
            if container == file_format:
                return None
            return f"this is {name}: name the file .{container}, or give --file_format {container}"
    for magic, told in _OTHERS:
        if head.startswith(magic):
            return f"this is {told}"
    if head[_TAR[0] :].startswith(_TAR[1]):
        return f"this is a tar archive, which is not read: {_UNPACK}"
    if compression := compression_of(head):
        if file_format == "parquet":
            return f"this is compressed ({compression}); Parquet is compressed inside: decompress the file"
        return f"this is compressed more than twice ({compression})"
    if encoding := _wide_encoding(head):
        return f"this is text in {encoding}, which is not read: write it in UTF-8"
    if file_format in ("avro", "parquet") and head.removeprefix(BOM).lstrip(BLANK)[:1] in (b"{", b"["):
        return f"this is JSON, not {file_format.capitalize()}: name the file .json, or give --file_format json"
    return None


def _wide_encoding(head: bytes) -> str | None:
    """The encoding of text that takes two or four bytes for each character, by its byte order mark or its zero bytes.

    JSON begins with two characters of ASCII.
    """
    for mark, encoding in _UNICODE:
        if head.startswith(mark):
            return encoding
    if len(head) < 4:
        return None
    zeros = tuple(not byte for byte in head[:4])
    if zeros in ((True, True, True, False), (False, True, True, True)):
        return "UTF-32"
    if zeros in ((True, False, True, False), (False, True, False, True)):
        return "UTF-16"
    return None
