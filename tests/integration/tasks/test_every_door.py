"""Every kind of task through every door: what is stored is the same, field by field.

A door is a way to submit: HTTP, batch, gRPC, the dispatch API, OpenAI's, both clients, the command line, `.delay()`, a
definition, a retry by hand and a bulk retry. The record that the v1 route stores is the model of the others.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from pydantic import BaseModel, SecretStr

from celeriac import AsyncClient, Client
from celeriac.calling.blocking import awaited
from celeriac.calling.options import TaskOptions
from celeriac.client.address import address_of
from celeriac.connection.place import Place
from celeriac.connection.process import process_connection
from celeriac.database.migrating import migrate
from celeriac.errors import InvalidSubmissionError, KeyFullError
from celeriac.handlers.context import Context
from celeriac.history.recorder import Recorder
from celeriac.limits.rules import By, LimitRule
from celeriac.model import Claim
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import registry, task
from celeriac.tasks.types.bulk import BULK
from celeriac_proto.task import task_pb2, task_pb2_grpc
from celeriac_tasks.adoption.adopting import own_app
from celeriac_tasks.bulk import BulkHandler
from celeriac_tasks.engine.app import CeleriacApp
from tests.kit.api.file_services import file_settings, rpc_serving
from tests.kit.api.http_serving import serving
from tests.kit.command_line import celeriac
from tests.kit.history import forget, record_all, recording
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually


class Text(BaseModel):
    text: str
    times: int = 2


class Order(BaseModel):
    customer: str = "nobody"


class Ordered(BaseModel):
    order: Order = Order()
    customer: str = "c0"


class Login(BaseModel):
    name: str
    password: SecretStr


@task("doors.asynchronous", group="media", max_retries=7, timeout_s=90, retention_s=7200)
async def asynchronous(payload: Text, ctx: Context) -> str:
    """An async type with a policy of its own."""
    return payload.text * payload.times


@task("doors.synchronous", max_retries=0)
def synchronous(payload: Text) -> str:
    """A sync type."""
    return payload.text * payload.times


@task("doors.empty")
async def empty() -> None:
    """A type without parameters."""


@task("doors.by_path", key="order.customer")
async def by_path(payload: Ordered) -> None:
    """A type whose key is in the payload."""


@task("doors.by_default", key="customer")
async def by_default(payload: Ordered) -> None:
    """A type whose key is in the payload, or the default of it."""


@task("doors.by_function", key=lambda payload: payload.order.customer.upper())
async def by_function(payload: Ordered) -> None:
    """A type that computes its key."""


@task("doors.secret")
async def secret(payload: Login) -> None:
    """A type with a secret."""


#: Which fields of a record differ from task to task, or say how it is and not what it is.
OWN: Final = {
    "task_id", "created_at", "updated_at", "submit_nonce", "rev", "status", "run_at", "retry_nonce", "finished_at",
    "error_message", "error_code", "error_retryable", "hinted_ms", "nonce", "pending_ms", "moved",
}  # fmt: skip
SECRET: Final = "hunter2"


@dataclass
class House:
    """One running platform with all its doors. Nothing runs the tasks: they stay as they were stored."""

    settings: Settings
    store: TaskStore
    url: str
    http: httpx.AsyncClient
    files: grpc.aio.Channel
    app: CeleriacApp
    recorder: Recorder
    folder: Path
    #: All that the doors answered, to be looked through for secrets.
    texts: list[str] = field(default_factory=list)
    #: Records as they were before something else happened to their tasks.
    kept: dict[str, dict[str, str]] = field(default_factory=dict)

    async def upload(self, name: str = "picture.png") -> str:
        answer = await self.http.put(f"/api/v1/files/{name}", content=b"a picture")
        assert answer.status_code == 201, answer.text
        return str(answer.json()["file_id"])

    def file(self, name: str = "shown.png") -> str:
        path = self.folder / "temp" / name
        path.write_bytes(b"a picture")
        return str(path)

    async def answer(self, method: str, path: str, **options: Any) -> Any:
        """Call the API; every answer is kept, to be looked through for secrets."""
        answer = await self.http.request(method, path, **options)
        assert answer.is_success, answer.text
        self.texts.append(answer.text)
        return answer.json()

    async def record(self, task_id: str) -> dict[str, str]:
        """Return the whole record as the store has it, without what is a task's own."""
        stored = self.kept.get(task_id) or await self.store.record(task_id)
        assert stored, f"no record of {task_id}"
        shown = {name: value for name, value in stored.items() if name not in OWN}
        if shown.get("priority") == "0":
            del shown["priority"]  # the default, which a record from the history spells out
        for name in ("original_file_path", "original_file_name"):
            if name in shown:
                shown[name] = "…"
        return shown


