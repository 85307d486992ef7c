"""Three-valued evaluation, clause by clause: explanations, and the answer where a pattern hit its limit.

Slower than the compiled function and independent of it; both follow docs/spec/mongo-query.md sections 3 to 6.
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

# A search that hit its limit this often on one document is not run on it again: a hostile pattern must not
# cost a limit for every element of an array. Not once, since another element may match surely.
MAX_LIMITS_HIT = 4


class MatchResult(enum.Enum):
    """What a query says of a document; UNDECIDED: a pattern hit its limit, and the answer hangs on it."""

    MATCH = "match"
    NO_MATCH = "no match"
    UNDECIDED = "undecided"


MATCH_RESULTS = {True: MatchResult.MATCH, False: MatchResult.NO_MATCH, None: MatchResult.UNDECIDED}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a query matched a document or not.

    `clause` is the clause that decided, as in the query; `path` its dotted path, empty when several clauses
    decided together; `found` what the document holds there.
    """

    outcome: MatchResult
    clause: str
    path: str
    found: str

    @property
    def text(self) -> str:
        """One line for a reader."""
        found = f" (found {self.found})" if self.found else ""
        return one_line(f"{self.outcome.value}: {self.clause}{found}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Judgement:
    """The truth of a node (None: undecided) and the one clause it hangs on, if it is one."""

    truth: bool | None
    clause: str
    field: Field | None = None
    document: Any = None


@dataclass(slots=True)
class Evaluation:
    """One evaluation of one document."""

    tests: dict[Test, Predicate]
    # How often each search hit its limit on this document.
    spent: dict[Search, int] = field(default_factory=dict)

    def judge(self, node: Node, document: Any) -> Judgement:
        """The truth of a node for a document or an item of `$elemMatch`."""
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
        verdicts: list[Judgement] = []
        for child in node.children:
            verdict = self.judge(child, document)
            if verdict.truth is decisive:
                return verdict
            verdicts.append(verdict)
        for verdict in verdicts:
            if verdict.truth is None:
                return verdict
        if len(verdicts) == 1:
            return verdicts[0]
        return Judgement(not decisive, _describe_all(node, len(verdicts)))

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


def explanation_of(verdict: Judgement) -> Explanation:
    """The explanation that a verdict on a whole query amounts to."""
    at = verdict.field
    path = ".".join(at.path) if at is not None else ""
    found = _found(at, verdict.document) if at is not None else ""
    return Explanation(MATCH_RESULTS[verdict.truth], verdict.clause, path, found)


def _found(at: Field, document: Any) -> str:
    shown: list[str] = []
    for element in expand(document, at.path, leaf=False):
        if len(shown) == 3:
            shown.append("...")
            break
        shown.append(show(element))
    return ", ".join(shown) or repr(MISSING)
