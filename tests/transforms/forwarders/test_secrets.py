"""References, and secrets that do not show."""

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from transforms.forwarders.secrets import References, Secret, SecretError, is_redacted

HIDDEN = "correct-horse"


class TestSecret:
    def test_shows_itself_only_when_asked(self) -> None:
        secret = Secret(HIDDEN)
        assert secret.reveal() == HIDDEN
        assert HIDDEN not in f"{secret} {secret!r} {secret!s} {[secret]}"

    @pytest.mark.parametrize(
        "make", [pickle.dumps, copy.copy, copy.deepcopy, orjson.dumps, msgspec.json.encode, json.dumps]
    )
    def test_does_not_travel(self, make: Any) -> None:
        with pytest.raises(TypeError) as caught:
            make(Secret(HIDDEN))
        assert HIDDEN not in str(caught.value)

    def test_is_not_used_before_it_is_resolved(self) -> None:
        pending = Secret("env:FORWARDER_A", pending=True)
        with pytest.raises(SecretError, match="before it was resolved"):
            pending.reveal()
        assert pending.resolved(str.upper).reveal() == "ENV:FORWARDER_A"
        plain = Secret("env:x")
        assert plain.resolved(str.upper) is plain


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A secrets directory beside a file that is none of its business, laid out as Kubernetes mounts one."""
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "secrets"
    (root / "..2024").mkdir(parents=True)
    (root / "..2024" / "token").write_text("s3cret\n")
    (root / "..data").symlink_to("..2024")
    (root / "token").symlink_to("..data/token")
    (root / "windows").write_bytes(b"s3cret\r\n")
    (root / "blank").write_bytes(b" \ts3 cret \n\n")
    (root / "mark").write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    (root / "binary").write_bytes(b"\xff")
    (root / "large").write_bytes(b"x" * 70_000)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    (tmp_path / "secrets-too").mkdir()
    (tmp_path / "secrets-too" / "x").write_text("neighbour")
    return root


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("token", "s3cret"),
            ("windows", "s3cret"),
            ("blank", "s3 cret"),
            ("mark", "s3cret"),
            ("./..data/token", "s3cret"),
        ],
    )
    def test_are_read_where_their_links_lead(self, directory: Path, name: str, value: str) -> None:
        assert References(directory=str(directory)).resolve(f"file:{name}") == value

    def test_by_their_whole_path(self, directory: Path) -> None:
        assert References(directory=str(directory)).resolve(f"file:{directory / 'token'}") == "s3cret"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("../outside", "outside of --secrets_dir"),
            ("out", "outside of --secrets_dir"),
            ("/etc/passwd", "outside of --secrets_dir"),
            ("../secrets-too/x", "outside of --secrets_dir"),
            ("nowhere", "not there"),
            ("dangling", "not there"),
            ("loop", "not there"),
            (".", "not a regular file"),
            ("..data", "not a regular file"),
            ("binary", "not UTF-8"),
            ("large", "more than"),
            ("a\0b", "not a reference"),
            ("", "not a reference"),
        ],
    )
    def test_that_may_not_be_read(self, directory: Path, name: str, message: str) -> None:
        with pytest.raises(SecretError, match=message):
            References(directory=str(directory)).resolve(f"file:{name}")

    def test_that_are_no_files(self, directory: Path) -> None:
        os.mkfifo(directory / "pipe")
        with pytest.raises(SecretError, match="not a regular file"):
            References(directory=str(directory)).resolve("file:pipe")

    def test_without_a_directory(self) -> None:
        assert "no --secrets_dir" in str(References().problem("file:token"))
        with pytest.raises(SecretError, match="no --secrets_dir"):
            References().resolve("file:token")


class TestEnvironment:
    def test_under_the_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORWARDER_TOKEN", HIDDEN)
        monkeypatch.setenv("TENANT_TOKEN", "other")
        assert References().resolve("env:FORWARDER_TOKEN") == HIDDEN
        assert References(env_prefix="TENANT_").resolve("env:TENANT_TOKEN") == "other"

    @pytest.mark.parametrize("around", ["%s\n", " %s ", "\ufeff%s", "\ufeff %s\r\n", "\u00a0%s\t"])
    def test_without_what_came_round_it(self, monkeypatch: pytest.MonkeyPatch, around: str) -> None:
        monkeypatch.setenv("FORWARDER_TOKEN", around % HIDDEN)
        assert References().resolve("env:FORWARDER_TOKEN") == HIDDEN

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("env:AWS_SECRET_ACCESS_KEY", "does not start with FORWARDER_"),
            ("env:forwarder_token", "does not start with FORWARDER_"),
            ("env:FORWARDER_NOT_SET", "FORWARDER_NOT_SET, which is not set"),
            ("env:", "not a reference"),
            ("env:FORWARDER_A=B", "not a reference"),
            ("http://x", "not a reference"),
        ],
    )
    def test_that_may_not_be_read(self, reference: str, message: str) -> None:
        with pytest.raises(SecretError, match=message):
            References().resolve(reference)

    def test_an_empty_prefix_would_open_all_of_it(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            References(env_prefix="")


@pytest.mark.parametrize("text", ["[redacted]", "[REDACTED] ", "<redacted>", "REDACTED", "***", "••••"])
def test_redactions(text: str) -> None:
    assert is_redacted(text)


@pytest.mark.parametrize("text", ["", "*", "Dave", "xxxxxxxxxxxx", "redacted-not", "a***"])
def test_what_is_no_redaction(text: str) -> None:
    assert not is_redacted(text)
