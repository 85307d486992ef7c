"""Secrets: held so that they cannot slip into a log, an error, a repr or the job graph."""

from typing import NoReturn


class Secret:
    """A string that shows itself only when asked to, and does not pickle (forwarders.md section 1)."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not pickle: load the forwarders on the worker instead")
