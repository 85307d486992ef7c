"""Whether a record is in a forwarder's scope (docs/spec/forwarders.md section 1).

A forwarder may be of one organisation and of one store (`lrs_id`); `Forwarder.scope` says of which. A record is in
scope when it holds these very values. What the forwarder leaves open may be anything, and may be missing.
"""

from typing import NamedTuple, Protocol

from transforms.forwarders import Forwarder


class HasTenant(Protocol):
    """What scope is judged by: a record, an activity, or a `Tenant`."""

    @property
    def organisation(self) -> str | None: ...
    @property
    def lrs_id(self) -> str | None: ...


class Tenant(NamedTuple):
    """The organisation and the store that records were of."""

    organisation: str | None
    lrs_id: str | None


def out_of_scope(record: HasTenant, forwarder: Forwarder) -> str | None:
    """Why the record is not in the forwarder's scope, in words for its user; None when it is."""
    for field, wanted in forwarder.scope.items():
        found = getattr(record, field)
        if found != wanted:
            return f"not in scope: {field} is {found!r}, the forwarder's is {wanted!r}"
    return None
