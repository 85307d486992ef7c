"""What is raised when a query cannot be used."""

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """`text` for a log. What would break the line, or has no encoding, is written as an escape."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class QueryError(ValueError):
    """A query breaks a rule of the language. Raised when it is compiled, never when it is matched.

    The rules and the texts are those of docs/spec/mongo-query.md section 10.

    Args:
        message: what is wrong, in MongoDB's words where it has some.
        operator: the operator at fault; the path or the value where there is no operator.
        where: the way to it from the top of the query, such as `$or > [0] > a`.
        allowed: what would have been accepted.
    """

    def __init__(self, message: str, *, operator: str = "", where: str = "", allowed: str = "") -> None:
        self.message = message
        self.operator = operator
        self.where = where
        self.allowed = allowed
        text = message
        if where:
            text += f" (at {where})"
        if allowed:
            text += f"; allowed: {allowed}"
        super().__init__(one_line(text))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.message, self.operator, self.where, self.allowed)


def _rebuild(message: str, operator: str, where: str, allowed: str) -> QueryError:
    return QueryError(message, operator=operator, where=where, allowed=allowed)


class UndecidedError(Exception):
    """A regular expression hit its limit, so there is no answer. It never leaves this package."""
