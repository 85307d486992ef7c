"""MongoDB's query language over the query documents of records (docs/spec/mongo-query.md). No Beam in here."""

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
