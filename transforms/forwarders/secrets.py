"""Secrets: held so that they cannot slip into a log, an error, a repr or the job graph (forwarders.md section 1).

A value in a forwarder document may be a reference, `env:NAME` or `file:PATH`. Where the job is launched only the form
of a reference is judged (`References.problem`); it is read on the worker (`References.resolve`), never in a dry run.
"""

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
"""What stands in for a secret that is not shown. A document that holds it where a secret belongs is refused."""

DEFAULT_ENV_PREFIX = "FORWARDER_"

_SCHEMES = ("env:", "file:")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Nobody's token is longer; a link to a huge or endless file must not fill the worker's memory.
_FILE_LIMIT = 64 * 1024
# How much of a secret at the end of a body that was cut is still worth hiding.
_CUT_MINIMUM = 4


class SecretError(ValueError):
    """A reference that cannot be read, or may not be. The text names the reference, never a value."""


class Secret:
    """A string that shows itself only when asked to, and does not pickle (forwarders.md section 1).

    `pending` says that the text is, or holds, a reference that has not been resolved yet.
    """

    __slots__ = ("_pending", "_value")

    def __init__(self, value: str, *, pending: bool = False) -> None:
        self._value = value
        self._pending = pending

    @property
    def pending(self) -> bool:
        return self._pending

    def reveal(self) -> str:
        """The text itself. Raises SecretError while a reference in it is unresolved."""
        if self._pending:
            raise SecretError("a reference to a secret was used before it was resolved: resolve the forwarder first")
        return self._value

    def resolved(self, resolve: Callable[[str], str]) -> "Secret":
        """This secret with its reference replaced by what `resolve` makes of the text; itself if there is none."""
        return Secret(resolve(self._value)) if self._pending else self

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not pickle: load the forwarders on the worker instead")


def is_reference(text: str) -> bool:
    return text.startswith(_SCHEMES)


def is_redacted(text: str) -> bool:
    """Whether `text` stands for a secret that was hidden: the marker in any case, or nothing but stars or bullets."""
    bare = text.strip().lower()
    return bare in (REDACTED, "<redacted>", "redacted") or (len(bare) > 2 and not bare.strip("*•"))


@dataclass(frozen=True, slots=True)
class References:
    """Which references a document may use: `--secret_env_prefix`, `--secrets_dir` (forwarders.md section 1).

    Holds no secret itself and may travel in the job graph.
    """

    env_prefix: str = DEFAULT_ENV_PREFIX
    directory: str | None = None

    def __post_init__(self) -> None:
        if not self.env_prefix:
            raise ValueError(
                "the prefix of secret environment variables is empty: that would open the whole environment"
            )

    def problem(self, reference: str) -> str | None:
        """Why the rules forbid this reference, or None. Looks at nothing but its text: the secret is on the worker."""
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            if not _ENV_NAME.fullmatch(name):
                return "is not a reference of the form env:NAME"
            if not name.startswith(self.env_prefix):
                # The name is not repeated: it may be a password that happens to begin with env:.
                return f"refers to a variable whose name does not start with {self.env_prefix} (--secret_env_prefix)"
            return None
        if scheme != "file" or not name or "\0" in name:
            return "is not a reference of the form env:NAME or file:PATH"
        if self.directory is None:
            return "refers to a file, and no --secrets_dir is given"
        return None

    def resolve(self, reference: str) -> str:
        """The secret that `reference` names, without a file's last line end. Raises SecretError."""
        if problem := self.problem(reference):
            raise SecretError(problem)
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            value = os.environ.get(name)
            if value is None:
                raise SecretError(f"refers to the environment variable {name}, which is not set on this worker")
            return value
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
        return text.removesuffix("\n").removesuffix("\r")

    def path(self, reference: str) -> Path:
        """The regular file that a `file:` reference names, links resolved, inside the directory. Raises SecretError."""
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


class Scrubber:
    """Replaces known secrets in text that others wrote, as they are and as they are usually quoted back.

    Known forms: plain, percent-encoded, as a JSON string, as HTML, as base64. Pass "user:password" for the credentials
    of basic auth, whose base64 is what goes over the wire.
    """

    __slots__ = ("_forms", "_pattern")

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a password that starts with another must not leave its tail behind.
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms)), re.IGNORECASE) if forms else None

    def scrub(self, text: str, *, cut: bool = False) -> str:
        """`text` without the secrets. `cut`: the text ends early, so that a secret's beginning may be its end."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(REDACTED, text)
        if cut:
            kept = min((len(text) - _overlap(text, form) for form in self._forms), default=len(text))
            if kept < len(text):
                text = text[:kept] + REDACTED
        return text

    def __repr__(self) -> str:
        return "Scrubber(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Scrubber holds secrets and does not pickle")


def _overlap(text: str, form: str) -> int:
    """How many characters at the end of `text` begin `form`, if they are enough to matter."""
    for length in range(min(len(form) - 1, len(text)), _CUT_MINIMUM - 1, -1):
        if text[-length:].lower() == form[:length].lower():
            return length
    return 0


def _forms(secret: str) -> set[str]:
    data = secret.encode()
    in_base64 = base64.b64encode(data).decode()
    in_url_base64 = base64.urlsafe_b64encode(data).decode()
    forms = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        html.escape(secret, quote=False),
        html.escape(secret).replace("&#x27;", "&#39;"),
        in_base64,
        in_base64.rstrip("="),
        in_url_base64,
        in_url_base64.rstrip("="),
    }
    return forms | {form.replace("/", "\\/") for form in forms}
