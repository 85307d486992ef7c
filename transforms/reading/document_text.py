"""The statement inside a document of Learning Locker, as the text that was stored there: names with dots, plain values.

MongoDB takes no dot in a name, so Learning Locker stores `&46;` in its place. mongoexport writes numbers and dates as
Extended JSON. Both are undone in the text itself, so that the spelling of every number and string stays.
"""

import json
import re

import orjson

from transforms.reading import extended_json
from transforms.reading.activity import ActivityError

_DOT = b"46;"
_ESCAPED_AMPERSAND = b"\\u0026"
# Between two strings there is no ampersand, and a quote inside of a string has a backslash before it: so what matches
# is a name, or the end of one.
_NAME_WITH_DOT = re.compile(rb'"[^"\\]*+"(?=\s*:)')
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"(\s*:)?')
# A quote inside of a string has a backslash before it: so this matches outside of strings alone.
_WRAPPER = re.compile(rb'\{\s*"\$(?=[a-zA-Z])')
_NUMBER = re.compile(
    rb'\{\s*"\$number(?:Int|Long|Double|Decimal)"\s*:\s*"(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)"\s*\}'
)
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def plain_statement(text: bytes) -> bytes:
    """A statement as Learning Locker was sent it.

    Args:
        text: of the statement in its document. It is a JSON object, whose every byte has been checked.

    Raises:
        ActivityError: a value of Extended JSON in it cannot be JSON, such as NaN.
    """
    if b'"$' in text:
        text = _without_types(text)
    if _DOT not in text:
        return text
    if b"\\" not in text:
        return _NAME_WITH_DOT.sub(_with_dots, text)
    return _STRING.sub(lambda string: _with_dots(string) if string[1] is not None else string[0], text)


def _with_dots(name: re.Match[bytes]) -> bytes:
    return name[0].replace(b"&46;", b".").replace(_ESCAPED_AMPERSAND + _DOT, b".")


def _without_types(text: bytes) -> bytes:
    parts: list[bytes] = []
    done = 0
    while found := _WRAPPER.search(text, done):
        number = _NUMBER.match(text, found.start())
        if number is not None:
            parts += text[done : found.start()], number[1]
            done = number.end()
            continue
        # Its end is looked for in a text of one character for each byte.
        end = found.start() + _scan(text[found.start() :].decode("latin-1"))[1]
        value = text[found.start() : end]
        try:
            converted = extended_json.plain(orjson.loads(value))
        except extended_json.ExtendedJsonError as error:
            raise ActivityError(f"statement: {error}") from None
        except (orjson.JSONDecodeError, RecursionError):
            converted = None
        if isinstance(converted, dict) or converted is None:
            # No value of Extended JSON, but an object with a name that begins so. What is in it may be one.
            parts.append(text[done : found.end()])
            done = found.end()
        else:
            parts += text[done : found.start()], orjson.dumps(converted)
            done = end
    return b"".join((*parts, text[done:]))
