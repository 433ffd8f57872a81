"""API keys: `cel_{id}_{secret}`. The secret has 256 random bits, so only its plain SHA-256 is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from celeriac.access.principal import Principal, PrincipalKind, Scope
from celeriac.errors import AuthenticationError
from celeriac.model import rfc3339, utc_from_ms

PREFIX: Final = "cel_"
_KEY: Final = re.compile(r"cel_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: without its secret."""

    key_id: str
    name: str
    user_id: str | None
    scopes: frozenset[Scope]
    #: Hexadecimal SHA-256 of the secret.
    digest: str
    created_at: float
    expires_at: float | None = None

    def principal(self) -> Principal:
        """Return the principal that the key stands for; raises `AuthenticationError` if the key has expired."""
        if self.expires_at is not None and self.expires_at <= time.time():
            raise AuthenticationError("the API key has expired: ask for a new one")
        return Principal(
            self.user_id, self.scopes, PrincipalKind.KEY, credential=self.key_id, expires_at=self.expires_at
        )


def make_key(
    name: str, *, user_id: str | None, scopes: Collection[Scope], ttl_s: float | None = None
) -> tuple[ApiKey, str]:
    """Return a new key and its text. The text cannot be computed from the stored key again."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    now = time.time()
    expires_at = None if ttl_s is None else now + ttl_s
    kept = ApiKey(key_id, name, user_id, frozenset(scopes), _digest(secret), now, expires_at)
    return kept, f"{PREFIX}{key_id}_{secret}"


def key_record(key: ApiKey) -> dict[str, Any]:
    """Return a key's record as it is shown to callers, without its secret."""
    return {
        "id": key.key_id,
        "name": key.name,
        "user_id": key.user_id,
        "scopes": sorted(key.scopes),
        "created_at": rfc3339(utc_from_ms(key.created_at * 1000)),
        "expires_at": None if key.expires_at is None else rfc3339(utc_from_ms(key.expires_at * 1000)),
    }


def split_key(text: str) -> tuple[str, str]:
    """Return a key's id and secret; raises `AuthenticationError` for a text that is not a key."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise AuthenticationError("this is not an API key: a key looks like cel_ID_SECRET")
    return match[1], match[2]


def check_secret(key: ApiKey | None, secret: str) -> ApiKey:
    """Return `key` if `secret` is its own, else raise `AuthenticationError`; also if there is no such key (None)."""
    # Always compared, so that an unknown key takes as long as a wrong secret.
    same = hmac.compare_digest(_digest(secret), key.digest if key is not None else "0" * 64)
    if key is None or not same:
        raise AuthenticationError("the API key is unknown or was revoked: ask for a new one")
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
