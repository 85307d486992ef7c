"""Whether a record is in the scope of a forwarder (docs/spec/forwarders.md section 1).

A forwarder may name an organisation and a store (`lrs_id`): see `Forwarder.scope`. A record is in scope when it holds
these very values. What the forwarder does not name may be anything in the record, and may be missing.
"""

from typing import NamedTuple, Protocol

from schemas import Record
from transforms.forwarders import Forwarder


class HasTenant(Protocol):
    """What scope is judged by: a record, an activity or a `Tenant`."""

    @property
    def organisation(self) -> str | None: ...
    @property
    def lrs_id(self) -> str | None: ...


class Tenant(NamedTuple):
    """The organisation and the store that records were of."""

    organisation: str | None
    lrs_id: str | None


def not_wanted(record: Record, forwarder: Forwarder) -> str | None:
    """Why the forwarder is not to get the record, whatever its query says; None when the query decides."""
    if forwarder.kinds is not None and record.kind not in forwarder.kinds:
        return f"not in scope: kind is {record.kind!r}, the forwarder's kinds are {', '.join(forwarder.kinds)}"
    return out_of_scope(record, forwarder)


def out_of_scope(record: HasTenant, forwarder: Forwarder) -> str | None:
    """Why the record is not in the scope of the forwarder, in words for the user; None when it is."""
    for field, required in forwarder.scope.items():
        value = getattr(record, field)
        if value != required:
            return f"not in scope: {field} is {value!r}, the forwarder's is {required!r}"
    return None
