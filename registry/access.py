"""Who may see and change what: the table of forwarders.md section 5, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

ALL: Final = "all"
EDIT_ALL: Final = "org/all/statementForwarding/edit"
VIEW_ALL: Final = "org/all/statementForwarding/view"
EDIT_PUBLIC: Final = "org/public/statementForwarding/edit"
VIEW_PUBLIC: Final = "org/public/statementForwarding/view"
DELIVER: Final = "statementForwarding/deliver"

SCOPES: Final = (ALL, EDIT_ALL, VIEW_ALL, EDIT_PUBLIC, VIEW_PUBLIC, DELIVER)


class Reach(IntEnum):
    """How much of its organisation a client reaches; each includes those before it."""

    NOTHING = 0
    OWN = 1
    PUBLIC_AND_OWN = 2
    ORGANISATION = 3


_VIEW: Final = {
    ALL: Reach.ORGANISATION,
    EDIT_ALL: Reach.ORGANISATION,
    VIEW_ALL: Reach.ORGANISATION,
    EDIT_PUBLIC: Reach.PUBLIC_AND_OWN,
    VIEW_PUBLIC: Reach.PUBLIC_AND_OWN,
}
_EDIT: Final = {ALL: Reach.ORGANISATION, EDIT_ALL: Reach.ORGANISATION, EDIT_PUBLIC: Reach.PUBLIC_AND_OWN}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks. `user` is the owner of what the client creates; without one nothing is the client's own."""

    key: str
    organisation: str
    user: str | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)

    @property
    def view(self) -> Reach:
        return max((_VIEW[scope] for scope in self.scopes & _VIEW.keys()), default=self._own)

    @property
    def edit(self) -> Reach:
        return max((_EDIT[scope] for scope in self.scopes & _EDIT.keys()), default=self._own)

    @property
    def delivers(self) -> bool:
        """Whether the client may read secrets: by its own scope only, which no other implies."""
        return DELIVER in self.scopes

    @property
    def _own(self) -> Reach:
        return Reach.NOTHING if self.user is None else Reach.OWN

    def may_view(self, document: Mapping[str, Any]) -> bool:
        return self._reaches(self.view, document)

    def may_edit(self, document: Mapping[str, Any]) -> bool:
        """Also whether it may delete it, or create it as it stands there."""
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