@pytest.fixture
async def house(valkey_url: str, tmp_path: Path) -> AsyncIterator[House]:
    database_url = f"sqlite:///{tmp_path / 'history.db'}"
    migrate(database_url)
    settings = file_settings(
        tmp_path,
        redis_url=valkey_url,
        database_url=database_url,
        groups={"foreign": {"processor": "external"}},
        grpc_services={"services": {"demo": {"address": "127.0.0.1:1", "max_retries": 5}}},
        types={"doors.synchronous": {"retention": 1800}},
    )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(TaskStore(valkey_url, settings.store))
        url = await stack.enter_async_context(serving(settings))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30))
        _, channel, _ = await stack.enter_async_context(rpc_serving(store, settings))
        recorder, _ = await stack.enter_async_context(recording(store, database_url, settings))
        app = own_app(lambda: settings)
        app.load_types()
        stack.callback(app.close)
        yield House(settings, store, url, http, channel, app, recorder, tmp_path)


Door = Callable[[House, dict[str, Any]], Awaitable[str]]


async def by_v1(house: House, document: dict[str, Any]) -> str:
    return str((await house.answer("POST", "/api/v1/tasks", json=document))["task_id"])


async def by_batch(house: House, document: dict[str, Any]) -> str:
    answer = await house.answer("POST", "/api/v1/tasks/batch", json={"tasks": [document]})
    assert answer["results"][0]["status"] == 202, answer
    return str(answer["results"][0]["task_id"])


def _options(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("type", "payload")}


async def by_client(house: House, document: dict[str, Any]) -> str:
    def submit() -> str:
        with Client(house.url) as client:
            return client.submit(document["type"], document["payload"], **_options(document)).id

    return await asyncio.to_thread(submit)


async def by_async_client(house: House, document: dict[str, Any]) -> str:
    async with AsyncClient(house.url) as client:
        return (await client.submit(document["type"], document["payload"], **_options(document))).id


async def _by_type(place: Place, document: dict[str, Any]) -> str:
    submittable = registry.get(document["type"])
    assert submittable is not None
    leave = process_connection.use(place)
    try:
        return (await submittable.options(**_options(document)).asubmit(document["payload"])).id
    finally:
        leave()
        await awaited(process_connection.close())


async def by_type_over_http(house: House, document: dict[str, Any]) -> str:
    return await _by_type(Place(api=address_of(house.url, None)), document)


async def by_type_at_the_store(house: House, document: dict[str, Any]) -> str:
    return await _by_type(Place(settings=house.settings), document)


async def by_command_line(house: House, document: dict[str, Any]) -> str:
    config = house.folder / "celeriac.yaml"
    names = {"files", "groups", "grpc_services", "types", "data_dir"}
    plain = house.settings.model_dump(mode="json", include=names, exclude_unset=True)
    config.write_text(json.dumps({**plain, "imports": [__name__]}))
    arguments = ["submit", document["type"], "--payload", json.dumps(document["payload"]), "--config", str(config)]
    for name, value in _options(document).items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    environment = {"REDIS_URL": str(house.settings.redis_url), "DATABASE_URL": str(house.settings.database_url)}
    code, out, err = await celeriac(*arguments, **environment)
    assert code == 0, err
    house.texts.append(out)
    return out.strip()


async def by_delay(house: House, document: dict[str, Any]) -> str:
    options: dict[str, Any] = {}
    if "queue" in document:
        options["queue"] = document["queue"]
    elif (own := house.app.celeriac_registry.get(document["type"])) is not None:
        options["queue"] = own.group
    if "delay" in document:
        options["countdown"] = document["delay"]
    if headers := {f"celeriac_{name}": document[name] for name in ("key", "cost") if name in document}:
        options["headers"] = headers
    called = house.app.tasks[document["type"]]
    result = await asyncio.to_thread(called.apply_async, (), document["payload"], **options)
    return str(result.id)


