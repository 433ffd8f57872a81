"""`celeriac adopt --report`: what of a project runs as it is, what runs in another way, and what does not run."""

from __future__ import annotations

from typing import Any

from celeriac_tasks.adoption.loading import load_project
from celeriac_tasks.compatibility.broker import on_redis
from celeriac_tasks.compatibility.finding import Verdict
from celeriac_tasks.compatibility.findings import findings


def report(project: str, redis_url: str | None, key_prefix: str = "") -> dict[str, Any]:
    """Return the findings on a project's app, JSON-ready; contacts no server. Raises `SettingsError`.

    `redis_url` is the store of the settings, None if they name none, and `key_prefix` the prefix of its keys.
    """
    app = load_project(project)
    source = getattr(app, "celeriac_source", None)
    named = getattr(source, "redis_url", None)
    if not on_redis(app):
        # With a Redis broker, REDIS_URL may well be the project's cache.
        named = named or redis_url
    found = findings(app, redis_url=named, key_prefix=key_prefix)
    return {
        "project": project,
        "app": app.main,
        "adopted": source is not None,
        "possible": not any(finding.verdict is Verdict.NOT_POSSIBLE for finding in found),
        "findings": [
            {"verdict": finding.verdict.value, "subject": finding.subject, "sentence": finding.sentence}
            for verdict in reversed(Verdict)
            for finding in found
            if finding.verdict is verdict
        ],
    }
