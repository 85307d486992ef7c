"""Apache Thrift's compact protocol, as far as it takes to look at what a Parquet file says of itself.

Nothing is made of what is only passed over, and nothing is believed: a list that says it has more entries than there
are bytes is an error at once. https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from typing import Any

from transforms.reading.limits import TooLargeError

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_I64 = 6
_INTEGERS = frozenset({4, 5, _I64})
_SIZES = {BYTE: 1, DOUBLE: 8, 13: 16}
"""Bytes of values of which all have as many; 13 is a UUID."""
_DEEPEST = 32
"""Levels of structs and lists. Parquet has about eight."""


class ThriftError(ValueError):
    """Bytes that are not Thrift, or are not all there."""


class Thrift:
    """Reads a struct from bytes, once, from its beginning on.

    Args:
        content: begins with the struct.
        most_structs: how many structs there may be in it.

    Attributes:
        at: where the next byte is.
        structs: how many structs were met.
    """

    def __init__(self, content: bytes, most_structs: int) -> None:
        self._content = content
        self._most_structs = most_structs
        self._level = 0
        self.at = 0
        self.structs = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """The number and the type of each field of the struct that begins here. Before going on, the value of each has
        to be read or passed over.

        Raises:
            ThriftError: the bytes end, or are no struct.
            TooLargeError: there are too many structs, or they are nested too deep.
        """
        self.structs += 1
        if self.structs > self._most_structs:
            raise TooLargeError(f"it has more than {self._most_structs} parts")
        self._enter()
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self.integer()
            yield number, header & 15
        self._level -= 1

    def integer(self, type_: int = 5) -> int:
        """A number. Of one that is said to have 32 bits or fewer, no more than 32 count, as in Thrift's own reader."""
        number = self._varint()
        if type_ != _I64:
            number &= 0xFFFFFFFF
        return (number >> 1) ^ -(number & 1)

    def binary(self) -> bytes:
        """Bytes, or text."""
        size = self._size()
        self.at += size
        return self._content[self.at - size : self.at]

    def entries(self) -> tuple[int, int]:
        """How many entries the list has that begins here, and of which type."""
        header = self._byte()
        size = header >> 4
        if size == 15:
            size = self._size()
        return size, header & 15

    def value(self, type_: int) -> Any:
        """A value: a number, a boolean, bytes, or a struct as a dict by the numbers of its fields; else None."""
        if type_ in _INTEGERS:
            return self.integer(type_)
        if type_ in (TRUE, FALSE):
            return type_ == TRUE
        if type_ == BINARY:
            return self.binary()
        if type_ == STRUCT:
            return {number: self.value(each) for number, each in self.fields()}
        self.skip(type_)
        return None

    def skip(self, type_: int) -> None:
        """Pass over a value."""
        if type_ in _INTEGERS:
            self._varint()
        elif type_ == BINARY:
            size = self._size()
            self.at += size
        elif type_ == STRUCT:
            for _, each in self.fields():
                self.skip(each)
        elif type_ in (LIST, SET):
            size, each = self.entries()
            self._skip_entries([each], size)
        elif type_ == MAP:
            size = self._size()
            if size:
                types = self._byte()
                self._skip_entries([types >> 4, types & 15], size)
        elif type_ in _SIZES:
            self.at += _SIZES[type_]
        elif type_ not in (TRUE, FALSE):
            raise ThriftError(f"the type {type_} is not known")

    def _skip_entries(self, types: list[int], count: int) -> None:
        self._enter()
        for _ in range(count):
            for type_ in types:
                # In a list a boolean takes a byte.
                self.skip(BYTE if type_ in (TRUE, FALSE) else type_)
        self._level -= 1

    def _enter(self) -> None:
        self._level += 1
        if self._level > _DEEPEST:
            raise TooLargeError(f"it is nested deeper than {_DEEPEST} levels")

    def _size(self) -> int:
        """How many bytes or entries follow. No entry takes less than a byte."""
        size = self._varint() & 0xFFFFFFFF
        if size > len(self._content) - self.at:
            raise ThriftError(f"{size} bytes or entries, where {len(self._content) - self.at} bytes are left")
        return size

    def _byte(self) -> int:
        try:
            byte = self._content[self.at]
        except IndexError:
            raise ThriftError("the bytes end within it") from None
        self.at += 1
        return byte

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ThriftError("a number of more than 64 bits")
