"""Doors for tasks: single submissions, batches, calls, cancellations, retries, groups, and reading."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import httpx

from tests.kit.soak.doors import GROUPS, MANY, USERS, Knocker


class TaskDoors:
    """Submissions over HTTP, and what is done to tasks afterwards."""

    def __init__(self, knocker: Knocker) -> None:
        self._knocker = knocker
        self._ledger = knocker.ledger
        self._chance = knocker.chance

    def document(self) -> tuple[str, dict[str, Any]]:
        """Return a submission, and the kind under which the ledger has it."""
        chance = self._chance
        kind = chance.choice(
            ["nap"] * 5 + ["thread"] * 2 + ["steps"] * 3 + ["grpc"] * 4 + ["remote", "doomed", "expiring"]
        )
        document: dict[str, Any] = {
            "queue": chance.choice(GROUPS),
            "max_retries": MANY,
            "priority": chance.randint(0, 9),
            "tags": ["soak", kind],
            "metadata": {"kind": kind},
        }
        failures = chance.choice([0, 0, 0, 1, 2])
        if kind in ("nap", "expiring"):
            payload: dict[str, Any] = {"seconds": chance.choice([0, 0.1, 0.5, 3]), "failures": failures}
            document |= {"type": "soak.nap", "payload": payload}
        elif kind == "thread":
            document |= {"type": "soak.thread", "payload": {"seconds": chance.uniform(0, 1), "failures": failures}}
        elif kind == "steps":
            document |= {"type": "soak.steps", "payload": {"steps": chance.randint(1, 12), "seconds": 0.1}}
        elif kind == "remote":
            document |= {"type": "remote", "queue": "gpu", "payload": {"data": {"failures": failures}}}
        else:
            method = "broken" if kind == "doomed" else chance.choice(["echo", "count", "flaky"])
            data = {"seconds": chance.uniform(0, 2), "steps": 4} if method == "count" else {"failures": failures}
            document |= {"type": "grpc_task", "payload": {"service": "demo", "method": method, "data": data}}
        if kind == "expiring":
            document["expires"] = "3s"
        if chance.random() < 0.2:
            document["delay"] = round(chance.uniform(0.2, 15), 1)
            document.pop("expires", None)
        if chance.random() < 0.4:
            document["user_id"] = chance.choice(USERS)
        return kind, document

    async def submit(self) -> None:
        """Submit one task; half of them with a key, which are repeated until they are answered."""
        kind, document = self.document()
        if self._chance.random() < 0.5:
            headers = {"Idempotency-Key": secrets.token_hex(12)}
            answer = await self._knocker.insist("submit", "POST", "/api/v1/tasks", json=document, headers=headers)
        else:
            answer = await self._knocker.ask("submit", "POST", "/api/v1/tasks", json=document)
        if answer is None:
            return
        if answer.status_code not in (200, 202):
            self._knocker.refuse("submit", answer)
            return
        self._ledger.accept(answer.json()["task_id"], "submit", kind, user_id=document.get("user_id"))

    async def batch(self) -> None:
        """Submit a batch."""
        entries = [self.document() for _ in range(self._chance.randint(2, 25))]
        headers = {"Idempotency-Key": secrets.token_hex(12)}
        body = {"tasks": [document for _, document in entries]}
        answer = await self._knocker.insist("batch", "POST", "/api/v1/tasks/batch", json=body, headers=headers)
        if answer is None:
            return
        if answer.status_code != 200:
            self._knocker.refuse("batch", answer)
            return
        for (kind, document), result in zip(entries, answer.json()["results"], strict=True):
            if result["status"] in (200, 202):
                self._ledger.accept(result["task_id"], "batch", kind, user_id=document.get("user_id"))
            else:
                self._ledger.refused["batch", str(result["status"])] += 1

    # --- calls

    async def call(self) -> None:
        """Make a dispatch call, half of them asynchronous."""
        body = {
            "data": {"n": 1},
            "group": "gpu",
            "timeout": 30_000,
            "maxRetries": 20,
            "async": self._chance.random() < 0.5,
        }
        if (answer := await self._ask_as_caller("call", "/api/openai", body)) is not None:
            self._ledger.accept(answer["taskId"], "call", "call")
            if not body["async"] and answer["result"] != {"echo": {"n": 1}}:
                self._ledger.fault("wrong result", f"call {answer}")

    async def chat(self) -> None:
        """Chat, half of the time with a stream."""
        body = {
            "model": "parrot",
            "messages": [{"role": "user", "content": "hello"}],
            "group": "gpu",
            "timeout": 30_000,
        }
        if self._chance.random() < 0.5:
            if (answer := await self._ask_as_caller("chat", "/v1/chat/completions", body)) is not None:
                content = answer["choices"][0]["message"]["content"]
                if content != "one two three":
                    self._ledger.fault("wrong result", f"chat {answer}")
            return
        try:
            client = self._knocker.client()
            async with client.stream(
                "POST", "/v1/chat/completions", json=body | {"stream": True}, timeout=90
            ) as answer:
                lines = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
        except httpx.HTTPError:
            self._ledger.unanswered["chat"] += 1
            return
        chunks = [json.loads(line[6:]) for line in lines]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))
        done = any(c["choices"][0].get("finish_reason") for c in chunks if c.get("choices"))
        self._ledger.watched["chat streams"] += 1
        if done and text != "one two three":
            self._ledger.fault("wrong stream", f"chat said {text!r}: {lines[:8]}")

    async def _ask_as_caller(self, door: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return what a caller got, None if it got nothing or a failure."""
        try:
            answer = await self._knocker.client().post(path, json=body, timeout=90)
        except httpx.HTTPError:
            self._ledger.unanswered[door] += 1
            return None
        if answer.status_code == 200:
            return dict(answer.json())
        known = ("Task timeout", "Worker disconnected", "No worker", "Queue is full", "not_yet", "not yet")
        self._ledger.refused[door, str(answer.status_code)] += 1
        if (
            answer.status_code >= 500
            and answer.status_code not in (503, 504)
            and not any(k in answer.text for k in known)
        ):
            self._ledger.fault("server error", f"{path}: {answer.status_code} {answer.text[:300]}")
        return None

    # --- afterwards

    async def cancel(self) -> None:
        """Cancel a task that was accepted lately."""
        if recent := self._ledger.recent(60):
            chosen = self._chance.choice(recent)
            chosen.cancelled = True
            await self._knocker.ask("cancel", "POST", f"/api/v1/tasks/{chosen.task_id}/cancel")

    async def retry(self) -> None:
        """Retry a task that failed or was cancelled."""
        wanted = [one for one in self._ledger.recent(300) if one.kind == "doomed" or one.cancelled]
        if not wanted:
            return
        chosen = self._chance.choice(wanted)
        if chosen.kind in ("call", "chat", "file", "report") or chosen.retried >= 3:
            return
        chosen.retried += 1  # before the answer: it may be done although its answer is lost
        headers = {"Idempotency-Key": secrets.token_hex(12)}
        answer = await self._knocker.insist(
            "retry", "POST", f"/api/v1/tasks/{chosen.task_id}/retry", json={}, headers=headers
        )
        if answer is not None and answer.status_code >= 400:
            chosen.retried -= 1
            if answer.status_code not in (404, 409):
                self._knocker.refuse("retry", answer)

    async def limit(self) -> None:
        """Pause or limit a group, and undo it soon."""
        path = f"/api/v1/groups/{self._chance.choice(GROUPS[1:])}"
        if self._chance.random() < 0.4:
            await self._knocker.ask("groups", "POST", f"{path}/pause", json={"note": "soak"})
            undo = ("POST", f"{path}/resume")
        else:
            limits = self._chance.choice([{"max_running": 2}, {"rate": "5/s"}, {"max_running": 5, "rate": "300/m"}])
            await self._knocker.ask("groups", "PUT", f"{path}/limits", json=limits)
            undo = ("DELETE", f"{path}/limits")
        await asyncio.sleep(self._chance.uniform(1, 12))
        await self._knocker.insist("groups", *undo)

    async def read(self) -> None:
        """Read something: lists, records, timelines, logs, charts, groups, metrics."""
        recent = self._ledger.recent(200)
        task = f"/api/v1/tasks/{self._chance.choice(recent).task_id}" if recent else "/api/v1/tasks"
        path = self._chance.choice(
            [
                *(task, f"{task}/progress", f"{task}/events", f"{task}/log"),
                *(
                    "/api/v1/tasks?limit=50",
                    "/api/v1/tasks?status=failed&sort=-finished_at",
                    "/api/v1/tasks?tag=soak&limit=20",
                ),
                *(
                    "/api/v1/stats?bucket=1m",
                    "/api/v1/groups",
                    "/api/v1/workers",
                    "/api/v1/dead",
                    "/metrics",
                    "/readyz",
                ),
                *("/api/v1/definitions", "/api/v1/task-types", "/v1/models"),
            ]
        )
        answer = await self._knocker.ask("read", "GET", path)
        self._ledger.watched["reads"] += answer is not None
