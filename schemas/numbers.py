"""Numbers in a message, spelled by a rule of our own: a record's id holds a hash of its message's bytes.

The encoders of JSON spell a number by the shortest digits that read back as the same double, and agree on it where no
exponent is needed. They do not agree on when one is needed and how it is written, and change that in patch releases.
"""

from decimal import Decimal
from typing import Any

import orjson

_LEAST_EXPONENT, _EXPONENT_BEYOND = -5, 16
_LEAST_PLAIN, _PLAIN_BELOW = 1e-4, 1e15


def number_text(number: float) -> str:
    """A finite double as a message spells it: 0.00001 and 1500000000000000.5, but 1e-6, 1.5e-7, 1e16 and 1e21."""
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is no number in JSON")
    text = "".join(map(str, digits))
    leading = len(text) + exponent - 1  # the power of ten of the first digit
    if not any(digits):
        spelled = "0"
    elif leading < _LEAST_EXPONENT or leading >= _EXPONENT_BEYOND:
        spelled = f"{text[0]}.{text[1:]}".rstrip(".") + f"e{leading}"
    elif leading < 0:
        spelled = "0." + "0" * (-leading - 1) + text
    elif exponent >= 0:
        spelled = text + "0" * exponent
    else:
        spelled = f"{text[: leading + 1]}.{text[leading + 1 :]}"
    return "-" + spelled if sign else spelled


def spelled_alike(number: float | None) -> bool:
    """Whether every encoder spells `number` as `number_text` does."""
    return type(number) is not float or number == 0 or _LEAST_PLAIN <= abs(number) < _PLAIN_BELOW


def spelled(value: Any) -> Any:
    """A JSON value for orjson to encode, with numbers that it might spell in another way as they are to be spelled."""
    if isinstance(value, float):
        return value if spelled_alike(value) else orjson.Fragment(number_text(value))
    if isinstance(value, dict):
        return {name: spelled(entry) for name, entry in value.items()}
    return [spelled(entry) for entry in value] if isinstance(value, list) else value
