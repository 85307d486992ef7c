import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from transforms import durability
from transforms.durability import make_directories, private_files, write_file


def test_a_file_is_synced_before_it_has_its_name_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a" / "b" / "file"
    done: list[object] = []
    monkeypatch.setattr(durability, "sync", lambda descriptor: done.append(("data", target.exists())))
    monkeypatch.setattr(durability, "sync_directory", lambda path: done.append((path.name, target.exists())))
    write_file(target, [b"1", b"", b"23"])
    assert target.read_bytes() == b"123"
    assert done == [(tmp_path.name, False), ("a", False), ("data", False), ("b", True)]
    done.clear()
    write_file(target, [b"4"], durable=False)
    assert target.read_bytes() == b"4"
    assert done == []


def test_large_files_come_in_pieces(tmp_path: Path) -> None:
    pieces = [bytes([number]) * 300_000 for number in range(20)]
    write_file(tmp_path / "file", iter(pieces))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", [b"old"])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def breaks() -> Iterator[bytes]:
        yield b"new"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        write_file(tmp_path / "file", breaks())
    monkeypatch.setattr(durability, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", [b"new"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_is_made_is_its_owners(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b" / "file", [b"1"])
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/file")] == [
        0o700,
        0o700,
        0o600,
    ]
    before = os.umask(0o022)
    try:
        with private_files():
            (tmp_path / "of others").write_bytes(b"")
        (tmp_path / "as before").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "of others").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "as before").stat().st_mode & 0o777 == 0o644


def test_a_directory_that_cannot_be_synced_is_no_error_but_one_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may know no such sync (fsync(2): EINVAL)."""
    number = errno.EINVAL

    def fails(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    make_directories(tmp_path / "a")
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        make_directories(tmp_path / "b")


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_directories(tmp_path / "a")
