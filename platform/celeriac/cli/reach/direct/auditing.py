"""Write the actions of commands to the audit: commands use the store directly, so no server does it for them."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore


async def note(store: TaskStore, action: str, target: str) -> None:
    """Record that the user of this machine did `action`."""
    from celeriac.store.audit import AuditEntry, AuditLog

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    await AuditLog(store).write(AuditEntry(f"cli:{user}", action, target, "done", address=socket.gethostname()))
