"""The minimal synchronous call to a remote worker: the same WebSocket hop, in memory, without storing anything."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import orjson

#: The workers without a task.
idle: deque[Any] = deque()
#: The calls that wait for a worker.
waiting: deque[tuple[str, Any]] = deque()
answers: dict[str, asyncio.Future[Any]] = {}
numbers = iter(range(1, 10**12))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve callers and workers."""
    if scope["type"] == "websocket":
        await _worker(receive, send)
    elif scope["type"] == "http":
        await _call(receive, send)
    else:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})


async def _worker(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": '{"type":"connected","workerId":"W1-00000000"}'})
    while True:
        event = await receive()
        if event["type"] != "websocket.receive":
            if send in idle:
                idle.remove(send)
            return
        message = orjson.loads(event["text"])
        if message["type"] == "task_complete":
            answers.pop(message["taskId"]).set_result(message["result"])
        if waiting:
            await _give(send, *waiting.popleft())
        else:
            idle.append(send)


async def _give(send: Any, task_id: str, payload: Any) -> None:
    text = orjson.dumps({"type": "task", "taskId": task_id, "payload": payload}).decode()
    await send({"type": "websocket.send", "text": text})


async def _call(receive: Any, send: Any) -> None:
    body = orjson.loads((await receive())["body"])
    task_id = str(next(numbers))
    answer = answers[task_id] = asyncio.get_running_loop().create_future()
    if idle:
        await _give(idle.popleft(), task_id, body)
    else:
        waiting.append((task_id, body))
    result = await answer
    text = orjson.dumps({"taskId": task_id, "status": "completed", "result": result})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
