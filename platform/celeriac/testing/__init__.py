"""Testing task types: one attempt in milliseconds without a server, or the whole platform for a while.

`run_task` and `run_task_async` run a handler as a worker does; `platform` starts what `celeriac up` starts, in a
temporary folder. `pytest_plugin` has both as fixtures, for those who ask for it by name.
"""

from celeriac.testing.attempt_run import TaskOutcome, run_task, run_task_async
from celeriac.testing.temporary_platform import Platform, platform

__all__ = ["Platform", "TaskOutcome", "platform", "run_task", "run_task_async"]
