"""Gives a Celery app records: `adopt` for an app of a project, `process_app` for the platform's own.

Both end as a `CeleriacApp` (see `engine/app.py`); what differs is where settings come from and what is configured.
"""

from __future__ import annotations

from celeriac_tasks.adoption.adopting import adopt, adopted_by_name

__all__ = ["adopt", "adopted_by_name"]
