"""Ends that no attempt announces: cancelled, expired, timed out, lost. Celery learns of each, whatever waits for it.

Each kind of end meets each place in a canvas, with a result backend of Celery's own and with the records.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from celery import Celery, chord, group
from celery.backends.redis import ResultConsumer
from celery.canvas import Signature
from celery.exceptions import ChordError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celery.result import GroupResult

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.ends.teller import Teller
from tests.kit.waiting import PATIENCE_S, eventually
from tests.kit.workers import ends_project
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, ran, runs, workers_on_a_server

#: The store of the fixture belongs to the module's loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BACKENDS = ["redis", "records"]
SHAPES = ["plain", "chain", "chord", "group"]


@dataclass(frozen=True)
class Place:
    """A server with a worker, and the project as its producers see it."""

    store: TaskStore
    app: Celery


Bring = Callable[[Place, str], Awaitable[Any]]


async def by_itself(place: Place, task_id: str) -> None:
    """Do nothing: the end comes by itself."""


async def cancelled(place: Place, task_id: str) -> None:
    await place.store.cancel(task_id)


async def cancelled_running(place: Place, task_id: str) -> None:
    await runs(place.store, task_id, timeout_s=PATIENCE_S)
    await place.store.cancel(task_id)


async def purged(place: Place, task_id: str) -> None:
    await asyncio.to_thread(place.app.records.cancel_waiting, "purged", "purged")


@dataclass(frozen=True)
class End:
    """A kind of end: the task that ends like this, what brings it about, and what `get` raises."""

    task: str
    raises: type[Exception]
    bring: Bring = by_itself
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def call(self, app: Celery, task_id: str) -> Signature:
        """Return the call that will end like this."""
        options: dict[str, Any] = dict(self.options)
        return app.tasks[f"ends.{self.task}"].si(*self.arguments).set(task_id=task_id, **options)


ENDS = {
    "cancelled while it waited": End("add", TaskRevokedError, cancelled, options=(("queue", "nobody"),)),
    "cancelled before its time": End("add", TaskRevokedError, cancelled, options=(("countdown", 600),)),
    "cancelled while it ran": End("naps", TaskRevokedError, cancelled_running, (PATIENCE_S,)),
    "purged": End("add", TaskRevokedError, purged, options=(("queue", "purged"),)),
    "expired": End("add", TaskRevokedError, options=(("queue", "nobody"), ("expires", 0.3))),
    "timed out": End("naps", TimeLimitExceeded, arguments=(PATIENCE_S,), options=(("time_limit", 1),)),
    "timed out in C": End("holds", TimeLimitExceeded, options=(("time_limit", 1),)),
    "lost with its process": End("dies_once_and_for_all", WorkerLostError),
    "failed": End("fails", ValueError),
}
CASES = [(end, shape) for end in ENDS for shape in SHAPES]


@dataclass(frozen=True)
class Published:
    """One case: the id of the task that ends, and the result that its caller waits for."""

    task_id: str
    result: Any


def publish(app: Celery, end: End, shape: str) -> Published:
    """Publish a task that will end, in its place of a canvas."""
    task_id = str(uuid.uuid4())
    call, tasks = end.call(app, task_id), app.tasks
    if shape == "chain":
        return Published(task_id, (call | tasks["ends.add"].s(1) | tasks["ends.add"].s(2)).apply_async())
    other = tasks["ends.add"].si(1, 1)
    if shape == "chord":
        body = tasks["ends.total"].s().on_error(tasks["ends.note_failure"].s())
        # By its id alone: a result that knows its header raises what a header's task did.
        return Published(task_id, app.AsyncResult(chord([call, other], app=app)(body).id))
    if shape == "group":
        members = group([call, other], app=app).apply_async().results
        return Published(task_id, app.GroupResult("members", [app.AsyncResult(member.id) for member in members]))
    errbacks = [tasks["ends.note_failure"].s(), tasks["ends.hear_failure"].s()]
    return Published(task_id, call.set(link_error=errbacks).apply_async())


def raised(result: Any) -> Exception:
    """Return what `get` raises, or `join` of a group: results that were published belong to another thread."""
    wait = result.join if isinstance(result, GroupResult) else result.get
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is what the tests are about
        wait(timeout=PATIENCE_S)
    return caught.value


async def start(workers: Workers, store: TaskStore, backend: str, **more: Any) -> WorkerProcess:
    """Start a worker of the project on prefork."""
    environment = workers.environment(imports=[], **more.pop("settings", {}))
    environment[ends_project.BROKER] = workers.redis_url
    if backend == "redis":
        environment[ends_project.RESULTS] = results_of(workers)
    name = f"{uuid.uuid4().hex[:6]}@%h"
    command = [sys.executable, "-m", "celery", "-A", ends_project.NAME, "worker", "-c", "4", "-n", name, "-l", "INFO"]
    worker = WorkerProcess(workers.folder, command, {**environment, **more})
    workers.all.append(worker)
    await eventually(lambda: "ready." in worker.said(), because="it starts", timeout_s=30)
    return worker


def results_of(workers: Workers) -> str:
    return workers.redis_url.removesuffix("/0") + "/1"


@asynccontextmanager
async def app_on(workers: Workers, backend: str = "redis") -> AsyncIterator[Celery]:
    """Give the project as its producers see it."""
    app = ends_project.build(workers.redis_url, results_of(workers) if backend == "redis" else None)
    yield app
    # The server ends now, and results may be dropped later: nothing is left to unsubscribe from. Each thread has had a
    # backend of its own.
    # `isinstance` would ask a weak proxy for the class of an object that is gone.
    for consumer in [one for one in gc.get_objects() if issubclass(type(one), ResultConsumer)]:
        consumer.subscribed_to.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A worker. Its leases are so long that nothing here can be the work of a lease that ran out."""
    async with workers_on_a_server(tmp_path_factory.mktemp("ends")) as (workers, store):
        worker = await start(workers, store, request.param, settings={"lease": 600})
        async with app_on(workers, request.param) as app:
            yield Place(store, app)
        assert worker.alive, worker.said()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def published(place: Place) -> dict[tuple[str, str], Published]:
    """All cases, published and on their way to their ends."""

    def publish_all() -> dict[tuple[str, str], Published]:
        return {(end, shape): publish(place.app, ENDS[end], shape) for end, shape in CASES}

    found = await asyncio.to_thread(publish_all)
    await asyncio.gather(*(ENDS[end].bring(place, one.task_id) for (end, _), one in found.items()))
    return found