async def by_definition(house: House, document: dict[str, Any]) -> str:
    task = {name: value for name, value in document.items() if name != "user_id"}
    definition = {"user_id": document.get("user_id", "7"), "trigger_type": "IMMEDIATE", "task": task}
    made = await house.answer("POST", "/api/v1/definitions", json=definition)
    found = await house.answer("GET", f"/api/v1/definitions/{made['task_def_id']}")
    await house.answer("GET", "/api/v1/definitions")
    return str(found["last_task_id"])


def _keyed(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("key", "cost") if name in document}


async def by_dispatch(house: House, document: dict[str, Any]) -> str:
    payload = document["payload"]
    async with worker(house.url, document["queue"], ready=False):
        body = {
            **payload,
            "group": document["queue"],
            "async": True,
            "userId": document.get("user_id"),
            **_keyed(document),
        }
        return str((await house.answer("POST", "/api/openai", json=body))["taskId"])


async def by_openai(house: House, document: dict[str, Any]) -> str:
    payload = document["payload"]
    async with worker(house.url, document["queue"], ready=False):
        body = {**payload, "model": f"{document['queue']}/{payload['model']}", **_keyed(document)}
        calling = asyncio.create_task(house.http.post("/v1/chat/completions", json=body))
        waiting = keys.remote(document["queue"])
        before = set(await house.store.redis.zrange(waiting, 0, -1))
        (task_id,) = await eventually(
            lambda: _new(house, waiting, before), because="the call is a task that waits for a worker"
        )
        # A caller that hangs up cancels; the record is read before.
        house.kept[task_id] = await house.store.record(task_id)
        calling.cancel()
        return task_id


async def _new(house: House, index: str, before: set[str]) -> list[str]:
    return [member for member in await house.store.redis.zrange(index, 0, -1) if member not in before]


async def by_grpc(house: House, document: dict[str, Any]) -> str:
    stub = task_pb2_grpc.TaskServiceStub(house.files)  # type: ignore[no-untyped-call]
    answer = await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=house.file("grpc.png")))
    return str(answer.task_id)


async def _retried(house: House, document: dict[str, Any], again: Callable[[str], Awaitable[Any]]) -> str:
    """Submit, cancel, let only the history know it, and run it again by `again`."""
    task_id = await by_v1(house, document)
    await house.answer("POST", f"/api/v1/tasks/{task_id}/cancel")
    await record_all(house.recorder, house.store)
    await forget(house.store, task_id)
    await again(task_id)
    return task_id


async def by_retry(house: House, document: dict[str, Any]) -> str:
    return await _retried(house, document, lambda task_id: house.answer("POST", f"/api/v1/tasks/{task_id}/retry"))


async def by_bulk_retry(house: House, document: dict[str, Any]) -> str:
    async def again(task_id: str) -> None:
        wanted = {"action": "retry", "filter": {"type": document["type"], "status": ["cancelled"]}}
        answer = await house.answer("POST", "/api/v1/bulk", json=wanted)
        claim = await house.store.claim(answer["task_id"], worker="tester")
        assert isinstance(claim, Claim)
        running = asyncio.create_task(BulkHandler(house.settings)(BULK.validate(wanted), Context(claim, _Silent())))
        while not running.done():
            await record_all(house.recorder, house.store)
            await asyncio.sleep(0.05)
        assert (await running)["done"] == 1

    return await _retried(house, document, again)


class _Silent:
    """Takes progress reports."""

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        return asyncio.sleep(0)


async def by_workflow(house: House, document: dict[str, Any]) -> str:
    made = await house.answer("POST", "/api/v1/workflows", json={"nodes": {"one": document}})
    return str(made["nodes"]["one"])


HTTP: Final[dict[str, Door]] = {
    "batch": by_batch,
    "client": by_client,
    "asyncio client": by_async_client,
    "type over HTTP": by_type_over_http,
    "type at the store": by_type_at_the_store,
    "command line": by_command_line,
    "definition": by_definition,
    "retry": by_retry,
    "bulk retry": by_bulk_retry,
}
CELERY: Final[dict[str, Door]] = {"delay": by_delay}
WORKFLOW: Final[dict[str, Door]] = {"workflow": by_workflow}

