"""Who may see and change what: the table of scopes in docs/spec/forwarders.md section 5."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

ALL = "all"
EDIT_ALL = "org/all/statementForwarding/edit"
VIEW_ALL = "org/all/statementForwarding/view"
EDIT_PUBLIC = "org/public/statementForwarding/edit"
VIEW_PUBLIC = "org/public/statementForwarding/view"
DELIVER = "statementForwarding/deliver"

SCOPES = (ALL, EDIT_ALL, VIEW_ALL, EDIT_PUBLIC, VIEW_PUBLIC, DELIVER)


class Reach(IntEnum):
    """How much of its organisation's documents a client reaches. Each includes those before it."""

    NOTHING = 0
    OWN = 1
    PUBLIC_AND_OWN = 2
    ORGANISATION = 3


_VIEW = {
    ALL: Reach.ORGANISATION,
    EDIT_ALL: Reach.ORGANISATION,
    VIEW_ALL: Reach.ORGANISATION,
    EDIT_PUBLIC: Reach.PUBLIC_AND_OWN,
    VIEW_PUBLIC: Reach.PUBLIC_AND_OWN,
}
_EDIT = {ALL: Reach.ORGANISATION, EDIT_ALL: Reach.ORGANISATION, EDIT_PUBLIC: Reach.PUBLIC_AND_OWN}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks.

    Attributes:
        key: what the client logs in with, beside its secret.
        organisation: the client reaches documents of this organisation only.
        user: the owner of what the client creates. Without one, nothing is the client's own.
        scopes: those of `SCOPES` that the client has.
    """

    key: str
    organisation: str
    user: str | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)

    @property
    def view(self) -> Reach:
        """How much the client may see."""
        return max((_VIEW[scope] for scope in self.scopes & _VIEW.keys()), default=self._own)

    @property
    def edit(self) -> Reach:
        """How much the client may create, change and delete."""
        return max((_EDIT[scope] for scope in self.scopes & _EDIT.keys()), default=self._own)

    @property
    def delivers(self) -> bool:
        """Whether the client may read secrets. It needs a scope of its own for that; no other includes it."""
        return DELIVER in self.scopes

    @property
    def _own(self) -> Reach:
        return Reach.NOTHING if self.user is None else Reach.OWN

    def may_view(self, document: Mapping[str, Any]) -> bool:
        """Whether the client may see a document."""
        return self._reaches(self.view, document)

    def may_edit(self, document: Mapping[str, Any]) -> bool:
        """Whether the client may change and delete a document, or create it as it is."""
        return self._reaches(self.edit, document)

    def _reaches(self, reach: Reach, document: Mapping[str, Any]) -> bool:
        if document.get("organisation") != self.organisation:
            return False
        is_own = self.user is not None and document.get("owner") == self.user
        return (
            reach is Reach.ORGANISATION
            or (reach >= Reach.PUBLIC_AND_OWN and document.get("isPublic") is True)
            or (reach >= Reach.OWN and is_own)
        )
