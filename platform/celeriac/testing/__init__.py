"""The test kit: tests a task type by one attempt, in milliseconds and without a server, or on the whole platform.

`run_task` and `run_task_async` run a handler as a worker does. `platform` starts what `celeriac up` starts, in a
temporary folder. `pytest_plugin` has fixtures for a platform that all tests share.
"""

from celeriac.testing.attempt_run import TaskOutcome, run_task, run_task_async
from celeriac.testing.temporary_platform import Platform, platform

__all__ = ["Platform", "TaskOutcome", "platform", "run_task", "run_task_async"]
