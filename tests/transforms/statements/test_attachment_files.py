"""Data in files that are named by their hash."""

import hashlib
from pathlib import Path

import pytest

from transforms.statements.attachment_files import LIST_AGAIN, AttachmentFiles
from transforms.storage import BeamStorage

DIGEST = hashlib.sha256(b"data").hexdigest()


def read(files: AttachmentFiles, digest: str | None = DIGEST) -> bytes | None:
    opener = files.find(digest)
    if opener is None:
        return None
    with opener() as file:
        return file.read()


@pytest.mark.parametrize("name", [DIGEST, f"{DIGEST}.png", f"{DIGEST}.tar.gz", DIGEST.upper(), f"{DIGEST.upper()}.PDF"])
def test_a_file_is_found_with_and_without_an_extension_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"data")
    files = AttachmentFiles([str(tmp_path)])
    assert read(files) == read(files, DIGEST.upper()) == b"data"


def test_directories_are_searched_in_their_order_and_need_not_be_there(tmp_path: Path) -> None:
    files = AttachmentFiles([str(tmp_path / "none"), str(tmp_path / "a"), str(tmp_path / "b")])
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / DIGEST).write_bytes(folder.encode())
    assert read(files) == b"a"


def test_a_file_that_is_being_written_is_not_found(tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.4711.tmp").write_bytes(b"da")
    assert read(AttachmentFiles([str(tmp_path)])) is None


def test_a_file_that_comes_later_is_found_when_the_directory_is_listed_again(tmp_path: Path) -> None:
    now = 0.0
    files = AttachmentFiles([str(tmp_path)], clock=lambda: now)
    assert read(files) is None
    (tmp_path / DIGEST).write_bytes(b"data")
    now = LIST_AGAIN - 1
    assert read(files) is None
    now = LIST_AGAIN
    assert read(files) == b"data"


def test_empty_data_needs_no_file() -> None:
    for algorithm in ("sha224", "sha256", "sha384", "sha512"):
        assert read(AttachmentFiles(()), hashlib.new(algorithm).hexdigest()) == b""


@pytest.mark.parametrize("digest", [None, "", "0" * 40, "g" * 64, "../secret", DIGEST + "0"])
def test_what_is_no_hash_finds_nothing(tmp_path: Path, digest: str | None) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "a").mkdir()
    assert read(AttachmentFiles([str(tmp_path / "a")]), digest) is None


def test_a_directory_of_a_file_system_of_beam(tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.png").write_bytes(b"data")
    storage = BeamStorage(str(tmp_path))
    assert storage.list("") == [f"{DIGEST}.png"]
    with storage.open(storage.list("")[0]) as file:
        assert file.read() == b"data"
