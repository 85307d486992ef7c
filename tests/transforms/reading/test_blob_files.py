import os
import stat
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.limits import files_of_at_most
from transforms.reading.blob_files import BlobFiles
from transforms.storage import StorageError

WRITTEN = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 63), st.binary(min_size=1, max_size=9)), max_size=12)


@given(WRITTEN, st.randoms())
def test_a_bucket_has_the_blobs_that_any_writer_wrote_of_it(
    written: list[tuple[int, int, bytes]], random: Random
) -> None:
    with TemporaryDirectory() as directory:
        files = BlobFiles(Path(directory))
        writers = [files.writer() for _ in range(3)]
        names: dict[int, list[bytes]] = {}
        for writer, bucket, blob in written:
            names.setdefault(bucket, []).append(writers[writer].write(bucket, blob))
        for bucket, of_bucket in names.items():
            random.shuffle(of_bucket)
            blobs = files.blobs(bucket, of_bucket)
            expected = sorted(blob for _, each, blob in written if each == bucket)
            assert sorted(blobs) == sorted(blobs) == expected  # They can be gone through again.
            assert len(blobs) == len(expected)
            assert expected[0] in blobs
            assert b"of nobody" not in blobs


def test_files_are_private_and_go_bucket_by_bucket(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    writer = files.writer()
    names = {bucket: writer.write(bucket, b"learners' data") for bucket in (1, 2)}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    files.blobs(1, [names[1]]).remove()
    assert list(files.blobs(2, [names[2]])) == [b"learners' data"]
    assert len(list(tmp_path.iterdir())) == 1
    files.blobs(1, [names[1]]).remove()  # Again: it does no harm.


def test_a_full_disk_is_told_with_the_directory_and_what_to_do(tmp_path: Path) -> None:
    writer = BlobFiles(tmp_path).writer()
    writer.write(3, b"x" * 50)
    with files_of_at_most(80), pytest.raises(StorageError) as raised:
        writer.write(3, b"y" * 50)
    assert str(raised.value) == (
        f"{tmp_path} cannot hold what was read until it is derived: File too large; allow larger files (`ulimit -f`), "
        "or give another directory with --temp_dir, then run again: nothing of this input was sent"
    )


def test_a_file_that_was_deleted_or_cut_short_is_told_by_name(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    blobs = files.blobs(0, [files.writer().write(0, b"blob")])
    (path,) = tmp_path.iterdir()
    os.truncate(path, 2)
    with pytest.raises(StorageError, match=f"^{path} is cut short: see that the disk is well, then run again$"):
        list(blobs)
    path.unlink()
    with pytest.raises(StorageError, match=f"^{path} was deleted during the run: leave the directory of temporary"):
        list(blobs)
