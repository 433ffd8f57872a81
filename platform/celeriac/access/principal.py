"""Principals: the callers of the platform, with their scopes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from celeriac.errors import ForbiddenError


class Scope(StrEnum):
    """What a principal may do. `ADMIN` includes all others, and covers the tasks of all users."""

    SUBMIT = "submit"
    READ = "read"
    WORKER = "worker"
    ADMIN = "admin"


class PrincipalKind(StrEnum):
    """How a principal authenticated: not at all (if authentication is off), with a token, or with a key."""

    LOCAL = "local"
    TOKEN = "token"  # noqa: S105 - not a password
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. It sees the tasks of the user `user_id`; only an admin sees those of other users."""

    user_id: str | None
    scopes: frozenset[Scope]
    kind: PrincipalKind
    #: The credential that it used, for the audit: the id of a key, or the `jti` of a token.
    credential: str = ""
    #: When its credential expires (seconds since the epoch); None means never.
    expires_at: float | None = None

    @property
    def admin(self) -> bool:
        """Whether it has the scope `admin`."""
        return Scope.ADMIN in self.scopes

    @property
    def name(self) -> str:
        """Its name for limits and the audit; all credentials of one user have the same."""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return f"{self.kind.value}:{self.credential}" if self.credential else self.kind.value

    @property
    def group_maker(self) -> str | None:
        """The name under which the groups count that it makes; None for an admin, who may make any number."""
        return None if self.admin else self.name

    @property
    def own_user(self) -> str:
        """The user whose tasks alone it may reach if it is not an admin.

        Without a user id that is an id that no user has: it holds a control character.
        """
        return self.user_id if self.user_id is not None else "\x01nobody"

    @property
    def confined_to(self) -> str | None:
        """The user whose tasks alone it may reach; None for an admin, who may reach all."""
        return None if self.admin else self.own_user

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def demand(self, scope: Scope) -> None:
        """Raise `ForbiddenError` unless it has the scope."""
        if not self.may(scope):
            had = ", ".join(sorted(self.scopes)) or "none"
            raise ForbiddenError(f"this needs the scope {scope.value}; the credential's scopes are: {had}")

    def sees(self, owner: str | None) -> bool:
        """Whether it may see what belongs to the user `owner` (None: to no user)."""
        return self.admin or (self.user_id is not None and owner == self.user_id)


#: The principal of every call to a server without authentication.
LOCAL: Final = Principal(None, frozenset(Scope), PrincipalKind.LOCAL)


def read_scopes(words: Collection[str]) -> frozenset[Scope]:
    """Return the scopes among `words`; other words are ignored, since they may mean something to other services."""
    return frozenset(scope for scope in Scope if scope.value in words)
