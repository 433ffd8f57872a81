"""Whoever calls."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from celeriac.errors import ForbiddenError


class Scope(StrEnum):
    """What a principal may do; `ADMIN` includes everything, for the tasks of all users."""

    SUBMIT = "submit"
    READ = "read"
    WORKER = "worker"
    ADMIN = "admin"


class Kind(StrEnum):
    """How a principal showed who it is: not at all (where no authentication is configured), by token, or by key."""

    LOCAL = "local"
    TOKEN = "token"  # noqa: S105 - no password
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who calls. `user_id` is whose tasks it sees; only an admin sees those of others."""

    user_id: str | None
    scopes: frozenset[Scope]
    kind: Kind
    #: Which credential it was, for the audit: the id of a key, the `jti` of a token.
    credential: str = ""
    #: Seconds since the epoch after which it must show another credential; None is never.
    expires_at: float | None = None

    @property
    def admin(self) -> bool:
        """Whether it may do everything."""
        return Scope.ADMIN in self.scopes

    @property
    def name(self) -> str:
        """What to call it in limits and in the audit: the same for all credentials of a user."""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return f"{self.kind.value}:{self.credential}" if self.credential else self.kind.value

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def demand(self, scope: Scope) -> None:
        """Raise `ForbiddenError` unless it has the scope."""
        if not self.may(scope):
            had = ", ".join(sorted(self.scopes)) or "none"
            raise ForbiddenError(f"this needs the scope {scope.value}; the credential's scopes are: {had}")

    def sees(self, owner: str | None) -> bool:
        """Whether what belongs to the user `owner` (None is nobody) may be shown to it."""
        return self.admin or (self.user_id is not None and owner == self.user_id)


#: Whoever reaches a server without authentication.
LOCAL: Final = Principal(None, frozenset(Scope), Kind.LOCAL)


def read_scopes(words: Collection[str]) -> frozenset[Scope]:
    """Return the scopes among `words`; what is none of ours means something to somebody else."""
    return frozenset(scope for scope in Scope if scope.value in words)
