"""A compiled query."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from transforms.query.codegen import compile_node
from transforms.query.explain import MATCH_RESULTS, Evaluation, Explanation, Judgement, MatchResult, explanation_of
from transforms.query.nodes import And, ElemMatch, Field, Node, Not, Path, Predicate, Test
from transforms.query.parse import parse_query


class Query:
    """A query of a forwarder, compiled. `compile_query` makes it.

    It pickles as its source, and is compiled again. The rules are those of docs/spec/mongo-query.md.
    """

    __slots__ = ("__weakref__", "_compiled", "_source", "_tests", "node")

    def __init__(self, node: Node, source: str | dict[str, Any]) -> None:
        self.node = node
        self._source = source
        self._compiled: Callable[[Any], bool | None] | None = None
        self._tests: dict[Test, Predicate] = {}

    def matches(self, document: Any) -> bool:
        """Whether the query surely matches: True for MATCH, False for NO_MATCH and for UNDECIDED.

        It never raises. A caller that must not lose an undecided record calls `evaluate` when this is False.
        """
        return (self._compiled or self.compiled())(document) is True

    def compiled(self) -> Callable[[Any], bool | None]:
        """The function behind `matches`. It returns None for UNDECIDED. It is generated when it is first asked for."""
        if self._compiled is None:
            self._compiled = compile_node(self.node, self._truth)
        return self._compiled

    def evaluate(self, document: Any) -> MatchResult:
        """MATCH, NO_MATCH, or UNDECIDED where a regular expression hit its limit and the answer depends on it.

        Logic has three values: not undecided is undecided, a False decides an AND, and a True decides an OR
        (docs/spec/mongo-query.md section 7). It never raises.
        """
        return MATCH_RESULTS[self._judge(document).truth]

    def explain(self, document: Any) -> Explanation:
        """The result, the clause that decided it, and what the document holds there. It never raises."""
        try:
            return explanation_of(self._judge(document))
        except RecursionError:
            return explanation_of(_EXHAUSTED)

    def clauses_that_hold(self, document: Any) -> int:
        """How many of the clauses that the query joins by AND hold: the more, the nearer the document is to a match."""
        parts = self.node.children if isinstance(self.node, And) else (self.node,)
        evaluation = Evaluation(self._tests)
        try:
            return sum(evaluation.judge(part, document).truth is True for part in parts)
        except RecursionError:
            return 0

    @property
    def fields(self) -> frozenset[str]:
        """The names of the top-level fields that the query can look at."""
        return frozenset(path[0] for path in _paths(self.node, ()))

    @property
    def paths(self) -> frozenset[str]:
        """All dotted paths that the query can look at. Those inside `$elemMatch` begin with the path of the array."""
        return frozenset(".".join(part.replace(".", "&46;") for part in path) for path in self.split_paths)

    @property
    def split_paths(self) -> frozenset[Path]:
        """As `paths`, each as the names on its way."""
        return frozenset(_paths(self.node, ()))

    def __reduce__(self) -> tuple[Any, ...]:
        return compile_query, (self._source,)

    def __repr__(self) -> str:
        return f"compile_query({self._source!r})"

    def _truth(self, document: Any) -> bool | None:
        return self._judge(document).truth

    def _judge(self, document: Any) -> Judgement:
        try:
            return Evaluation(self._tests).judge(self.node, document)
        except RecursionError:
            # The caller's own stack was nearly used up. No answer is better than a wrong one.
            return _EXHAUSTED


_EXHAUSTED = Judgement(None, "the stack is exhausted")


def compile_query(query: str | Mapping[str, Any] | None) -> Query:
    """Compile a query (docs/spec/mongo-query.md sections 2, 6, 8, 10 and 11).

    A text is compiled once for all who hold its query at the same time: a launcher that has checked the documents, and
    the steps that run in its process.

    Args:
        query: a text in JSON, or a mapping of plain values or Extended JSON. None and a blank text match everything.

    Raises:
        QueryError: it breaks a rule. The error says which operator, where it stands, and what is allowed.
    """
    if not isinstance(query, str):
        return Query(*parse_query(query))
    compiled = _held.get(query)
    if compiled is None:
        compiled = _held[query] = Query(parse_query(query)[0], query)
    return compiled


_held: WeakValueDictionary[str, Query] = WeakValueDictionary()
"""By its text, each query that somebody holds."""


def _paths(node: Node, prefix: Path) -> Iterator[Path]:
    if isinstance(node, Field):
        path = (*prefix, *node.path)
        yield path
        if isinstance(node.test, ElemMatch):
            yield from _paths(node.test.condition, path)
    elif isinstance(node, Not):
        yield from _paths(node.child, prefix)
    else:
        for child in node.children:
            yield from _paths(child, prefix)
