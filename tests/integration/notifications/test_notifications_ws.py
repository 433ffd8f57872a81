"""Notifications (docs/notifications.md) over a real WebSocket and HTTP, against the real application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from celeriac.access.principal import Scope
from celeriac.model import Claim, Dependency, Failure, Progress, Submission
from celeriac.notifications import TaskNotificationService
from celeriac.notifications.reporter import Reporter
from celeriac.settings import Settings
from celeriac.settings.notifications import NotificationSettings
from celeriac.store import keys
from celeriac.store.suspension import WaitForSignal
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.api.notification_client import Listener, listening, token
from tests.kit.waiting import eventually


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url, data_dir=tmp_path, notifications=NotificationSettings(max_messages=10))


@pytest.fixture
async def url(settings: Settings, store: TaskStore) -> AsyncIterator[str]:
    async with serving(settings) as address:
        yield address


@pytest.fixture
async def service(settings: Settings, valkey_url: str) -> AsyncIterator[TaskNotificationService]:
    reporter = Reporter(lambda: (settings, valkey_url))
    yield TaskNotificationService(reporter)
    await asyncio.to_thread(reporter.close)


def signed(settings: Settings, user_id: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(settings, user_id)}"}


async def submitted(store: TaskStore, task_id: str, user_id: str | None) -> Claim:
    await store.submit(Submission(task_id=task_id, type="demo", user_id=user_id))
    return await claim(store, task_id)


def told(listener: Listener, task_id: str) -> list[tuple[str, float]]:
    return [(m["status"], m["progress"]) for m in listener.messages if m.get("task_id") == task_id]


async def test_a_user_is_told_of_own_tasks_from_start_to_end(url: str, store: TaskStore, settings: Settings) -> None:
    before = await submitted(store, "before", "7")
    async with listening(url, 7, f"?token={token(settings, 7)}") as listener:
        connected = await listener.next()
        assert connected["type"] == "connected"
        assert {"connection_id", "message", "timestamp", "id"} <= set(connected)
        active = await listener.next()
        assert (active["type"], active["count"]) == ("active_tasks", 1)
        task = active["tasks"][0]
        assert (task["task_id"], task["status"], task["progress"], task["error"]) == ("before", "running", 0, None)
        await submitted(store, "of another user", "8")
        await submitted(store, "of nobody", None)
        await store.progress(before, 1, Progress(40, "load", "rows", 1))
        await store.complete(before, '{"rows": 3}')
        progress = await listener.next()
        assert (progress["status"], progress["progress"], progress["step"], progress["message"]) == (
            *("progress", 40),
            *("load", "rows"),
        )
        completed = await listener.next()
        assert (completed["status"], completed["progress"], completed["result"], completed["error"]) == (
            *("completed", 100),
            *({"rows": 3}, None),
        )
        broken = await submitted(store, "broken", "7")
        await store.fail(broken, Failure("bad_input", "no rows", False), 0)
        await store.submit(Submission(task_id="waits", type="demo", user_id="7"))
        await store.cancel("waits")
        failed = await listener.until("broken", "failed")
        assert (failed["error"], failed["error_type"]) == ("no rows", "bad_input")
        cancelled = await listener.until("waits", "cancelled")
        assert cancelled["message"] == "cancelled before it ran"
        assert told(listener, "broken") == [("pending", 0), ("running", 0), ("failed", 0)]
        assert not told(listener, "of another user") + told(listener, "of nobody")
        await listener.say(type="ping")
        assert (await listener.next("pong"))["timestamp"]


async def test_a_user_is_told_what_own_tasks_wait_for(url: str, store: TaskStore, settings: Settings) -> None:
    async with listening(url, 7, f"?token={token(settings, 7)}") as listener:
        await listener.next("connected")
        running = await submitted(store, "asks", "7")
        question = WaitForSignal("approval", title="Refund 120 €", schema='{"type":"boolean"}', timeout_ms=86_400_000)
        await store.suspend(running, [question])
        shown = await listener.until("asks", "pending", having="waiting_for")
        (item,) = shown["waiting_for"]
        assert (item["signal"], item["title"], item["schema"]) == ("approval", "Refund 120 €", {"type": "boolean"})
        assert item["expires_at"] is not None
        assert shown["message"] == "Task waits for an answer"
        await store.submit(Submission("naps", "sleep", user_id="7", awaits={"sleep": "sleep", "for_ms": 3_600_000}))
        assert (await listener.until("naps", "pending", having="waiting_for"))["message"] == "Task sleeps"
    # One who comes later sees the same in the state of the task.
    async with listening(url, 7, f"?token={token(settings, 7)}") as later:
        active = await later.next("active_tasks")
        assert {one["task_id"]: one.get("waiting_for") for one in active["tasks"]}["asks"] == [item]
        await store.signal("asks", "approval", "true")
        resumed = await later.until("asks", "pending")
        assert "waiting_for" not in resumed


async def test_nobody_gets_in_without_the_own_token(url: str, settings: Settings) -> None:
    expired = token(settings, 7, ttl_s=-10)
    for query, status in (
        *(("", 401), ("?token=", 401), ("?token=nonsense", 401)),
        *((f"?token={expired}", 401), (f"?token={token(settings, 8)}", 403)),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with listening(url, 7, query):
                pass
        assert refused.value.response.status_code == status, query
        assert json.loads(refused.value.response.body)["code"] in ("unauthenticated", "forbidden")
    with pytest.raises(InvalidStatus):
        async with listening(url, "seven", f"?token={token(settings, 'seven')}"):
            pass


async def test_tokens_stay_out_of_the_log(url: str, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    mine = token(settings, 7)
    async with listening(url, 7, f"?last_event_id=1-1&token={mine}") as listener:
        await listener.next("connected")
    with pytest.raises(InvalidStatus):
        async with listening(url, 7, f"?token={token(settings, 8)}"):
            pass
    assert "/api/task/ws/task/7?last_event_id=1-1" in caplog.text
    assert "token=" not in caplog.text
    assert mine not in caplog.text
    assert "without completing" not in caplog.text


async def test_a_token_may_come_as_header_subprotocol_or_first_message(url: str, settings: Settings) -> None:
    mine, other = token(settings, 7), token(settings, 8)
    async with listening(url, 7, additional_headers={"Authorization": f"Bearer {mine}"}) as listener:
        await listener.next("connected")
    async with listening(url, 7, subprotocols=["celeriac", f"bearer.{mine}"]) as listener:
        assert listener.connection.subprotocol == "celeriac", "the token is not sent back"
        await listener.next("connected")
    async with listening(url, 7, subprotocols=["celeriac"]) as listener:
        await listener.say(type="auth", token=mine)
        await listener.next("connected")
    for message in ({"type": "auth", "token": other}, {"type": "auth"}, {"type": "ping"}):
        async with listening(url, 7, "?auth=message") as listener:
            await listener.say(**message)
            assert await listener.closed() == 1008
            assert not listener.messages


async def test_who_comes_back_gets_what_was_missed_and_no_more(
    url: str, service: TaskNotificationService, settings: Settings
) -> None:
    mine = f"?token={token(settings, 7)}"
    async with listening(url, 7, mine) as listener:
        await listener.next("active_tasks")
        service.register_task("t", user_id=7)
        await service.notify_started("t")
        await listener.until("t", "running")
        last = listener.last_id
    await service.notify_progress("t", 50)
    await service.notify_completed("t", result=[1])
    async with listening(url, 7, f"{mine}&last_event_id={last}") as back:
        connected = await back.next()
        assert (connected["recovered"], connected["id"]) == (True, last)
        assert (await back.next())["count"] == 0
        await back.until("t", "completed")
        assert told(back, "t") == [("progress", 50), ("completed", 100)]
        assert [m["id"] for m in back.messages[2:]] == sorted({m["id"] for m in back.messages[2:]})
        service.register_task("live", user_id=7)
        await back.until("live", "pending")


async def test_what_can_no_longer_be_told_is_said_and_shown_as_it_is(
    url: str, service: TaskNotificationService, store: TaskStore, settings: Settings
) -> None:
    mine = f"?token={token(settings, 7)}"
    async with listening(url, 7, mine) as listener:
        await listener.next("active_tasks")
        service.register_task("t", user_id=7)
        await listener.until("t", "pending")
        last = listener.last_id
    for percentage in range(250):
        await service.notify_progress("t", percentage / 3)
    await service.notify_completed("t", "late")
    for lost in (last, "1-1", "99999999999999-0", "nonsense"):
        async with listening(url, 7, f"{mine}&last_event_id={lost}") as back:
            assert (await back.next("connected"))["recovered"] is False
            assert (await back.next())["type"] == "active_tasks"
            ended = await back.next()
            assert (ended["task_id"], ended["status"], ended["result"]) == ("t", "completed", "late")
            assert (ended["snapshot"], ended["id"]) == (True, lost), "cut off here, it would be shown again"
            assert (await back.next())["type"] == "snapshot_complete"
    await store.redis.delete(keys.feed("7"))
    async with listening(url, 7, f"{mine}&last_event_id={back.last_id}") as again:
        assert (await again.next("connected"))["recovered"] is False


async def test_all_connections_of_a_user_get_everything_on_any_process(
    url: str, service: TaskNotificationService, settings: Settings
) -> None:
    mine = f"?token={token(settings, 7)}"
    async with (
        serving(settings) as other,
        listening(url, 7, mine) as first,
        listening(url, 7, mine) as second,
        listening(other, 7, mine) as third,
    ):
        for listener in (first, second, third):
            await listener.next("active_tasks")
        service.register_task("t", user_id=7)
        await service.notify_completed("t")
        for listener in (first, second, third):
            await listener.until("t", "completed")
            assert told(listener, "t") == [("pending", 0), ("running", 0), ("completed", 100)]


async def test_single_tasks_are_for_those_who_may_see_them(
    url: str, store: TaskStore, service: TaskNotificationService, settings: Settings
) -> None:
    theirs = await submitted(store, "theirs", "8")
    async with listening(url, 7, f"?token={token(settings, 7)}") as listener:
        for task_id in ("theirs", "nobody's"):
            await listener.say(type="subscribe", task_id=task_id)
            error = await listener.next("error")
            assert (error["code"], error["task_id"]) == ("task_not_found", task_id)
        service.register_task("own", user_id=7)
        await listener.until("own", "pending")
        await listener.say(type="subscribe", task_id="own")
        assert (await listener.until("own", "pending"))["snapshot"] is True
        await service.notify_started("own")
        await service.notify_completed("own")
        await listener.until("own", "completed")
        assert [status for status, _ in told(listener, "own")] == ["pending", "pending", "running", "completed"]
    async with listening(url, 9, f"?token={token(settings, 9, Scope.ADMIN)}") as admin:
        await admin.say(type="subscribe", task_id="theirs")
        await admin.until("theirs", "running")
        await store.progress(theirs, 1, Progress(10, "", "", 1))
        seen = await admin.until("theirs", "progress")
        await admin.say(type="unsubscribe", task_id="theirs")
        await admin.say(type="ping")
        await admin.next("pong")
        await store.progress(theirs, 2, Progress(20, "", "", 1))
        await store.complete(theirs, "1")
        await admin.say(type="subscribe", task_id="theirs", last_event_id=seen["task_event_id"])
        await admin.until("theirs", "completed")
        while ("progress", 20) not in told(admin, "theirs"):
            await admin.next()


async def test_rough_clients_are_told_or_cut_off(url: str, settings: Settings) -> None:
    mine = f"?token={token(settings, 7)}"

    async def code_after(*messages: str | bytes) -> int | None:
        async with listening(url, 7, mine) as listener:
            await listener.next("active_tasks")
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    await listener.connection.send(message)
            return await listener.closed()

    async with listening(url, 7, mine) as listener:
        for nonsense in ("", "{", "[]", '"ping"', '{"type": "subscribe"}', '{"type": 5}', b"\x00\xff"):
            await listener.connection.send(nonsense)
            assert (await listener.next("error"))["code"] == "invalid_request"
        await listener.say(type="ping")
        await listener.next("pong")
    assert await code_after("x" * 5000) == 1009
    assert await code_after(*['{"type": "ping"}'] * 200) == 1008


async def test_a_user_has_a_limit_of_connections(valkey_url: str, tmp_path: Path) -> None:
    few = NotificationSettings(max_connections_per_user=2, max_connections=3)
    settings = Settings(redis_url=valkey_url, data_dir=tmp_path, notifications=few)
    seven, eight = f"?token={token(settings, 7)}", f"?token={token(settings, 8)}"
    async with serving(settings) as url, listening(url, 7, seven), listening(url, 8, eight):
        async with listening(url, 7, seven):
            for user, query in ((7, seven), (8, eight)):
                with pytest.raises(InvalidStatus) as refused:
                    async with listening(url, user, query):
                        pass
                assert refused.value.response.status_code == 429

        async def admitted() -> bool:
            try:
                async with listening(url, 8, eight) as listener:
                    return bool(await listener.next("connected"))
            except InvalidStatus:
                return False

        await eventually(admitted, because="a connection that ended counts no more")


async def test_the_connection_ends_with_its_token(url: str, settings: Settings) -> None:
    async with listening(url, 7, f"?token={token(settings, 7, ttl_s=8)}") as listener:
        assert await listener.closed() == 1008


async def test_a_slow_client_is_cut_off_and_misses_nothing(valkey_url: str, tmp_path: Path) -> None:
    little = NotificationSettings(max_messages=5000, buffer_messages=200, buffer_bytes=200_000)
    # A busy machine may take long for the reports, during which nothing renews the lease.
    settings = Settings(redis_url=valkey_url, data_dir=tmp_path, notifications=little, lease=120)
    mine = f"?token={token(settings, 7)}"
    # Small buffers of the system, so that little is on its way.
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    reports = 3000
    async with (
        TaskStore(valkey_url, settings.store) as store,
        serving(settings) as url,
        listening(url, 7, mine) as quick,
    ):
        await quick.next("active_tasks")
        running = await submitted(store, "busy", "7")
        await quick.until("busy", "running")
        host, port = url.removeprefix("http://").split(":")
        await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
        async with listening(url, 7, mine, sock=narrow) as slow:
            await slow.next("active_tasks")
            slow.connection.transport.pause_reading()
            reading = asyncio.create_task(quick.until("busy", "completed"))
            for number in range(1, reports + 1):
                await store.progress(running, number, Progress(number / 100, "", "m" * 2000, 1))
            await store.complete(running, "null")
            await reading
            slow.connection.transport.resume_reading()
            assert await slow.closed() in (1013, None)
        assert len(told(quick, "busy")) == reports + 3, "the quick one is not held up"
        assert len(told(slow, "busy")) < reports
        got, last = list(told(slow, "busy")), slow.last_id
        async with listening(url, 7, f"{mine}&last_event_id={last}") as back:
            assert (await back.next("connected"))["recovered"] is True
            await back.until("busy", "completed")
        assert got + told(back, "busy") == told(quick, "busy")[2:]


async def test_polling_and_removing_own_tasks(
    url: str, store: TaskStore, service: TaskNotificationService, settings: Settings
) -> None:
    service.register_task("interview_123", user_id=7)
    await service.notify_progress("interview_123", 30, "third question", step="Step 3/10")
    await submitted(store, "theirs", "8")
    async with httpx.AsyncClient(timeout=60, base_url=url, headers=signed(settings, 7)) as client:
        answer = await client.get("/api/task/task/interview_123/status")
        assert answer.status_code == 200
        fields: dict[str, Any] = answer.json()["data"]
        timestamp = fields.pop("timestamp")
        assert timestamp.endswith("Z")
        assert fields == {
            "task_id": "interview_123", "status": "progress", "progress": 30, "message": "third question",
            "step": "Step 3/10", "result": None, "error": None,
        }  # fmt: skip
        assert (await client.delete("/api/task/task/interview_123")).status_code == 409
        # Neither is one that another task still reads.
        await store.complete(await submitted(store, "parent", "7"), "1")
        await store.submit(Submission(task_id="child", type="demo", depends_on=[Dependency("parent")]))
        problem = (await client.delete("/api/task/task/parent")).json()
        assert (problem["code"], problem["task_status"]) == ("illegal_transition", "completed")
        await store.cancel("child")
        assert (await client.delete("/api/task/task/parent")).status_code == 204
        await service.notify_completed("interview_123", {"score": 5})
        service.register_task("next", user_id=7)
        listed = (await client.get("/api/task/tasks")).json()
        assert listed["count"] == 2
        assert [(t["task_id"], t["status"]) for t in listed["data"]] == [
            *(("next", "pending"), ("interview_123", "completed")),
        ]
        assert listed["data"][1]["result"] == {"score": 5}
        for path in ("/api/task/task/theirs/status", "/api/task/task/nobody/status"):
            assert (await client.get(path)).json()["code"] == "task_not_found"
        assert (await client.delete("/api/task/task/theirs")).status_code == 404
        assert (await client.delete("/api/task/task/interview_123")).status_code == 204
        assert (await client.get("/api/task/task/interview_123/status")).status_code == 404
        assert (await client.get("/api/task/tasks")).json()["count"] == 1
        for method, path in (("GET", "/tasks"), ("GET", "/task/next/status"), ("DELETE", "/task/next")):
            refused = await client.request(method, f"/api/task{path}", headers={"Authorization": "Bearer nonsense"})
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    async with httpx.AsyncClient(timeout=60, base_url=url) as stranger:
        assert (await stranger.get("/api/task/tasks")).status_code == 401


async def test_a_large_result_is_left_to_the_status_route(
    url: str, service: TaskNotificationService, settings: Settings
) -> None:
    large = "r" * 100_000
    async with listening(url, 7, f"?token={token(settings, 7)}") as listener:
        await listener.next("active_tasks")
        service.register_task("large", user_id=7)
        await service.notify_completed("large", large)
        completed = await listener.until("large", "completed")
        assert (completed["result"], completed["result_left_out"]) == (None, True)
    async with httpx.AsyncClient(timeout=60, base_url=url, headers=signed(settings, 7)) as client:
        assert (await client.get("/api/task/task/large/status")).json()["data"]["result"] == large


async def test_a_wake_up_that_got_lost_is_made_good(
    valkey_url: str, service: TaskNotificationService, store: TaskStore, tmp_path: Path
) -> None:
    settings = Settings(redis_url=valkey_url, data_dir=tmp_path, notifications=NotificationSettings(look=0.2))
    async with serving(settings) as url, listening(url, 7, f"?token={token(settings, 7)}") as listener:
        await listener.next("active_tasks")

        async def unsubscribed() -> bool:
            # What a connection that is silently dead looks like: nothing comes any more.
            await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            return True

        await eventually(unsubscribed, because="the connection is cut")
        service.register_task("t", user_id=7)
        await listener.until("t", "pending")


async def test_hundreds_of_users_each_get_everything_once_and_in_order(
    url: str, store: TaskStore, settings: Settings
) -> None:
    users, reports = range(1, 301), range(1, 11)
    async with contextlib.AsyncExitStack() as stack:
        listeners = {
            user: await stack.enter_async_context(listening(url, user, f"?token={token(settings, user)}"))
            for user in users
        }
        for listener in listeners.values():
            await listener.next("active_tasks")

        async def run(user: int) -> None:
            running = await submitted(store, f"t{user}", str(user))
            await asyncio.gather(*(store.progress(running, n, Progress(n, "", "", 1)) for n in reports))
            await store.complete(running, "1")

        await asyncio.gather(*map(run, users))
        await asyncio.gather(*(listeners[user].until(f"t{user}", "completed") for user in users))
        expected = [("pending", 0), ("running", 0), *(("progress", n) for n in reports), ("completed", 100)]
        for user, listener in listeners.items():
            assert told(listener, f"t{user}") == expected
            ids = [message["id"] for message in listener.messages if message["type"] == "task_status"]
            assert len(set(ids)) == len(ids) == len(expected)


async def test_it_is_the_same_where_authentication_is_on(valkey_url: str, store: TaskStore, tmp_path: Path) -> None:
    access = {"jwt_secret": "s" * 40}
    settings = Settings.model_validate({"redis_url": valkey_url, "data_dir": tmp_path, "access": access})
    mine, other = token(settings, 7), token(settings, 8)
    running = await submitted(store, "t", "7")
    async with serving(settings) as url:
        ways: list[dict[str, Any]] = [
            {"query": f"?token={mine}"},
            {"additional_headers": {"Authorization": f"Bearer {mine}"}},
            {"subprotocols": ["celeriac", f"bearer.{mine}"]},
            {"query": "?auth=message"},
        ]
        for way in ways:
            async with listening(url, 7, **way) as listener:
                if way.get("query") == "?auth=message":
                    await listener.say(type="auth", token=mine)
                assert (await listener.next("active_tasks"))["count"] == 1
        for query in ("", "?token=nonsense", f"?token={other}"):
            with pytest.raises(InvalidStatus) as refused:
                async with listening(url, 7, query):
                    pass
            assert refused.value.response.status_code in (401, 403), query
        async with httpx.AsyncClient(timeout=60, base_url=url, headers={"Authorization": f"Bearer {mine}"}) as client:
            assert (await client.get("/api/task/tasks")).json()["count"] == 1
            assert (await client.get("/api/task/task/t/status")).json()["data"]["status"] == "running"
            await store.complete(running, "1")
            client.headers["Authorization"] = f"Bearer {other}"
            assert (await client.get("/api/task/task/t/status")).status_code == 404
            assert (await client.delete("/api/task/task/t")).status_code == 404
            client.headers["Authorization"] = f"Bearer {mine}"
            assert (await client.delete("/api/task/task/t")).status_code == 204
