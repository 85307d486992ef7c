"""The login of a live source: by reference, resolved on the worker that reads it."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from transforms.forwarders.secrets import References, SecretError, is_reference, trimmed
from transforms.sources.base import SourceError

_FORM = "env:NAME or file:PATH, of a text user:password"


class Login(NamedTuple):
    """A user and a password. Its repr does not show them."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(***)"


def reference_problem(reference: str) -> str | None:
    """What is wrong with the form of `--input_auth`; None if nothing is. The text does not repeat it."""
    if not is_reference(reference):
        return f"is no reference to a secret: give {_FORM}; a secret itself does not belong in a flag"
    scheme, _, name = reference.partition(":")
    if not name or (scheme == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        return f"is not a reference of the form {_FORM}"
    return None


def login(source: str, auth: str | None, variables: tuple[str, str], environment: Mapping[str, str]) -> Login | None:
    """The login that a reference or two variables give; None where nothing is given at all.

    Args:
        source: its name, for errors.
        auth: the reference (`Access.auth`); None: the variables count.
        variables: the names of the variables that hold user and password.
        environment: holds the variables.

    Raises:
        SourceError: the reference cannot be resolved, or only one of the variables is set.
    """
    if auth is not None:
        return _of_reference(source, auth)
    user, password = (trimmed(environment.get(name, "")) for name in variables)
    if bool(user) != bool(password):
        raise SourceError(f"{source}: {variables[0]} and {variables[1]} go together, and only one of them is set")
    return Login(user, password) if user else None


def _of_reference(source: str, auth: str) -> Login:
    # The operator who starts the job may name any variable and any file, unlike a forwarder's document.
    rules = References(env_prefix=auth.removeprefix("env:") or "_", directory="/")
    try:
        if auth.startswith("file:") and not auth.startswith("file:/"):
            raise SecretError("names a relative path: give an absolute one")
        text = rules.resolve(auth)
    except SecretError as error:
        raise SourceError(f"{source}: --input_auth {error}") from None
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise SourceError(f"{source}: --input_auth refers to a text that is not user:password")
    return Login(user, password)