@pytest.mark.parametrize(("end", "shape"), CASES)
async def test_celery_learns_of_each_kind_of_end(
    place: Place, published: dict[tuple[str, str], Published], end: str, shape: str
) -> None:
    case, kind = published[end, shape], ENDS[end].raises
    if shape == "chord":
        error = await asyncio.to_thread(raised, case.result)
        assert isinstance(error, ChordError)
        assert kind.__name__ in str(error)
        return
    assert isinstance(await asyncio.to_thread(raised, case.result), kind)
    state = "REVOKED" if kind is TaskRevokedError else "FAILURE"
    assert place.app.AsyncResult(case.task_id).state == state
    if shape == "chain":
        # Also the links after it, whose turn will never come.
        for link in (case.result, case.result.parent):
            alone = place.app.AsyncResult(link.id)
            assert isinstance(await asyncio.to_thread(raised, alone), kind)
            assert alone.state == state
    if shape == "group":
        assert await asyncio.to_thread(case.result.results[1].get, timeout=PATIENCE_S) == 2


async def test_errbacks_are_called_once_for_failures_and_not_for_revocations(
    place: Place, published: dict[tuple[str, str], Published]
) -> None:
    await eventually(lambda: nothing_untold(place.store), because="Celery knows all ends")
    for (end, shape), case in published.items():
        kind = ENDS[end].raises
        if shape == "plain":
            expected = [] if kind is TaskRevokedError else sorted([kind.__name__, "published"])
        elif shape == "chord":
            # Those of its body.
            expected = ["published"]
        else:
            continue
        await eventually(
            lambda task_id=case.result.id, expected=expected: noted(place.store, task_id, expected),
            because=f"the errbacks of {end}, {shape}, hear {expected}",
        )


async def nothing_untold(store: TaskStore) -> bool:
    return await store.redis.zcard(keys.UNTOLD) == 0


async def noted(store: TaskStore, task_id: str, expected: list[str]) -> bool:
    return sorted(await store.redis.lrange(f"failed:{task_id}", 0, -1)) == expected


async def test_a_task_whose_process_is_killed_runs_again_at_once(place: Place) -> None:
    dies = place.app.tasks["ends.dies"]
    result, dead = dies.delay(2), dies.delay(99)
    # With Celery alone it would fail at the first death.
    assert await asyncio.to_thread(result.get, timeout=PATIENCE_S) == "survived"
    task = await ended(place.store, result.id)
    assert (task.status, task.attempt) == (Status.COMPLETED, 3)
    assert isinstance(await asyncio.to_thread(raised, dead), WorkerLostError)
    assert len(await ran(place.store, dead.id)) == 4, "the first run and max_retries more"


