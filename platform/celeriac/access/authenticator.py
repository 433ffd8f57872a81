"""From a credential to its principal, quickly: what was verified is remembered for as long as it may be."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from celeriac.access.api_key import PREFIX, ApiKey, check_secret, split_key
from celeriac.access.principal import Principal
from celeriac.access.tokens import TokenVerifier
from celeriac.errors import AuthenticationError
from celeriac.settings import Settings

#: How long a verified token is believed at most: an issuer may take its key back (seconds).
_TOKEN_CACHE_S: Final = 300.0

FindKey = Callable[[str], Awaitable[ApiKey | None]]


class Authenticator:
    """Verifies tokens and API keys for one process; `find_key` looks a key up by its id."""

    def __init__(self, settings: Settings, find_key: FindKey) -> None:
        #: Whether callers must say who they are.
        self.on = settings.access.on
        self._access = settings.access
        self._tokens = TokenVerifier(settings)
        self._find_key = find_key
        #: By hash, so that nothing of a credential stays in memory; oldest first.
        self._verified: dict[bytes, tuple[Principal, float]] = {}

    def remembered(self, credential: str) -> Principal | None:
        """Return the principal of a credential that was verified lately, else None. Takes microseconds."""
        found = self._verified.get(hashlib.sha256(credential.encode("utf-8", "surrogateescape")).digest())
        return found[0] if found is not None and found[1] > time.time() else None

    async def principal(self, credential: str) -> Principal:
        """Return who shows the credential; raises `AuthenticationError`, and `StoreUnavailableError` for a key."""
        if (known := self.remembered(credential)) is not None:
            return known
        if credential.startswith(PREFIX):
            key_id, secret = split_key(credential)
            principal = check_secret(await self._find_key(key_id), secret).principal()
            lifetime_s = self._access.key_cache
        else:
            principal = await self._tokens.verify(credential)
            lifetime_s = _TOKEN_CACHE_S
        until = time.time() + lifetime_s
        if principal.expires_at is not None:
            until = min(until, principal.expires_at + self._access.leeway)
        self._remember(credential, principal, until)
        return principal

    async def key_exists(self, key_id: str) -> bool:
        """Whether an API key has not been revoked; raises `StoreUnavailableError`."""
        return await self._find_key(key_id) is not None

    def _remember(self, credential: str, principal: Principal, until: float) -> None:
        digest = hashlib.sha256(credential.encode("utf-8", "surrogateescape")).digest()
        self._verified.pop(digest, None)
        while len(self._verified) >= self._access.cache_size:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = (principal, until)


def bearer(header: str) -> str:
    """Return the credential of an `Authorization` header; raises `AuthenticationError`."""
    scheme, _, credential = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise AuthenticationError("write the header as: Authorization: Bearer TOKEN")
    return credential.strip()
