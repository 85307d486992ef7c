"""A query judged clause by clause, for whoever writes it: what each clause says of a document, and which decide."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transforms.query.explain import MATCH_RESULTS, Evaluation, MatchResult, values_at
from transforms.query.nodes import And, Field, Node, Not, Or
from transforms.query.query import Query

MOST = 200
"""Clauses that are told of one query. Nobody reads more, and a query may hold tens of thousands."""


@dataclass(frozen=True, slots=True)
class JudgedClause:
    """A clause of a query, and what it says of a document.

    Attributes:
        text: as the query has it; of several that are joined, how they are joined.
        outcome: what it says.
        decides: whether the outcome of the query rests on it.
        found: what the document holds at its path; "" where clauses are joined.
        children: the clauses that are joined.
    """

    text: str
    outcome: MatchResult
    decides: bool
    found: str = ""
    children: "tuple[JudgedClause, ...]" = ()


def judged_clauses(query: Query, document: Any) -> JudgedClause:
    """The clauses of a query, judged for a document. What decides is what `Query.explain` names.

    The first `MOST` clauses are told, and of what is behind them none.

    Raises:
        RecursionError: the document is nested deeper than can be looked through.
    """
    return _Judge(Evaluation({})).clause(query.node, document, decides=True)


@dataclass(slots=True)
class _Judge:
    evaluation: Evaluation
    left: int = MOST

    def clause(self, node: Node, document: Any, *, decides: bool) -> JudgedClause:
        outcome = self._outcome(node, document)
        if isinstance(node, Not) and node.clause.operator == "$nor":
            inner = node.child
            assert isinstance(inner, Or)  # noqa: S101 - the parser makes nothing else of $nor
            return JudgedClause("none of", outcome, decides, children=self._children(inner, document, decides=decides))
        fields = _fields(node)
        # Of one clause the parser makes several nodes where an id or a name may be read in two ways.
        first = next(fields, None)
        if first is not None and (isinstance(node, Not) or all(field.clause is first.clause for field in fields)):
            text = node.clause.text if isinstance(node, Not) else first.clause.text
            return JudgedClause(text, outcome, decides, values_at(first, document))
        assert isinstance(node, And | Or)  # noqa: S101 - a negation without a field is a $nor
        text = "all of" if isinstance(node, And) else "any of"
        return JudgedClause(text, outcome, decides, children=self._children(node, document, decides=decides))

    def _children(self, node: And | Or, document: Any, *, decides: bool) -> tuple[JudgedClause, ...]:
        outcomes = [self._outcome(child, document) for child in node.children]
        deciding = _deciding(isinstance(node, Or), outcomes)
        told: list[JudgedClause] = []
        for place, child in enumerate(node.children):
            if self.left <= 0:
                break
            self.left -= 1
            told.append(self.clause(child, document, decides=decides and place in deciding))
        return tuple(told)

    def _outcome(self, node: Node, document: Any) -> MatchResult:
        return MATCH_RESULTS[self.evaluation.judge(node, document).truth]


def _deciding(is_or: bool, outcomes: list[MatchResult]) -> range:
    """The places of the children on which the outcome of all rests: the first that settles it, or every one."""
    settles = MatchResult.MATCH if is_or else MatchResult.NO_MATCH
    for wanted in (settles, MatchResult.UNDECIDED):
        if wanted in outcomes:
            place = outcomes.index(wanted)
            return range(place, place + 1)
    return range(len(outcomes))


def _fields(node: Node) -> Iterator[Field]:
    if isinstance(node, Field):
        yield node
    elif isinstance(node, Not):
        yield from _fields(node.child)
    else:
        for child in node.children:
            yield from _fields(child)