async def test_a_chain_goes_on_after_a_revoked_link_that_somebody_retries(place: Place) -> None:
    case = await asyncio.to_thread(publish, place.app, ENDS["cancelled before its time"], "chain")
    await place.store.cancel(case.task_id)
    assert isinstance(await asyncio.to_thread(raised, case.result), TaskRevokedError)
    await place.store.retry(case.task_id)

    def value() -> Any:
        last = place.app.AsyncResult(case.result.id)
        return last.result if last.state == "SUCCESS" else None

    assert await eventually(value, because="the last link runs") == 3


# --- workers that are killed


async def test_another_worker_tells_of_a_task_that_was_lost_with_its_worker(tmp_path: Path) -> None:
    async with workers_on_a_server(tmp_path) as (workers, store), app_on(workers) as app:
        worker = await start(workers, store, "redis")
        call = app.tasks["ends.naps_once"].si(PATIENCE_S)
        last = (call | app.tasks["ends.add"].s(1)).apply_async()
        body = chord([call.clone(), app.tasks["ends.add"].si(1, 1)], app=app)(app.tasks["ends.total"].s())
        await runs(store, last.parent.id)
        await runs(store, body.parent.results[0].id)
        worker.kill()
        await start(workers, store, "redis")
        assert isinstance(await asyncio.to_thread(raised, last), WorkerLostError)
        error = await asyncio.to_thread(raised, app.AsyncResult(body.id))
        assert isinstance(error, ChordError)
        assert "WorkerLostError" in str(error)


async def test_a_worker_that_is_killed_while_it_tells_is_replaced_by_another(tmp_path: Path) -> None:
    async with workers_on_a_server(tmp_path) as (workers, store), app_on(workers) as app:
        settings = {"tell_lease": 5}
        worker = await start(workers, store, "redis", settings=settings, **{ends_project.DIES_TELLING: "1"})
        call = app.tasks["ends.naps"].si(PATIENCE_S).set(time_limit=1)
        result = call.set(link_error=[app.tasks["ends.note_failure"].s()] * 2).apply_async()
        await worker.gone(PATIENCE_S)
        worker.kill()
        assert not await nothing_untold(store)
        await start(workers, store, "redis", settings=settings)
        await eventually(lambda: nothing_untold(store), because="the other worker tells")
        assert isinstance(await asyncio.to_thread(raised, result), TimeLimitExceeded)
        await eventually(lambda: noted(store, result.id, ["published"] * 2), because="each errback runs once")


# --- who tells


async def test_a_worker_leaves_a_task_that_it_does_not_know_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers_on_a_server(tmp_path) as (workers, store), app_on(workers) as app:
        stranger = Celery("stranger", set_as_current=False)
        kept, given_up = [app.tasks["ends.add"].apply_async((1, 1), queue="nobody").id for _ in range(2)]
        await store.cancel(kept)
        await Teller(store=store, app=stranger).step()
        assert await store.redis.zscore(keys.UNTOLD, kept) > 0
        assert app.AsyncResult(kept).state == "PENDING"

        async with TaskStore(workers.redis_url, Settings(tell_within=1).store) as hasty:
            await store.cancel(given_up)

            async def nobody_tells() -> bool:
                await Teller(store=hasty, app=stranger).step()
                return await store.redis.zscore(keys.UNTOLD, given_up) is None

            await eventually(nobody_tells, because="its end is too long ago")
        assert f"task {given_up} ended, and nobody tells Celery any more" in caplog.text
        assert "do not have the task 'ends.add'" in caplog.text

        async def told() -> bool:
            await Teller(store=store, app=app).step()
            return bool(app.AsyncResult(kept).state == "REVOKED")

        # It had been given back, so that the hasty one may have given it up too.
        if await store.redis.zscore(keys.UNTOLD, kept) is not None:
            await eventually(told, because="a worker that knows the task tells")


async def test_what_another_program_completed_goes_on_in_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_GROUPS", "{outside: {processor: external}}")
    async with workers_on_a_server(tmp_path) as (workers, store), app_on(workers) as app:
        await start(workers, store, "redis", settings={"groups": {"outside": {"processor": "external"}}})
        call = app.tasks["ends.add"].si(1).set(queue="outside")
        last = (call | app.tasks["ends.add"].s(10)).apply_async()
        task_id = await eventually(lambda: store.redis.lpop(keys.EXTERNAL), because="the program gets it")
        assert task_id == last.parent.id
        await store.redis.hset(keys.task(task_id), mapping={"status": "COMPLETED", "result": "5"})
        assert await asyncio.to_thread(last.parent.get, timeout=PATIENCE_S) == 5
        assert await asyncio.to_thread(last.get, timeout=PATIENCE_S) == 15
