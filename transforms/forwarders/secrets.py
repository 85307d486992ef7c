"""Secrets, held so that they cannot slip into a log, an error, a repr or the job graph.

A value in a forwarder document may be a reference to a secret, `env:NAME` or `file:PATH`. Where the job is launched
only its form is judged (`References.problem`). It is read on the worker (`References.resolve`), and never in a dry run.
The rules are in docs/spec/forwarders.md section 1.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

REDACTED = "[redacted]"
"""What is shown in the place of a secret. A document that holds it where a secret belongs is refused."""

DEFAULT_ENV_PREFIX = "FORWARDER_"
"""What the names of environment variables begin with that documents may refer to, unless a flag says otherwise."""

_SCHEMES = ("env:", "file:")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE_LIMIT = 64 * 1024
"""Bytes of a secret's file. No token is longer, and a link to an endless file must not fill the worker's memory."""

_AROUND = " \t\r\n\v\f\u00a0\ufeff"
"""What editors, shells and secret stores leave around a value: blanks, line ends, a byte order mark."""


class SecretError(ValueError):
    """A reference cannot be read, or may not be used. The text never holds a secret."""


class Secret:
    """A text that shows itself only when it is asked to. Its repr does not show it, and it does not pickle.

    Args:
        value: the text.
        pending: the text is a reference that was not resolved yet, or holds one.
    """

    __slots__ = ("_pending", "_value")

    def __init__(self, value: str, *, pending: bool = False) -> None:
        self._value = value
        self._pending = pending

    @property
    def pending(self) -> bool:
        """Whether a reference in the text was not resolved yet."""
        return self._pending

    def reveal(self) -> str:
        """The text. Raises SecretError while a reference in it was not resolved."""
        if self._pending:
            raise SecretError("a reference to a secret was used before it was resolved: resolve the forwarder first")
        return self._value

    def resolved(self, resolve: Callable[[str], str]) -> "Secret":
        """The secret with its reference resolved.

        Args:
            resolve: takes the text and returns it with the secrets that it refers to.
        """
        return Secret(resolve(self._value)) if self._pending else self

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not pickle: load the forwarders on the worker instead")


def trimmed(text: str) -> str:
    """A secret from a file or a variable, without the blanks, line ends and byte order mark around it."""
    return text.strip(_AROUND)


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference to a secret."""
    return text.startswith(_SCHEMES)


def is_redacted(text: str) -> bool:
    """Whether a text stands in a secret's place: `[redacted]` and the like in any case, or only stars or bullets."""
    bare = text.strip().lower()
    return bare in (REDACTED, "<redacted>", "redacted") or (len(bare) > 2 and not bare.strip("*•"))


@dataclass(frozen=True, slots=True)
class References:
    """Which references documents may use. It holds no secret and may travel in the job graph.

    Attributes:
        env_prefix: what the name of an environment variable must begin with (`--secret_env_prefix`).
        directory: where files of secrets must lie, after links are resolved (`--secrets_dir`); None: no file may be
            used.

    Raises:
        ValueError: the prefix is empty.
    """

    env_prefix: str = DEFAULT_ENV_PREFIX
    directory: str | None = None

    def __post_init__(self) -> None:
        if not self.env_prefix:
            raise ValueError(
                "the prefix of secret environment variables is empty: that would open the whole environment"
            )

    def problem(self, reference: str) -> str | None:
        """Why the rules forbid a reference, or None. Only its text is looked at, since the secret is on the worker."""
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            if not _ENV_NAME.fullmatch(name):
                return "is not a reference of the form env:NAME"
            if not name.startswith(self.env_prefix):
                # The message does not repeat the name: it may be a password that happens to begin with env:.
                return f"refers to a variable whose name does not start with {self.env_prefix} (--secret_env_prefix)"
            return None
        if scheme != "file" or not name or "\0" in name:
            return "is not a reference of the form env:NAME or file:PATH"
        if self.directory is None:
            return "refers to a file, and no --secrets_dir is given"
        return None

    def resolve(self, reference: str) -> str:
        """The secret that a reference names, without the blanks, line ends and byte order mark around it.

        Raises:
            SecretError: the rules forbid the reference, or the secret is not there or cannot be read.
        """
        if problem := self.problem(reference):
            raise SecretError(problem)
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            value = os.environ.get(name)
            if value is None:
                raise SecretError(f"refers to the environment variable {name}, which is not set on this worker")
            return trimmed(value)
        path = self.path(reference)
        try:
            with path.open("rb") as file:
                data = file.read(_FILE_LIMIT + 1)
        except OSError as error:
            raise SecretError(f"refers to a file that cannot be read: {error.strerror}") from None
        if len(data) > _FILE_LIMIT:
            raise SecretError(f"refers to a file of more than {_FILE_LIMIT} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise SecretError("refers to a file that is not UTF-8 text") from None
        return trimmed(text)

    def path(self, reference: str) -> Path:
        """The regular file that a `file:` reference names, after links are resolved.

        Raises:
            SecretError: the rules forbid the reference, or the file is not there, or lies outside of the directory.
        """
        if problem := self.problem(reference):
            raise SecretError(problem)
        scheme, _, name = reference.partition(":")
        if scheme != "file" or self.directory is None:
            raise SecretError("is not a reference of the form file:PATH")
        try:
            root = Path(self.directory).resolve(strict=True)
            path = (root / name).resolve(strict=True)
        except (OSError, RuntimeError):
            raise SecretError("refers to a file that is not there on this worker") from None
        if not path.is_relative_to(root):
            raise SecretError("refers to a file outside of --secrets_dir")
        if not path.is_file():
            raise SecretError("refers to something that is not a regular file")
        return path


def reference_of_flag_problem(reference: str, form: str = "env:NAME or file:PATH") -> str | None:
    """What is wrong with the form of a reference in a flag; None if nothing is. The text does not repeat it.

    Args:
        reference: the value of the flag.
        form: what it should be.
    """
    if not is_reference(reference):
        return f"is no reference to a secret: give {form}; a secret itself does not belong in a flag"
    scheme, _, name = reference.partition(":")
    if not name or (scheme == "env" and not _ENV_NAME.fullmatch(name)):
        return f"is not a reference of the form {form}"
    return None


def resolve_reference_of_flag(reference: str) -> str:
    """The secret that a flag names. Whoever starts the job may name any variable and any file, unlike a document.

    Raises:
        SecretError: the secret is not there or cannot be read, or the path is relative.
    """
    if reference.startswith("file:") and not reference.startswith("file:/"):
        raise SecretError("names a relative path: give an absolute one")
    return References(env_prefix=reference.removeprefix("env:") or "_", directory="/").resolve(reference)
