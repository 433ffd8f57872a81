"""Stock Celery with the Redis result backend: a chain or a chord of tasks that do nothing.

As a program, it publishes one (`chain` or `fan`, and the number of tasks), waits for its last task, and prints how
long publishing and waiting took (seconds).
"""

from __future__ import annotations

import os
import sys
import time

from celery import Celery, chain, chord

url = os.environ["BENCH_URL"]
app = Celery("bench", broker=url, backend=url)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="bench.noop")
def noop() -> None:
    """Do nothing."""


def main(shape: str, count: int) -> None:
    """Run one canvas."""
    if shape == "chain":
        canvas = chain(*[noop.si() for _ in range(count)])
    else:
        canvas = chord([noop.si() for _ in range(count - 1)], noop.si())
    began = time.perf_counter()
    result = canvas.delay()
    published = time.perf_counter()
    result.get(timeout=300)
    print(published - began, time.perf_counter() - published)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
