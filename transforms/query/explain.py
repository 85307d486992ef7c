"""A query judged clause by clause, with three values: for explanations, and where a pattern hit its limit.

It is slower than the compiled function, and independent of it. Both follow docs/spec/mongo-query.md sections 3 to 6.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transforms.query.elements import as_object, element_test
from transforms.query.errors import UndecidedError, one_line
from transforms.query.nodes import (
    And,
    ElemMatch,
    Field,
    Found,
    In,
    Node,
    Not,
    Or,
    Predicate,
    Test,
    takes_whole_arrays,
)
from transforms.query.paths import expand
from transforms.query.regex import Search
from transforms.query.values import MISSING, show

MAX_LIMITS_HIT = 4
"""A search that hit its limit this often on one document is not run on that document again.

A hostile pattern must not cost the time of its limit for every element of an array. It may hit its limit more than
once, since another element may match surely.
"""


class MatchResult(enum.Enum):
    """What a query says of a document. UNDECIDED: a pattern hit its limit, and the answer depends on it."""

    MATCH = "match"
    NO_MATCH = "no match"
    UNDECIDED = "undecided"


MATCH_RESULTS = {True: MatchResult.MATCH, False: MatchResult.NO_MATCH, None: MatchResult.UNDECIDED}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a query matched a document, or did not.

    Attributes:
        outcome: what the query says.
        clause: the clause that decided, as the query has it.
        path: its dotted path; empty when several clauses decided together.
        found: what the document holds there.
    """

    outcome: MatchResult
    clause: str
    path: str
    found: str

    @property
    def text(self) -> str:
        """The explanation in one line."""
        found = f" (found {self.found})" if self.found else ""
        return one_line(f"{self.outcome.value}: {self.clause}{found}")

    @property
    def has_value(self) -> bool:
        """Whether the document holds anything at the path of the clause."""
        return bool(self.found) and self.found != repr(MISSING)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was judged of a node.

    Attributes:
        truth: None for undecided.
        clause: the text of the clause that the truth depends on.
        field: the field of that clause, if it is one field.
        document: what that field was looked up in.
    """

    truth: bool | None
    clause: str
    field: Field | None = None
    document: Any = None


@dataclass(slots=True)
class Evaluation:
    """One evaluation of one document.

    Attributes:
        tests: the functions of tests, which the evaluations of one query share.
        spent: how often each search has hit its limit on this document.
    """

    tests: dict[Test, Predicate]
    spent: dict[Search, int] = field(default_factory=dict)

    def judge(self, node: Node, document: Any) -> Judgement:
        """Judge a node for a document, or for an item of `$elemMatch`."""
        if isinstance(node, Field):
            return Judgement(self._field(node, document), node.clause.text, node, document)
        if isinstance(node, Not):
            inner = self.judge(node.child, document)
            truth = None if inner.truth is None else not inner.truth
            clause = node.clause
            text = f"not ({inner.clause})" if clause.operator == "$nor" else clause.text
            return Judgement(truth, text, inner.field, inner.document)
        return self._several(node, document)

    def _several(self, node: And | Or, document: Any) -> Judgement:
        decisive = isinstance(node, Or)
        judgements: list[Judgement] = []
        for child in node.children:
            judgement = self.judge(child, document)
            if judgement.truth is decisive:
                return judgement
            judgements.append(judgement)
        for judgement in judgements:
            if judgement.truth is None:
                return judgement
        if len(judgements) == 1:
            return judgements[0]
        return Judgement(not decisive, _describe_all(node, len(judgements)))

    def _field(self, node: Field, document: Any) -> bool | None:
        undecided = False
        for element in expand(document, node.path, not takes_whole_arrays(node.test)):
            truth = self._test(node.test, element)
            if truth:
                return True
            undecided = undecided or truth is None
        return None if undecided else False

    def _test(self, test: Test, element: Any) -> bool | None:
        if isinstance(test, ElemMatch):
            return self._elem_match(test, element)
        if isinstance(test, Found) and isinstance(element, str):
            return self._search(test.search, element)
        if isinstance(test, In) and isinstance(element, str) and element not in test.values:
            truths = [self._search(pattern.search, element) for pattern in test.patterns]
            return True if True in truths else None if None in truths else False
        if test not in self.tests:
            self.tests[test] = element_test(test, _no_condition)
        return self.tests[test](element)

    def _elem_match(self, test: ElemMatch, element: Any) -> bool | None:
        if not isinstance(element, list):
            return False
        undecided = False
        for item in element:
            subject = item if test.of_items else as_object(item)
            if subject is None and not test.of_items:
                continue
            truth = self.judge(test.condition, subject).truth
            if truth:
                return True
            undecided = undecided or truth is None
        return None if undecided else False

    def _search(self, search: Search, text: str) -> bool | None:
        if self.spent.get(search, 0) >= MAX_LIMITS_HIT:
            return None
        try:
            return search(text)
        except UndecidedError:
            self.spent[search] = self.spent.get(search, 0) + 1
            return None


def _no_condition(_: Node) -> Callable[[Any], bool]:
    raise AssertionError("$elemMatch is judged item by item")


def _describe_all(node: And | Or, count: int) -> str:
    if isinstance(node, Or):
        return f"none of {count} alternatives holds" if count else "an empty list never matches"
    return f"all {count} clauses hold" if count else "an empty query matches everything"


def explanation_of(judgement: Judgement) -> Explanation:
    """The explanation that the judgement of a whole query amounts to."""
    decisive = judgement.field
    path = ".".join(decisive.path) if decisive is not None else ""
    found = values_at(decisive, judgement.document) if decisive is not None else ""
    return Explanation(MATCH_RESULTS[judgement.truth], judgement.clause, path, found)


def values_at(node: Field, document: Any) -> str:
    """What a document holds where a field's path leads, in short."""
    shown: list[str] = []
    for element in expand(document, node.path, leaf=False):
        if len(shown) == 3:
            shown.append("...")
            break
        shown.append(show(element))
    return ", ".join(shown) or repr(MISSING)
