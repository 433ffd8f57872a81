"""Submits one workflow of tasks that do nothing over HTTP, and waits for it by its stream.

As a program: `chain` or `fan`, and the number of nodes. It prints how long submitting and waiting took (seconds).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import httpx


def nodes_of(shape: str, count: int) -> dict[str, dict[str, Any]]:
    """Return the nodes of a workflow: a chain, or `count - 1` nodes and one after all of them."""
    node = {"type": os.environ["BENCH_TYPE"], "payload": {}}
    if shape == "chain":
        return {f"n{i}": {**node, "after": [f"n{i - 1}"] if i else []} for i in range(count)}
    header = {f"n{i}": node for i in range(count - 1)}
    return {**header, "last": {**node, "after": list(header)}}


def main(shape: str, count: int) -> None:
    """Run one workflow."""
    body = {"name": "bench", "nodes": nodes_of(shape, count)}
    with httpx.Client(base_url=os.environ["BENCH_API"], timeout=300) as client:
        began = time.perf_counter()
        answer = client.post("/api/v1/workflows", json=body)
        answer.raise_for_status()
        published = time.perf_counter()
        with client.stream("GET", f"{answer.headers['location']}/stream") as stream:
            lines = stream.iter_lines()
            for line in lines:
                if line == "event: done":
                    break
            found = next(json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        assert found["status"] == "completed", found
        print(published - began, time.perf_counter() - published)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