#: What a door adds to each record, or cannot say: these fields are not compared.
OF_DOOR: Final[dict[str, set[str]]] = {
    "definition": {"metadata", "definition_id", "trigger", "scheduled_at", "slot_ms", "retention_ms", "user_id"},
    "workflow": {"workflow_id", "node"},
    "retry": {"attempts_allowed", "cancel_requested"},
    "bulk retry": {"attempts_allowed", "cancel_requested"},
    # A deadline that counts from submission belongs to each call.
    "dispatch": {"deadline_ms", "reply_to", "max_retries", "deadline_in_ms"},
    "OpenAI": {"deadline_ms", "reply_to", "max_retries", "deadline_in_ms"},
}

KINDS: Final[dict[str, tuple[dict[str, Any], dict[str, Door]]]] = {
    "async": ({"type": "doors.asynchronous", "payload": {"text": "a"}}, {**HTTP, **CELERY}),
    "sync": ({"type": "doors.synchronous", "payload": {"text": "a"}}, {**HTTP, **CELERY}),
    "grpc_task": (
        {"type": "grpc_task", "payload": {"service": "demo", "method": "count", "data": {"seconds": 1}}},
        {**HTTP, **CELERY},
    ),
    "file_process with a path": ({"type": "file_process", "payload": {"processor": "checksum"}}, {**HTTP, **CELERY}),
    "remote": (
        {"type": "remote", "queue": "chat", "payload": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}},
        {**HTTP, "dispatch": by_dispatch, "OpenAI": by_openai},
    ),
    "wait": ({"type": "wait", "payload": {"signal": "approval", "title": "?", "timeout": 60}}, HTTP),
    "external": ({"type": "doors.synchronous", "queue": "foreign", "payload": {"text": "a"}}, {**HTTP, **CELERY}),
    "secret": ({"type": "doors.secret", "payload": {"name": "ann", "password": SECRET}}, {**HTTP, **CELERY}),
    "with a user": ({"type": "doors.synchronous", "user_id": "8", "payload": {"text": "a"}}, HTTP),
    "with a key": (
        {"type": "doors.synchronous", "key": "c7", "cost": 5, "payload": {"text": "a"}},
        {**HTTP, **CELERY, **WORKFLOW},
    ),
    "with a key in the payload": (
        {"type": "doors.by_path", "payload": {"order": {"customer": "c7"}}},
        {**HTTP, **CELERY, **WORKFLOW},
    ),
    "with a key by default": ({"type": "doors.by_default", "payload": {}}, {**HTTP, **CELERY, **WORKFLOW}),
    "with a key of a function": (
        {"type": "doors.by_function", "payload": {"order": {"customer": "c7"}}},
        {**HTTP, **CELERY, **WORKFLOW},
    ),
    "with a key that wins": (
        {"type": "doors.by_path", "key": "mine", "payload": {"order": {"customer": "c7"}}},
        {**HTTP, **CELERY, **WORKFLOW},
    ),
    "remote with a key": (
        {"type": "remote", "queue": "chat", "key": "c7", "cost": 2, "payload": {"model": "m", "messages": ["hi"]}},
        {**HTTP, **WORKFLOW, "dispatch": by_dispatch, "OpenAI": by_openai},
    ),
    "all options": (
        {
            "type": "doors.asynchronous",
            "payload": {"text": "a"},
            "queue": "other",
            "max_retries": 2,
            "priority": 7,
            "run_at": "2090-01-31T08:00:00Z",
            "timeout": "5m",
            "expires": "2091-01-31T08:00:00Z",
            "user_id": "9",
            "key": "c9",
            "cost": 3,
            "metadata": {"a": [1]},
            "tags": ["x", "y"],
            "depends_on": [],
            "on_unmet": "fail",
        },
        {name: HTTP[name] for name in ("batch", "client", "asyncio client", "type over HTTP", "type at the store")},
    ),
    "without a payload": ({"type": "doors.empty"}, {"batch": by_batch, "definition": by_definition}),
    "delayed": (
        {"type": "doors.synchronous", "delay": 3600, "payload": {"text": "a"}},
        {**{name: door for name, door in HTTP.items() if name != "definition" and "retry" not in name}, **CELERY},
    ),
}


