"""What is raised when a query cannot be used."""

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """A text for logs: what would break the line, or cannot be encoded, is written as an escape."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class QueryError(ValueError):
    """A query that breaks a rule of the language; raised when it is compiled, never when it is matched.

    `operator` is the operator at fault (or the path or value where there is none), `where` the way to it from
    the top of the query, `allowed` what would have been accepted. Source: docs/spec/mongo-query.md section 10.
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
    """A regular expression hit its limit: the answer is unknown. Never leaves this package."""
