"""Which elements a path leads to (docs/spec/mongo-query.md section 3).

There are two forms of it. `expand` is a plain generator, for explanations and for undecided cases. `Walker` makes
functions that stop at the first element that passes a test.
"""

from collections.abc import Iterator
from typing import Any

from transforms.query.nodes import Path, Predicate
from transforms.query.values import MISSING


def as_index(name: str) -> int | None:
    """The index of an array that a name stands for: digits without a leading zero. None if the name is no index."""
    if name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and len(name) <= 10:
        return int(name)
    return None


def expand(value: Any, path: Path, leaf: bool) -> Iterator[Any]:
    """The elements that a path leads to.

    Args:
        value: where the path starts.
        path: names. The empty path leads to `value` itself, which is the item that `$elemMatch` tests.
        leaf: whether an array at the end of the path gives its items as elements, before itself.
    """
    if not path:
        yield value
        return
    for position, name in enumerate(path):
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
        if position == len(path) - 1:
            if leaf and isinstance(value, list):
                yield from value
            yield value
            return
        if isinstance(value, list):
            yield from _expand_array(value, path[position + 1 :], leaf)
            return
        if not isinstance(value, dict):
            yield MISSING
            return


def _expand_array(array: list[Any], path: Path, leaf: bool) -> Iterator[Any]:
    """As `expand`, from an array: by each object in it, and by the item whose index the first name is."""
    index = as_index(path[0])
    rest = path[1:]
    for position, item in enumerate(array):
        hit = position == index
        if isinstance(item, dict):
            yield from expand(item, path, leaf)
            if hit:
                yield from expand(item, rest, leaf)
        elif hit and not rest:
            yield item
        elif hit and isinstance(item, list):
            yield from _expand_array(item, rest, leaf)


class Walker:
    """The rule "some element that the path leads to passes the test", as a function for each position of the path.

    How deep these functions go depends on the length of the path, and never on the document.

    Args:
        path: names.
        test: of one element.
        leaf: as for `expand`.
    """

    def __init__(self, path: Path, test: Predicate, leaf: bool) -> None:
        self.test = test
        self.leaf = leaf
        self.when_missing = test(MISSING) if path else False
        self._inside: list[Predicate] = []
        self._in_array: list[Predicate] = []
        following: tuple[Predicate, Predicate] | None = None
        for name in reversed(path):
            inside = self._last(name) if following is None else self._step(name, *following)
            in_array = self._items(as_index(name), inside, following)
            following = inside, in_array
            self._inside.insert(0, inside)
            self._in_array.insert(0, in_array)

    def inside(self, position: int) -> Predicate:
        """The function for an object that was reached before the name at `position`."""
        return self._inside[position] if self._inside else self.test

    def at(self, position: int) -> Predicate:
        """The function for any value that was reached before the name at `position`."""
        inside, in_array, when_missing = self._inside[position], self._in_array[position], self.when_missing

        def walk(value: Any) -> bool:
            if isinstance(value, list):
                return in_array(value)
            return inside(value) if isinstance(value, dict) else when_missing

        return walk

    def end(self) -> Predicate:
        """The function for the value that was reached behind the last name."""
        test = self.test
        if not self.leaf:
            return test

        def at_end(value: Any) -> bool:
            if isinstance(value, list):
                for item in value:
                    if test(item):
                        return True
            return test(value)

        return at_end

    def _last(self, name: str) -> Predicate:
        test = self.test
        if not self.leaf:
            return lambda fields: test(fields.get(name, MISSING))

        def last(fields: Any) -> bool:
            value = fields.get(name, MISSING)
            if isinstance(value, list):
                for item in value:
                    if test(item):
                        return True
            return test(value)

        return last

    def _step(self, name: str, inside: Predicate, in_array: Predicate) -> Predicate:
        when_missing = self.when_missing

        def step(fields: Any) -> bool:
            value = fields.get(name)
            if isinstance(value, dict):
                return inside(value)
            return in_array(value) if isinstance(value, list) else when_missing

        return step

    def _items(self, index: int | None, inside: Predicate, following: tuple[Predicate, Predicate] | None) -> Predicate:
        if index is None:

            def objects(array: Any) -> bool:
                for item in array:  # noqa: SIM110 - a generator costs more than most arrays take
                    if isinstance(item, dict) and inside(item):
                        return True
                return False

            return objects
        test = self.test

        def hit(item: Any) -> bool:
            if following is None:
                return test(item)
            if isinstance(item, dict):
                return following[0](item)
            return isinstance(item, list) and following[1](item)

        def items(array: Any) -> bool:
            for position, item in enumerate(array):
                if isinstance(item, dict) and inside(item):
                    return True
                if position == index and hit(item):
                    return True
            return False

        return items
