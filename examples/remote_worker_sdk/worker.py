"""A remote worker that writes its answer word by word. Start it: python worker.py [URL [GROUP]]"""

import asyncio
import sys

from celeriac import RemoteTask, RemoteWorker, SkipRetry

url, group = [*sys.argv[1:3], None, None][:2]
worker = RemoteWorker(url, group=group or "default", models=["parrot"], concurrency=8)


@worker.handler
async def handle(task: RemoteTask) -> dict[str, str]:
    """Repeat the last message."""
    if not task.messages:
        raise SkipRetry("this worker answers chat messages only", code="no_messages")
    words = str(task.messages[-1]["content"]).split(" ")
    for number, word in enumerate(words, start=1):
        await task.delta(word if number == 1 else f" {word}")
        await task.progress(100 * number / len(words), f"{number} of {len(words)} words")
        await asyncio.sleep(0.05)
    return {"content": " ".join(words)}


if __name__ == "__main__":
    worker.run()
