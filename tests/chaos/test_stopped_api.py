"""An API process that is told to stop while the store is stalled."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.kit.chaos.api_process import ApiProcess
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually

REQUESTS = [
    ("POST", "/api/v1/tasks", {"type": "celeriac.demo", "payload": {}}),  # the hot route
    ("POST", "/api/v1/tasks/batch", {"tasks": [{"type": "celeriac.demo", "payload": {}}]}),
    ("POST", "/api/openai", {"data": {"n": 1}}),
    ("POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hello"}]}),
    ("POST", "/api/v1/groups/default/pause", {}),  # an audited one
    ("GET", "/api/v1/tasks/00000000-0000-4000-8000-000000000000", None),
    ("GET", "/api/v1/groups", None),
    ("GET", "/metrics", None),
]


@pytest.mark.timeout(120)
async def test_requests_that_a_stopping_process_gives_up_get_an_answer_and_no_traceback(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    # A store that is stalled for this long is away; the process stops before that.
    api = ApiProcess(tmp_path, server.url(), CELERIAC_STORE_TIMEOUT="60")
    try:
        await api.start()
        assert server.process is not None
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            server.process.send_signal(signal.SIGSTOP)
            asked = [asyncio.create_task(client.request(method, path, json=body)) for method, path, body in REQUESTS]

            async def all_are_served() -> bool:
                text = (await client.get("/metrics?scope=process")).text
                (line,) = [one for one in text.splitlines() if 'open_connections{kind="request"}' in one]
                return float(line.split()[-1]) >= len(REQUESTS) + 1

            await eventually(all_are_served, because="all requests wait for the store")
            api.send(signal.SIGTERM)
            answers = await asyncio.gather(*asked)
        for (method, path, _), answer in zip(REQUESTS, answers, strict=True):
            assert answer.status_code == 503, (method, path, answer.text)
            assert answer.json()["code"] == "stopping", (method, path)
            assert answer.headers["retry-after"] == "1"
        server.process.send_signal(signal.SIGCONT)
        api.stop()
        assert "Traceback" not in api.said()
    finally:
        api.kill()
        server.kill()
