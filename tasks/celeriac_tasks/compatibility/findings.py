"""The table of all rules, and what they find in an app."""

from __future__ import annotations

from typing import Any, Final

from celeriac_tasks.compatibility import broker, configuration, project_tasks
from celeriac_tasks.compatibility.finding import Examined, Finding, Rule, Verdict

#: Rules that need the configuration alone. `adopt` refuses an app for what these call impossible.
_OF_CONFIGURATION: Final[tuple[Rule, ...]] = (
    configuration.versions,
    configuration.the_app,
    broker.store_of_records,
    broker.several_brokers,
    broker.transport_options,
    configuration.results,
    configuration.changed_settings,
    configuration.prefetching,
    configuration.priorities,
    project_tasks.queues,
)
#: Rules on workers and on tasks; the latter are complete when the project's modules are imported.
_OF_TASKS: Final[tuple[Rule, ...]] = (
    configuration.pool,
    configuration.serializers,
    project_tasks.unrecorded,
    project_tasks.own_classes,
    project_tasks.repeated_runs,
    project_tasks.limits,
    project_tasks.schedules,
)


def findings(app: Any, *, redis_url: str | None = None, key_prefix: str = "") -> list[Finding]:
    """Return what all rules say of a configured app; `redis_url` is the store that the project names, if any."""
    examined = Examined(app, redis_url, key_prefix)
    return [finding for rule in (*_OF_CONFIGURATION, *_OF_TASKS) for finding in rule(examined)]


def refusals(app: Any, *, redis_url: str | None = None, key_prefix: str = "") -> list[Finding]:
    """Return what is not possible with the configuration of an app; it needs none of its tasks."""
    examined = Examined(app, redis_url, key_prefix)
    found = [finding for rule in _OF_CONFIGURATION for finding in rule(examined)]
    return [finding for finding in found if finding.verdict is Verdict.NOT_POSSIBLE]
