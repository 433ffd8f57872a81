"""The minimal submission in FastAPI: one route with one script call, which writes a record and a message."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import orjson
import redis.asyncio as redis
from fastapi import FastAPI

SCRIPT = """
redis.call('HSET', KEYS[1], 'task_id', ARGV[1], 'type', ARGV[2], 'payload', ARGV[3], 'status', 'PENDING')
redis.call('LPUSH', KEYS[2], ARGV[1])
return ARGV[1]
"""

app = FastAPI()
#: As many connections as the load has; by default the client fails at a hundred.
client = redis.Redis.from_url(os.environ["BENCH_URL"], max_connections=1024)
run = client.register_script(SCRIPT)


@app.post("/tasks", status_code=202)
async def submit(body: dict[str, Any]) -> dict[str, str]:
    """Accept a task."""
    task_id = str(uuid4())
    await run(keys=[f"task:{task_id}", "queue"], args=[task_id, body["type"], orjson.dumps(body["payload"])])
    return {"task_id": task_id, "status": "pending"}
