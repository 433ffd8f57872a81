"""The secret that signs signal links. It lies in the store, so that all processes of an installation share one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from celeriac.signals.links import SECRET_BYTES
from celeriac.store import keys

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore


async def link_secret(store: TaskStore) -> bytes:
    """Return the secret, and make it first if there is none; one round trip. Raises `StoreUnavailableError`."""
    key, new = keys.link_secret(), secrets.token_hex(SECRET_BYTES)
    return bytes.fromhex((await store.read(("SET", key, new, "NX"), ("GET", key)))[1])
