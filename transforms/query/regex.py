r"""Regular expressions with MongoDB's meaning, in bounded time (docs/spec/mongo-query.md section 7).

The engine is PCRE2, by the package `pcre2`. Its low-level functions are used for three reasons. Only they can switch
off both UCP and ALT_BSUX; with the latter on, `\x{e9}` is read as literal text, and no error says so. Only they can
repeat one search without the JIT. And a search costs 0.3 us with them, and 2 us with the public `Pattern.search`.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from pcre2 import _cy

from transforms.query.errors import UndecidedError

MAX_PATTERN_BYTES = 16_384

_ALT_BSUX = 0x00000002
_NO_JIT = 0x00002000
_DISABLED = int(_cy.CompileOption.UCP) | _ALT_BSUX
_JIT_STACK_EXHAUSTED = -46
_CONTEXT = _cy.create_match_context()
_OPTION_BITS = {
    "i": int(_cy.CompileOption.CASELESS),
    "m": int(_cy.CompileOption.MULTILINE),
    "s": int(_cy.CompileOption.DOTALL),
    "x": int(_cy.CompileOption.EXTENDED),
    "u": 0,
}
# (characters of a text at most, steps). PCRE2 counts the steps anew for each position that a search starts at, so the
# time is steps x length. So a longer text has fewer steps. 50,000 take about 0.15 ms with the JIT and 1 ms without.
_LIMITS = ((4_096, 50_000), (65_536, 10_000), (None, 1_000))
_HEAP_KIB = 65_536
# Of several settings in a pattern PCRE2 takes the last, so a pattern that begins with its own would lift ours.
_OWN_LIMIT = re.compile(r"(?:\(\*[A-Z0-9_=]+\))*\(\*LIMIT_")

Search = Callable[[str], bool]


class RegexError(ValueError):
    """A pattern or its options cannot be used. The text is close to MongoDB's."""


def check_options(options: str) -> None:
    """Raise RegexError unless every letter is one of `imsxu` (MongoDB's error 51108)."""
    for letter in options:
        if letter not in _OPTION_BITS:
            raise RegexError(f"invalid flag in regex options: {letter}")


@functools.lru_cache(maxsize=4096)
def compile_search(pattern: str, options: str) -> Search:
    """A function that says whether the pattern is found anywhere in a text.

    The function raises UndecidedError when it hits a limit, and when the text is no valid Unicode.

    Raises:
        RegexError: the pattern or its options cannot be used.
    """
    check_options(options)
    if "\0" in pattern:
        raise RegexError("Regular expression cannot contain an embedded null byte")
    try:
        size = len(pattern.encode())
    except UnicodeEncodeError:
        raise RegexError("Regular expression is invalid: it holds a lone surrogate") from None
    if size > MAX_PATTERN_BYTES:
        raise RegexError(f"Regular expression is too long: {size} bytes of at most {MAX_PATTERN_BYTES}")
    if _OWN_LIMIT.match(pattern):
        raise RegexError("Regular expression may not set its own match limit")
    bits = 0
    for letter in options:
        bits |= _OPTION_BITS[letter]
    code = _compile(pattern, bits, _LIMITS[0][1])
    literal = _literal_search(pattern, options)
    if literal is not None:
        return literal
    required = "" if set(options) & set("ix") else _required_text(pattern.removeprefix("^"))
    return _engine_search(code, pattern, bits, required)


def _compile(pattern: str, bits: int, steps: int) -> Any:
    prefix = f"(*LIMIT_MATCH={steps})(*LIMIT_HEAP={_HEAP_KIB})"
    try:
        return _cy.compile(prefix + pattern, bits, _DISABLED)
    except _cy.PatternError as error:
        position = max(0, int(error.pos) - len(prefix))
        reason = str(error.msg).partition("; ")[2]
        raise RegexError(f"Regular expression is invalid: {reason} (at offset {position})") from None


def _compile_to_machine_code(code: Any) -> None:
    try:
        _cy.jit_compile(code)
    except _cy.LibraryError:
        # It is too large for the JIT, or of a kind that the JIT does not know. The search runs without it.
        return


