"""What Beam reads of the signatures of a step's methods is read once for each method.

To see whether a DoFn has state, Beam inspects all of its some thirty methods, and does so about eight times for each
DoFn, while it builds a graph and runs it: more than half of the processor time of a short run.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from apache_beam.transforms import core

Arguments = tuple[list[str], list[Any]]
"""The names of a function's arguments, and the values of its defaults."""


def remember_signatures() -> None:
    """Let Beam remember, in this process and from now on, what it has read of the signature of a method."""
    read = getattr(core, "get_function_args_defaults", None)
    # Another version of Beam may have no such function. It is only slower then.
    if read is not None and not isinstance(read, RememberedArguments):
        remembered: Any = RememberedArguments(read)
        core.get_function_args_defaults = remembered


class RememberedArguments:
    """Beam's `get_function_args_defaults`, which reads a method's signature once, whichever object it is bound to.

    Args:
        read: gives the arguments of any function.
    """

    def __init__(self, read: Callable[[Any], Arguments]) -> None:
        self._read = read
        self._known: dict[FunctionType, Arguments] = {}

    def __call__(self, function: Any) -> Arguments:
        """The arguments of `function`, without one that is bound."""
        # Methods belong to classes, of which there are few. Other functions may be made for each step.
        if not isinstance(function, MethodType) or not isinstance(function.__func__, FunctionType):
            return self._read(function)
        known = self._known.get(function.__func__)
        if known is None:
            known = self._known[function.__func__] = self._read(function)
        names, defaults = known
        return list(names), list(defaults)
