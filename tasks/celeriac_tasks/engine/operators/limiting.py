"""`celery control time_limit`, so that it holds in each pool."""

from __future__ import annotations

from typing import Any

from celery.worker import control
from celery.worker.control import control_command

from celeriac_tasks.engine.adopted import is_adopted


@control_command(  # type: ignore[untyped-decorator]
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(state: Any, task_name: Any = None, hard: Any = None, soft: Any = None, **options: Any) -> Any:
    """Tell worker(s) to modify the time limit for task by type."""
    answer = control.time_limit(state, task_name=task_name, hard=hard, soft=soft, **options)
    if "ok" in answer and is_adopted(state.app):
        # Celery's pools go by the limits that the task had when its strategy was made.
        task = state.app.tasks[task_name]
        state.consumer.strategies[task_name] = task.start_strategy(state.app, state.consumer)
    return answer