def _engine_search(short_code: Any, pattern: str, bits: int, required: str) -> Search:
    match = _cy.match
    context = _CONTEXT
    short_limit = _LIMITS[0][0]
    codes: dict[int, Any] = {}
    ready = False

    def code_for(length: int) -> Any:
        for most, steps in _LIMITS:
            if most is None or length <= most:
                if steps not in codes:
                    codes[steps] = _compile(pattern, bits, steps)
                    _compile_to_machine_code(codes[steps])
                return codes[steps]
        raise AssertionError("the last limit has no length")

    def search(text: str) -> bool:
        nonlocal ready
        # Most strings hold no match. This says so in a tenth of the time that a call of the engine takes.
        if required not in text:
            return False
        length = len(text)
        if length <= short_limit:
            if not ready:
                # Not before: of many forwarders most never meet a record that reaches their pattern.
                _compile_to_machine_code(short_code)
                ready = True
            code = short_code
        else:
            code = code_for(length)
        try:
            return match(code, text, length, 0, context, 0)[0] is not None
        except _cy.LibraryError as error:
            if error.code != _JIT_STACK_EXHAUSTED:
                raise UndecidedError from None
        except UnicodeEncodeError:
            raise UndecidedError from None
        try:
            return match(code, text, length, 0, context, _NO_JIT)[0] is not None
        except _cy.LibraryError:
            raise UndecidedError from None

    return search


_PLAIN = re.compile(r"(?:[^\\^$.|?*+()\[\]{}\0]|\\[^A-Za-z0-9\0\x80-\U0010ffff])*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _literal_search(pattern: str, options: str) -> Search | None:
    """The same search by a method of `str`; None if there is none.

    There is one for a pattern that is plain text, but for `^`, `$` and `.*` at its ends.
    """
    if set(options) - set("us"):
        return None
    anchored = pattern.startswith("^")
    body = pattern[1:] if anchored else pattern
    open_end = False
    # `.*` may match nothing, so it changes nothing at an end that is not anchored.
    if not anchored and body.startswith(".*"):
        body = body[2:]
    if body.endswith(".*") and not body.endswith("\\.*"):
        body, open_end = body[:-2], True
    at_end = not open_end and body.endswith("$") and not body.endswith("\\$")
    if at_end:
        body = body[:-1]
    if _PLAIN.fullmatch(body) is None:
        return None
    text = _ESCAPE.sub(r"\1", body)
    if at_end:
        return _ends(text, anchored)
    if anchored:
        return lambda subject: subject.startswith(text)
    return lambda subject: text in subject


def required_prefix(pattern: str, options: str) -> str:
    """A text that every string begins with in which the pattern is found; "" where none is known."""
    if not pattern.startswith("^") or set(options) - set("us"):
        return ""
    return _required_text(pattern[1:])


def _required_text(pattern: str) -> str:
    """The plain text that every match of the pattern begins with; "" where none is known.

    Not for the options `i` and `x`, which change what plain text means.
    """
    run = _PLAIN.match(pattern)
    if run is None or _has_other_branch(pattern):
        return ""
    text = run.group()
    if pattern[run.end() : run.end() + 1] in ("?", "*", "+", "{"):
        # The quantifier is about the last character alone.
        text = text[:-2] if text[-2:-1] == "\\" else text[:-1]
    return _ESCAPE.sub(r"\1", text)


def _has_other_branch(pattern: str) -> bool:
    """Whether there is, or could be, a `|` outside of all groups. Then a `^` is not about what follows the `|`."""
    if "|" not in pattern:
        return False
    if any(sign in pattern for sign in ("[", "\\Q", "(?#", "(*")):
        return True
    depth = 0
    for sign in _ESCAPE.sub("", pattern):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "|" and depth == 0:
            return True
    return False


def _ends(text: str, anchored: bool) -> Search:
    before_newline = text + "\n"
    if anchored:
        return lambda subject: subject in (text, before_newline)
    return lambda subject: subject.endswith((text, before_newline))
