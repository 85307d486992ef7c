"""The login of a live source: by reference, resolved on the worker that reads it."""

from collections.abc import Mapping
from typing import NamedTuple

from transforms.forwarders.secrets import (
    SecretError,
    reference_of_flag_problem,
    resolve_reference_of_flag,
    trimmed,
)
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
    return reference_of_flag_problem(reference, _FORM)


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
    try:
        text = resolve_reference_of_flag(auth)
    except SecretError as error:
        raise SourceError(f"{source}: --input_auth {error}") from None
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise SourceError(f"{source}: --input_auth refers to a text that is not user:password")
    return Login(user, password)
