"""What is raised when a query cannot be used."""


class QueryError(ValueError):
    """A query that breaks a rule of the language; raised when it is compiled, never when it is matched.

    `operator` is the operator at fault (or the path or value where there is none), `where` the way to it from
    the top of the query, `allowed` what would have been accepted. Source: spec/mongo-query.md, section 10.
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
        super().__init__(text)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.message, self.operator, self.where, self.allowed)


def _rebuild(message: str, operator: str, where: str, allowed: str) -> QueryError:
    return QueryError(message, operator=operator, where=where, allowed=allowed)


class UndecidedError(Exception):
    """A regular expression hit its limit: the answer is unknown. Never leaves this package."""
