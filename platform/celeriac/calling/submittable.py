"""How a type of tasks is called: `submit`, `run`, `options`, and their twins for asyncio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Generic, Unpack

from typing_extensions import ParamSpec, TypeVar

from celeriac.calling.access import process_access
from celeriac.calling.blocking import awaited, block_on
from celeriac.calling.handle import AsyncTaskHandle, ReadResult, TaskHandle
from celeriac.calling.options import NewTask, TaskOptions
from celeriac.model import Status
from celeriac.violations import suggested

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)
T = TypeVar("T")

_NONE: Final[TaskOptions] = {}


class Submittable(ABC, Generic[P, R]):
    """Something that tasks can be submitted of. The parameters are those of its function, without the context.

    The connection is that of the process: `CELERIAC_URL` (with `CELERIAC_TOKEN`), else the store of the configuration,
    of `REDIS_URL`, or of the `celeriac up` of this folder or of a folder above it. It is made at the first call.

    Arguments that do not fit raise `TypeError` or `InvalidSubmissionError` before anything is sent. Each method may
    also raise `SettingsError`, `PayloadTooLargeError`, `QueueFullError`, `ApiUnavailableError` and
    `StoreUnavailableError`. The blocking ones raise `BlockingCallError` on a running event loop, except in Jupyter.
    """

    @abstractmethod
    def new_task(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions = _NONE) -> NewTask:
        """Return the checked submission that a call means, in JSON; raises `TypeError`, `InvalidSubmissionError`."""

    @abstractmethod
    def reader(self) -> ReadResult[R]:
        """Return what reads a result of the type that the function returns."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What errors call it."""

    def options(self, **options: Unpack[TaskOptions]) -> Submittable[P, R]:
        """Return the same with these options for its submissions; one that is given again replaces the former one."""
        unknown = [name for name in options if name not in TaskOptions.__annotations__]
        if unknown:
            known = sorted(TaskOptions.__annotations__)
            near = ["queue"] if unknown[0] == "group" else suggested(unknown[0], known, most=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise TypeError(f"there is no option {unknown[0]!r} for a task; {hint}")
        return self._with(options)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Submit a task; it is stored durably when this returns."""
        work = self._submitted(self.new_task(args, kwargs))
        return TaskHandle(self._block(work, "submit"))

    async def asubmit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Do the same as `submit`, for asyncio."""
        return TaskHandle(await awaited(self._submitted(self.new_task(args, kwargs))))

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Do the same as `submit`, under the name that Celery uses."""
        work = self._submitted(self.new_task(args, kwargs))
        return TaskHandle(self._block(work, "delay"))

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Submit a task, wait for it, and return its result; raises as `TaskHandle.result` does."""
        return self._block(self._finished(self.new_task(args, kwargs)), "run")

    async def arun(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same as `run`, for asyncio."""
        return await awaited(self._finished(self.new_task(args, kwargs)))

    def task(self, task_id: str) -> TaskHandle[R]:
        """Return the handle of a task of which only the id is known; nobody is asked before the handle is used."""
        return TaskHandle(AsyncTaskHandle(process_access(), task_id, Status.PENDING, self.reader()))

    async def _submitted(self, task: NewTask) -> AsyncTaskHandle[R]:
        access = process_access()
        return AsyncTaskHandle(access, *await access.submit(task), self.reader())

    async def _finished(self, task: NewTask) -> R:
        return self.reader()(await process_access().run(task))

    def _with(self, options: TaskOptions) -> Submittable[P, R]:
        return WithOptions(self, options)

    def _block(self, work: Coroutine[Any, Any, T], call: str) -> T:
        twin = "asubmit" if call == "delay" else f"a{call}"
        return block_on(work, call=f"{self.title}.{call}()", instead=f"await {self.title}.{twin}()")


class WithOptions(Submittable[P, R]):
    """A type of tasks with options for its submissions."""

    def __init__(self, of: Submittable[P, R], options: TaskOptions) -> None:
        self._of = of
        self._options = options

    def __repr__(self) -> str:
        return f"<{self.title} with {', '.join(f'{name}={value!r}' for name, value in self._options.items())}>"

    @property
    def title(self) -> str:
        """What errors call it."""
        return self._of.title

    def new_task(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions = _NONE) -> NewTask:
        """Return the checked submission that a call means, in JSON; raises `TypeError`, `InvalidSubmissionError`."""
        return self._of.new_task(args, kwargs, {**self._options, **options})

    def reader(self) -> ReadResult[R]:
        """Return what reads a result of the type that the function returns."""
        return self._of.reader()

    def _with(self, options: TaskOptions) -> Submittable[P, R]:
        return WithOptions(self._of, {**self._options, **options})