#: The key that a task of a kind has.
KEYS: Final = {
    "with a key": "c7",
    "with a key in the payload": "c7",
    "with a key by default": "c0",
    "with a key of a function": "C7",
    "with a key that wins": "mine",
    "remote with a key": "c7",
    "all options": "c9",
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_door_stores_the_same_record(kind: str, house: House) -> None:
    document, doors = KINDS[kind]
    if kind == "file_process with a path":
        document = {**document, "payload": {**document["payload"], "path": house.file()}}
    if kind == "all options":
        # These four change how often a task is made, or when: they have tests of their own.
        apart = {"delay", "idempotency_key", "once", "debounce"}
        assert TaskOptions.__annotations__.keys() - document.keys() == apart
        parent = await by_v1(house, {"type": "doors.synchronous", "payload": {"text": "a"}})
        document = {**document, "depends_on": [{"task": parent, "when": "ended"}]}
    model = await house.record(await by_v1(house, document))
    assert model.get("key") == KEYS.get(kind)
    differences: dict[str, Any] = {}
    for name, door in doors.items():
        task_id = await door(house, document)
        record = await house.record(task_id)
        shown = await house.answer("GET", f"/api/v1/tasks/{task_id}")
        assert shown["depends_on"] == (document.get("depends_on") or None), name
        record["payload"], expected = json.loads(record["payload"]), {**model, "payload": json.loads(model["payload"])}
        fields = (set(record) | set(model)) - OF_DOOR.get(name, set())
        wrong = {one: (expected.get(one), record.get(one)) for one in fields if expected.get(one) != record.get(one)}
        if wrong:
            differences[name] = wrong
    assert differences == {}
    await _no_secret_shows(house)


async def _no_secret_shows(house: House) -> None:
    """No answer, list, message or event shows the secret; only the record in the store has it."""
    await house.answer("GET", "/api/v1/tasks")
    await record_all(house.recorder, house.store)
    for found in (await house.answer("GET", "/api/v1/tasks?limit=200"))["items"]:
        for view in ("", "/events", "/log", "/progress"):
            await house.answer("GET", f"/api/v1/tasks/{found['task_id']}{view}")
    for found in (await house.answer("GET", "/api/v1/definitions"))["items"]:
        for view in ("", "/changes", "/instances", "/preview"):
            await house.answer("GET", f"/api/v1/definitions/{found['task_def_id']}{view}")
        await house.answer("GET", f"/tasks/{found['task_def_id']}")
        await house.answer("GET", f"/users/{found['user_id']}/tasks")
    for path in ("/api/v1/dead", "/api/v1/running", "/api/v1/audit", "/api/v1/groups", "/api/v1/task-types"):
        await house.answer("GET", path)
    lists = [key async for key in house.store.redis.scan_iter("*", _type="list")]
    for key in lists:
        house.texts += await house.store.redis.lrange(key, 0, -1)
    streams = [key async for key in house.store.redis.scan_iter("*", _type="stream")]
    for key in streams:
        house.texts += [json.dumps(fields) for _, fields in await house.store.redis.xrange(key)]
    encoded = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    assert [text for text in house.texts if SECRET in text or encoded in text] == []


@pytest.mark.parametrize("door", ["v1", "batch", "client", "asyncio client", "command line"])
async def test_every_door_hands_an_upload_over(door: str, house: House) -> None:
    file_id = await house.upload()
    document = {"type": "file_process", "payload": {"processor": "checksum", "file_id": file_id}}
    task_id = await {"v1": by_v1, **HTTP}[door](house, document)
    stored = await house.store.redis.hgetall(keys.task(task_id))
    assert (await asyncio.to_thread(Path(stored["original_file_path"]).read_bytes)) == b"a picture"
    assert stored["original_file_name"] == "picture.png"
    assert (await house.http.get(f"/api/v1/files/{file_id}")).status_code == 404


async def test_a_file_that_grpc_takes_over_is_a_task_like_an_upload(house: House) -> None:
    document = {"type": "file_process", "payload": {"processor": "image", "file_id": await house.upload()}}
    by_upload = await house.record(await by_v1(house, document))
    by_call = await house.record(await by_grpc(house, document))
    assert {**by_upload, "payload": ""} == {**by_call, "payload": ""}
    assert json.loads(by_call["payload"]) == {"processor": "image"}


async def test_doors_that_hand_nothing_over_refuse_files_that_must_be(house: House) -> None:
    upload = {"type": "file_process", "payload": {"file_id": await house.upload()}}
    foreign = {"type": "file_process", "queue": "foreign", "payload": {"path": house.file()}}
    for refused, where in ((upload, "payload.file_id"), (foreign, "payload.path")):
        definition = {"user_id": "7", "trigger_type": "LOOP", "trigger_args": {"interval": 60}, "task": refused}
        answer = await house.http.post("/api/v1/definitions", json=definition)
        assert answer.status_code == 422, answer.text
        assert f"task.{where}" in answer.text
        with pytest.raises(InvalidSubmissionError, match=where):
            await by_delay(house, refused)
    assert await house.store.group_names() == []


async def test_a_retry_keeps_its_file_and_refuses_another_one(house: House) -> None:
    first = await house.upload()
    payload = {"processor": "checksum", "file_id": first}
    task_id = await by_v1(house, {"type": "file_process", "payload": payload})
    await house.answer("POST", f"/api/v1/tasks/{task_id}/cancel")
    for other in ({"file_id": await house.upload("other.png")}, {"path": house.file()}):
        answer = await house.http.post(
            f"/api/v1/tasks/{task_id}/retry", json={"payload": {"processor": "checksum", **other}}
        )
        assert answer.status_code == 422, answer.text
        assert "a retry keeps the file that the task has" in answer.text
    for same in ({"file_id": first}, {}):
        await house.answer("POST", f"/api/v1/tasks/{task_id}/retry", json={"payload": {"processor": "probe", **same}})
        stored = await house.store.redis.hgetall(keys.task(task_id))
        assert json.loads(stored["payload"])["processor"] == "probe"
        assert (await asyncio.to_thread(Path(stored["original_file_path"]).read_bytes)) == b"a picture"
        await house.answer("POST", f"/api/v1/tasks/{task_id}/cancel")


async def test_a_key_is_known_both_ways(house: House) -> None:
    document = {"type": "doors.synchronous", "payload": {"text": "a"}, "idempotency_key": "k"}
    first = await by_type_over_http(house, document)
    assert await by_type_at_the_store(house, document) == first
    assert await by_async_client(house, document) == first


@pytest.mark.parametrize("door", ["v1", "batch"])
async def test_a_repeated_key_answers_with_the_first_task(door: str, house: House) -> None:
    document = {"type": "doors.synchronous", "payload": {"text": "a"}}
    first = await house.http.post("/api/v1/tasks", json=document, headers={"Idempotency-Key": "k"})
    if door == "v1":
        again = await house.http.post("/api/v1/tasks", json=document, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["task_id"]) == (200, first.json()["task_id"])
    else:
        batch = {"tasks": [{**document, "idempotency_key": "k"}]}
        (result,) = (await house.http.post("/api/v1/tasks/batch", json=batch)).json()["results"]
        assert (result["status"], result["task_id"]) == (200, first.json()["task_id"])


async def test_a_payload_that_does_not_fit_is_refused(house: House) -> None:
    wrong = {"type": "doors.synchronous", "payload": {"text": 7, "times": "often"}}
    for path, body in (
        ("/api/v1/tasks", wrong),
        ("/api/v1/definitions", {"user_id": "7", "trigger_type": "IMMEDIATE", "task": wrong}),
    ):
        answer = await house.http.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert "payload.times" in answer.text
    batch = (await house.http.post("/api/v1/tasks/batch", json={"tasks": [wrong]})).json()
    assert batch["results"][0]["status"] == 422
    assert await house.store.group_names() == []


async def test_what_an_edit_of_a_definition_shows_as_a_mask_stays_the_secret(house: House) -> None:
    task = {"type": "doors.secret", "payload": {"name": "ann", "password": SECRET}}
    definition = {"user_id": "7", "trigger_type": "LOOP", "trigger_args": {"interval": 60}, "task": task}
    made = await house.answer("POST", "/api/v1/definitions", json=definition)
    path = f"/api/v1/definitions/{made['task_def_id']}"
    shown = (await house.answer("GET", path))["task"]
    assert shown["payload"] == {"name": "ann", "password": "***"}
    shown["payload"]["name"] = "ben"
    await house.answer("PATCH", path, json={"task": shown})
    await house.answer("GET", f"{path}/changes")
    task_id = (await house.answer("POST", f"{path}/trigger"))["task_id"]
    assert json.loads((await house.record(task_id))["payload"]) == {"name": "ben", "password": SECRET}
    await _no_secret_shows(house)


async def test_a_mask_in_the_new_payload_of_a_retry_stands_for_the_secret_that_the_task_has(house: House) -> None:
    task_id = await by_v1(house, {"type": "doors.secret", "payload": {"name": "ann", "password": SECRET}})
    await house.answer("POST", f"/api/v1/tasks/{task_id}/cancel")
    shown = (await house.answer("GET", f"/api/v1/tasks/{task_id}"))["payload"]
    await house.answer("POST", f"/api/v1/tasks/{task_id}/retry", json={"payload": {**shown, "name": "ben"}})
    assert json.loads((await house.record(task_id))["payload"]) == {"name": "ben", "password": SECRET}
    await _no_secret_shows(house)


async def _refused_by_v1(house: House, document: dict[str, Any]) -> None:
    for answer in (
        await house.http.post("/api/v1/tasks", json=document),
        await house.http.post("/api/v1/workflows", json={"nodes": {"one": document}}),
    ):
        assert (answer.status_code, answer.json()["code"], answer.json()["key"]) == (429, "key_full", document["key"])
        assert int(answer.headers["retry-after"]) >= 1


async def _refused_by_batch(house: House, document: dict[str, Any]) -> None:
    answer = await house.answer("POST", "/api/v1/tasks/batch", json={"tasks": [document, {**document, "key": "else"}]})
    assert [result["status"] for result in answer["results"]] == [429, 202]
    assert answer["results"][0]["error"]["code"] == "key_full"


async def _refused_by_clients(house: House, document: dict[str, Any]) -> None:
    async with AsyncClient(house.url, retries=0) as client:
        with pytest.raises(KeyFullError) as caught:
            await client.submit(document["type"], document["payload"], **_options(document))
        assert (caught.value.key, caught.value.rule, caught.value.limit) == (document["key"], "one", 1)
        assert caught.value.retry_after_s >= 1


async def _refused_by_python(house: House, document: dict[str, Any]) -> None:
    with pytest.raises(KeyFullError):
        await by_type_at_the_store(house, document)
    with pytest.raises(KeyFullError):
        await by_delay(house, document)


async def _refused_by_command_line(house: House, document: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="already has 1 waiting tasks"):
        await by_command_line(house, document)


async def _refused_by_definition(house: House, document: dict[str, Any]) -> None:
    task_id = await by_definition(house, document)
    assert not await house.store.redis.exists(keys.task(task_id)), "the firing waits for room"


async def _refused_by_dispatch(house: House, document: dict[str, Any]) -> None:
    work = {"messages": ["hi"], "model": "chat/m", "key": document["key"]}
    async with worker(house.url, "chat", ready=False):
        for path in ("/api/openai", "/v1/chat/completions"):
            answer = await house.http.post(path, json={**work, "group": "chat", "async": True})
            assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True), answer.text


