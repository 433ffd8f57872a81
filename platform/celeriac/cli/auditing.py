"""What commands write into the audit: they work on the store itself, so nobody ahead of them does."""

from __future__ import annotations

import getpass
import socket

from celeriac.store.audit import AuditEntry, AuditLog
from celeriac.store.task_store import TaskStore


async def note(store: TaskStore, action: str, target: str) -> None:
    """Write down that whoever runs this command did `action`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, in a container
        user = "unknown"
    await AuditLog(store).write(AuditEntry(f"cli:{user}", action, target, "done", address=socket.gethostname()))
