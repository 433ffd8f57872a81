"""Doors for files: uploads in one piece, resumable uploads, and files handed over by gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from pathlib import Path
from typing import Any

import grpc
import httpx

from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.soak.doors import MANY, Knocker

_TUS = {"Tus-Resumable": "1.0.0"}
_PIECES = 3


class FileDoors:
    """Makes small random files and brings them to tasks."""

    def __init__(self, knocker: Knocker, *, incoming: Path, grpc_ports: list[int]) -> None:
        self._knocker = knocker
        self._ledger = knocker.ledger
        self._chance = knocker.chance
        self._incoming = incoming
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in grpc_ports]

    async def close(self) -> None:
        """Close all channels."""
        for channel in self._channels:
            await channel.close()

    def _data(self) -> bytes:
        return secrets.token_bytes(self._chance.randint(1000, 60_000))

    async def upload(self) -> None:
        """Upload a file in one piece; one in five is left without a task."""
        data = self._data()
        headers = {"X-Checksum-Sha256": hashlib.sha256(data).hexdigest()}
        answer = await self._knocker.ask(
            "upload", "POST", "/api/v1/files?filename=a.bin", content=data, headers=headers
        )
        if answer is not None and answer.status_code not in (200, 201):
            self._knocker.refuse("upload", answer)
        elif answer is not None and self._chance.random() < 0.8:
            await self._process(answer.json()["file_id"], data)

    async def tus(self) -> None:
        """Upload a file in pieces, and ask for the offset after each break; one in five is left unfinished."""
        data = self._data()
        headers = {**_TUS, "Upload-Length": str(len(data))}
        answer = await self._knocker.ask("tus", "POST", "/api/v1/uploads", headers=headers)
        if answer is None:
            return
        if answer.status_code != 201:
            self._knocker.refuse("tus", answer)
            return
        path = httpx.URL(answer.headers["location"]).path
        stop = len(data) // 2 if self._chance.random() < 0.2 else len(data)
        size = len(data) // _PIECES + 1
        while True:
            head = await self._knocker.insist("tus", "HEAD", path, headers=_TUS)
            if head is None or head.status_code == 404:
                return  # it expired meanwhile
            offset = int(head.headers["upload-offset"])
            if offset >= stop:
                break
            headers = {**_TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            await self._knocker.ask("tus", "PATCH", path, headers=headers, content=data[offset : offset + size])
        if stop == len(data):
            await self._process(path.rsplit("/", 1)[-1], data)

    async def _process(self, file_id: str, data: bytes) -> None:
        processor = self._chance.choice(["checksum", "compress"])
        document: dict[str, Any] = {
            "type": "file_process",
            "payload": {"processor": processor, "file_id": file_id},
            "max_retries": MANY,
            "metadata": {"sha256": hashlib.sha256(data).hexdigest()},
        }
        headers = {"Idempotency-Key": secrets.token_hex(12)}
        for _ in range(30):
            answer = await self._knocker.insist("file task", "POST", "/api/v1/tasks", json=document, headers=headers)
            if answer is None or answer.status_code != 409:
                break
            await asyncio.sleep(2)  # an earlier request is not done
        if answer is None:
            return
        if answer.status_code == 200 and answer.json()["status"] == "cancelled":
            self._ledger.refused["file task", "undone"] += 1
        elif answer.status_code in (200, 202):
            self._ledger.accept(answer.json()["task_id"], "upload", "file")
        else:
            # The upload may have expired while the servers were away.
            self._ledger.refused["file task", str(answer.status_code)] += 1
            if answer.status_code != 422 or "file_id" not in answer.text:
                self._knocker.refuse("file task", answer)

    async def hand_over(self) -> None:
        """Hand a file over by gRPC, again and again until it was taken."""
        data = self._data()
        path = self._incoming / f"{secrets.token_hex(8)}.bin"
        path.write_bytes(data)
        self._ledger.handed[hashlib.sha256(data).hexdigest()] = str(path)
        stub: Any = task_pb2_grpc.TaskServiceStub(self._chance.choice(self._channels))  # type: ignore[no-untyped-call]
        try:
            answer = await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(path)), timeout=30)
        except grpc.aio.AioRpcError as exc:
            self._ledger.refused["CreateTask", exc.code().name] += 1
            if exc.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
                self._ledger.fault("server error", f"CreateTask: {exc.code().name} {exc.details()}")
            return
        self._ledger.accept(answer.task_id, "CreateTask", "handed")