REFUSED: Final = {
    "v1": _refused_by_v1,
    "batch": _refused_by_batch,
    "clients": _refused_by_clients,
    "python": _refused_by_python,
    "command line": _refused_by_command_line,
    "definition": _refused_by_definition,
    "dispatch": _refused_by_dispatch,
}


@pytest.mark.parametrize("door", REFUSED)
async def test_every_door_refuses_a_task_of_a_key_that_is_full(door: str, house: House) -> None:
    document = {"type": "doors.synchronous", "key": "c7", "payload": {"text": "a"}}
    if door == "dispatch":
        document = {"type": "remote", "queue": "chat", "key": "c7", "payload": {"model": "m", "messages": ["hi"]}}
    group = str(document.get("queue", "default"))
    await house.store.set_rule(LimitRule("one", group=group, by=By.KEY, max_waiting=1))
    await by_v1(house, document)
    await REFUSED[door](house, document)
    waiting = [found for found in await house.store.group_names() if found == group]
    assert waiting == [group]
    records = [key async for key in house.store.redis.scan_iter("task:*", _type="hash")]
    stored = [await house.store.redis.hget(record, "key") for record in records]
    assert stored.count("c7") == 1, "nothing of what was refused is left"


async def test_a_retry_waits_for_room_of_its_key_as_a_submission_does(house: House) -> None:
    document = {"type": "doors.synchronous", "key": "c7", "payload": {"text": "a"}}
    ended, waiting = [await by_v1(house, document) for _ in range(2)]
    await house.answer("POST", f"/api/v1/tasks/{ended}/cancel")
    await house.store.set_rule(LimitRule("one", type="doors.synchronous", by=By.KEY, max_waiting=1))
    answer = await house.http.post(f"/api/v1/tasks/{ended}/retry")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "key_full", "1")
    assert (await house.answer("GET", f"/api/v1/tasks/{ended}"))["status"] == "cancelled"
    await house.answer("POST", f"/api/v1/tasks/{waiting}/cancel")
    assert (await house.answer("POST", f"/api/v1/tasks/{ended}/retry"))["status"] == "pending"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": ""}, "has 0 characters"),
        ({"key": "a" * 129}, "has 129 characters"),
        ({"key": "a\nb"}, "cannot be printed"),
        ({"key": ["c7"]}, "string"),
        ({"cost": 0}, "greater than or equal to 1"),
        ({"cost": 10_001}, "less than or equal to 10000"),
        ({"type": "doors.by_path", "payload": {"order": {"customer": ""}}}, "payload.order.customer has 0 characters"),
    ],
)
async def test_a_key_or_a_cost_that_cannot_be_one_is_refused(wrong: dict[str, Any], says: str, house: House) -> None:
    document = {"type": "doors.synchronous", "payload": {"text": "a"}, **wrong}
    answer = await house.http.post("/api/v1/tasks", json=document)
    assert answer.status_code == 422, answer.text
    assert says in answer.text
    batch = await house.answer("POST", "/api/v1/tasks/batch", json={"tasks": [document]})
    assert batch["results"][0]["status"] == 422


