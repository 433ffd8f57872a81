"""The metrics for Prometheus: the platform's counts from the store, and the figures of this process.

Names and units follow https://prometheus.io/docs/practices/naming/. The platform's figures are the same at every
replica, so Prometheus reads them from one replica (`scope=platform`), and each replica's own (`scope=process`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from celeriac import __version__
from celeriac.limits.rules import RuleState
from celeriac.outbox.reports import OutboxReport, read_reports
from celeriac.store.counts import (
    BUCKETS_S,
    LABELS,
    MAX_NAMED,
    Histogram,
    PlatformState,
    StoreCounts,
    merged,
    read_counts,
    read_labels,
    read_state,
)
from celeriac.store.rules import read_first_states
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed, Lag

_COUNTERS: Final = {
    "submitted": ("celeriac_tasks_submitted", "Tasks accepted."),
    "started": ("celeriac_tasks_started", "Attempts started."),
    "finished": ("celeriac_tasks_finished", "Tasks ended, by their final status."),
    "retries": ("celeriac_task_retries", "Attempts that failed and are followed by another one."),
    "leases_expired": ("celeriac_leases_expired", "Attempts whose worker died or was cut off."),
}
_HISTOGRAMS: Final = {
    "wait": ("celeriac_task_wait_seconds", "Time from a task's arrival in its queue to the start of the attempt."),
    "run": ("celeriac_task_run_seconds", "Time that an attempt ran."),
    "lateness": ("celeriac_schedule_lateness_seconds", "Time from a definition's slot (jitter included) to its task."),
}


class ProcessMetrics:
    """The figures of this process: resources and open connections."""

    def __init__(self, open_connections: Mapping[str, int]) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(_OpenConnections(open_connections))

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)


async def platform_text(store: TaskStore, types: Iterable[str] = ()) -> bytes:
    """Return the exposition of the platform's figures; raises `StoreUnavailableError`.

    Groups and types that callers made up are together `other`, and no key or user is named, so its size is bounded.
    `types` are known ones besides those that workers announced.
    """
    labels = await read_labels(store, types=types)
    counts, state, lag, limits, outboxes = await asyncio.gather(
        read_counts(store),
        read_state(store, labels),
        EventFeed(store, consumer="").lag(),
        read_first_states(store, MAX_NAMED),
        read_reports(store),
    )
    counts = merged(counts, labels)
    registry = CollectorRegistry()
    registry.register(_Fixed([*_counted(counts), *_state(state), *_limits(*limits), *_lag(lag), *_outboxes(outboxes)]))
    return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class _OpenConnections(Collector):
    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "celeriac_api_open_connections", "Requests, event streams and WebSockets being served.", labels=["kind"]
        )
        for kind, number in self._numbers.items():
            family.add_metric([kind], number)
        yield family
        info = GaugeMetricFamily("celeriac_build_info", "The version of this process.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def _counted(counts: StoreCounts) -> Iterator[Metric]:
    for what, (name, text) in _COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=LABELS[what])
        for labels, number in sorted(counts.counters.get(what, {}).items()):
            family.add_metric(_spelled(labels), number)
        yield family
    for what, (name, text) in _HISTOGRAMS.items():
        histogram = HistogramMetricFamily(name, text, labels=LABELS[what])
        for labels, durations in sorted(counts.histograms.get(what, {}).items(), key=lambda pair: pair[0]):
            histogram.add_metric(labels, buckets=_cumulated(durations), sum_value=durations.sum_s)
        yield histogram


def _spelled(labels: tuple[str, ...]) -> list[str]:
    # Statuses are stored in capitals. The API and the metrics show them in lower case.
    return [*labels[:2], *(label.lower() for label in labels[2:])]


def _cumulated(durations: Histogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], durations.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _state(state: PlatformState) -> Iterator[Metric]:
    depth = GaugeMetricFamily("celeriac_queue_depth", "Tasks that wait in a group.", labels=["group"])
    age = GaugeMetricFamily(
        "celeriac_queue_age_seconds", "How long the task that is next in a group has waited.", labels=["group"]
    )
    unserved = GaugeMetricFamily(
        "celeriac_queue_unserved", "Tasks that wait in a group whose workers do not know their type.", labels=["group"]
    )
    running = GaugeMetricFamily("celeriac_tasks_running", "Tasks that run.", labels=["group"])
    paused = GaugeMetricFamily("celeriac_group_paused", "1 if a group is paused, else 0.", labels=["group"])
    limit = GaugeMetricFamily(
        "celeriac_group_limit_running", "Tasks of a group that may run at once, if it is limited.", labels=["group"]
    )
    for name, group in state.groups.items():
        depth.add_metric([name], group.waiting)
        age.add_metric([name], group.age_s)
        unserved.add_metric([name], group.unserved)
        running.add_metric([name], group.running)
        paused.add_metric([name], float(group.paused))
        if group.max_running is not None:
            limit.add_metric([name], group.max_running)
    yield from (depth, age, unserved, running, paused, limit)
    yield GaugeMetricFamily("celeriac_groups", "Groups that are known.", value=state.known_groups)
    yield GaugeMetricFamily("celeriac_tasks_delayed", "Tasks that wait for a point in time.", value=state.delayed)
    workers = GaugeMetricFamily("celeriac_workers", "Workers that reported recently.", labels=["kind"])
    for kind, number in sorted({"celery": 0, **state.workers}.items()):
        workers.add_metric([kind], number)
    yield workers


def _limits(states: Sequence[RuleState], known: int) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("celeriac_limit_waiting", "Tasks that a limit covers and that wait.", labels=["limit"])
    running = GaugeMetricFamily("celeriac_limit_running", "Tasks that a limit covers and that run.", labels=["limit"])
    parked = GaugeMetricFamily("celeriac_limit_parked", "Waiting tasks that a limit holds back.", labels=["limit"])
    most = GaugeMetricFamily(
        "celeriac_limit_max_running",
        "Tasks that may run at once under a limit: all together, or of each key or user.",
        labels=["limit"],
    )
    for state in states:
        name = [state.rule.name]
        waiting.add_metric(name, state.waiting)
        running.add_metric(name, state.running)
        parked.add_metric(name, state.parked)
        if state.rule.max_running is not None:
            most.add_metric(name, state.rule.max_running)
    yield from (waiting, running, parked, most)
    yield GaugeMetricFamily("celeriac_limits", "Limits that are set, those of groups included.", value=known)


def _outboxes(reports: Sequence[OutboxReport]) -> Iterator[Metric]:
    rows = GaugeMetricFamily(
        "celeriac_outbox_rows", "Tasks that wait in an application's database to be submitted.", labels=["outbox"]
    )
    refused = GaugeMetricFamily("celeriac_outbox_refused", "Those of them that the store refused.", labels=["outbox"])
    lag = GaugeMetricFamily("celeriac_outbox_lag_seconds", "Age of the oldest of them.", labels=["outbox"])
    for report in reports:
        rows.add_metric([report.name], report.standing.rows)
        refused.add_metric([report.name], report.standing.refused)
        lag.add_metric([report.name], report.lag_ms / 1000)
    yield from (rows, refused, lag)


def _lag(lag: Lag) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "celeriac_recorder_lag_events", "Events that the history has not recorded yet.", value=lag.entries
    )
    yield GaugeMetricFamily("celeriac_recorder_lag_seconds", "Age of the oldest of them.", value=lag.seconds)
    yield GaugeMetricFamily(
        "celeriac_recorder_up", "1 if a process records the history, else 0.", value=float(lag.recording)
    )
