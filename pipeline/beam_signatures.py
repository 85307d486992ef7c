"""What Beam reads of a step is read once: the signature of each method, and whether a class has state.

To see whether a DoFn has state, Beam inspects all of its some thirty methods, and does so about eight times for each
DoFn, while it builds a graph and runs it: more than half of the processor time of a short run. What it finds for a
class is another sixth of what is left.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from apache_beam.transforms import core, userstate

Arguments = tuple[list[str], list[Any]]
"""The names of a function's arguments, and the values of its defaults."""
Specs = tuple[set[Any], set[Any]]
"""The state and the timers of a DoFn."""


def remember_signatures() -> None:
    """Let Beam remember, in this process and from now on, what it has read of a method's signature and of a class."""
    read = getattr(core, "get_function_args_defaults", None)
    # Another version of Beam may have no such function. It is only slower then.
    if read is not None and not isinstance(read, RememberedArguments):
        remembered: Any = RememberedArguments(read)
        core.get_function_args_defaults = remembered
    find = getattr(userstate, "get_dofn_specs", None)
    if find is not None and not isinstance(find, RememberedSpecs):
        specs: Any = RememberedSpecs(find)
        userstate.get_dofn_specs = specs


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


class RememberedSpecs:
    """Beam's `get_dofn_specs`, which looks through the methods of a class of DoFns once.

    Args:
        find: gives the state and the timers of any DoFn; raises ValueError if they contradict each other.
    """

    def __init__(self, find: Callable[[Any], Specs]) -> None:
        self._find = find
        self._known: dict[type, Specs] = {}

    def __call__(self, step: Any) -> Specs:
        """The state and the timers that any method of `step` takes."""
        # What wraps a function may have a method that its class does not have.
        if any(isinstance(value, MethodType) for value in vars(step).values()):
            return self._find(step)
        known = self._known.get(type(step))
        if known is None:
            known = self._known[type(step)] = self._find(step)
        states, timers = known
        return set(states), set(timers)
