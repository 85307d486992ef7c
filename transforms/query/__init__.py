"""MongoDB's query language over the query documents of records (docs/spec/mongo-query.md). Nothing here imports Beam.

A query goes through these files: `parse` makes a tree (`nodes`) of its text, `codegen` makes one function of the tree,
and `index` finds the few of many queries whose function is worth calling for a document. `explain` judges the tree
clause by clause, and says what decided.
"""

from transforms.query.errors import QueryError
from transforms.query.explain import Explanation, MatchResult
from transforms.query.extended_json import from_extended_json
from transforms.query.index import ForwarderIndex, Matching
from transforms.query.query import Query, compile_query
from transforms.query.values import ObjectId, Regex

__all__ = [
    "Explanation",
    "ForwarderIndex",
    "MatchResult",
    "Matching",
    "ObjectId",
    "Query",
    "QueryError",
    "Regex",
    "compile_query",
    "from_extended_json",
]
