"""Tokens as the servers under test accept them."""

from __future__ import annotations

from collections.abc import Collection

from celeriac.access.principal import Scope
from celeriac.access.tokens import mint_token
from celeriac.settings import Settings


def token_of(settings: Settings, *, user_id: str, scopes: Collection[Scope], ttl_s: float | None = None) -> str:
    """Return a token that a server with these settings accepts."""
    return mint_token(settings.access, data_dir=settings.data_dir, user_id=user_id, scopes=scopes, ttl_s=ttl_s)