async def test_lists_charts_and_bulk_operations_filter_by_key(house: House) -> None:
    document = {"type": "doors.synchronous", "payload": {"text": "a"}}
    mine = [await by_v1(house, {**document, "key": 7}) for _ in range(2)]
    await by_v1(house, {**document, "key": "c8"})
    await by_v1(house, document)
    await record_all(house.recorder, house.store)
    listed = await house.answer("GET", "/api/v1/tasks", params={"key": "7"})
    assert {item["task_id"] for item in listed["items"]} == set(mine)
    assert {item["key"] for item in listed["items"]} == {"7"}
    assert (await house.answer("GET", "/api/v1/stats", params={"key": "7"}))["total"]["submitted"] == 2
    wanted = {"action": "cancel", "filter": {"key": "7"}, "dry_run": True}
    assert (await house.answer("POST", "/api/v1/bulk", json=wanted))["matched"] == 2
    async with AsyncClient(house.url) as client:
        assert {task.task_id async for task in client.list(key="7")} == set(mine)
        assert [task.key async for task in client.list(key="c8")] == ["c8"]
        short = [dict(record) async for record in client.list(key="7", fields=["type", "key"])]
        assert {record["task_id"] for record in short} == set(mine)
        assert {(len(record), record["type"], record["key"]) for record in short} == {(3, document["type"], "7")}
        assert await client.bulk_count("cancel", key="7") == 2
        assert (await client.stats(key="7")).total.submitted == 2
        assert [task async for task in client.dead(key="7")] == []
    environment = {"REDIS_URL": str(house.settings.redis_url), "DATABASE_URL": str(house.settings.database_url)}
    _, out, _ = await celeriac("list", "--key", "7", "--json", **environment)
    assert {json.loads(line)["task_id"] for line in out.splitlines()} == set(mine)
