"""Find the principal of a credential quickly: verified credentials are remembered for as long as is safe."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from celeriac.access.api_key import PREFIX, ApiKey, check_secret, split_key
from celeriac.access.principal import Principal
from celeriac.access.tokens import TokenVerifier
from celeriac.errors import AuthenticationError
from celeriac.settings import AccessSettings

#: How long a verified token is trusted at most (seconds): its issuer may withdraw the key that signed it.
_TOKEN_CACHE_S: Final = 300.0

FindKey = Callable[[str], Awaitable[ApiKey | None]]


class Authenticator:
    """Verifies tokens and API keys for one process; `find_key` looks a key up by its id.

    `data_dir` is where the secret lies that tokens are signed with if `access` configures none.
    """

    def __init__(self, access: AccessSettings, *, data_dir: Path, find_key: FindKey) -> None:
        #: Whether callers must authenticate.
        self.on = access.on
        self._access = access
        self._tokens = TokenVerifier(access, data_dir=data_dir)
        self._find_key = find_key
        #: By hash, so that no credential stays in memory; the oldest first.
        self._verified: dict[bytes, tuple[Principal, float]] = {}

    def remembered(self, credential: str) -> Principal | None:
        """Return the principal of a credential that was verified a short time ago, else None. Takes microseconds."""
        found = self._verified.get(hashlib.sha256(credential.encode("utf-8", "surrogateescape")).digest())
        return found[0] if found is not None and found[1] > time.time() else None

    async def principal(self, credential: str) -> Principal:
        """Return the credential's principal; raises `AuthenticationError`, and `StoreUnavailableError` for a key."""
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
