"""A project of Celery's, which `BENCH_ADOPT=1` adopts: one task, of which chains are made.

As a program, it publishes a chain of as many links as its argument says, waits for the result, and prints how long
publishing and waiting took (seconds).
"""

from __future__ import annotations

import os
import sys
import time

from celery import Celery, chain

url = os.environ["BENCH_URL"]
app = Celery("bench", broker=url, backend=url)
app.conf.broker_connection_retry_on_startup = True
if os.environ.get("BENCH_ADOPT"):
    import celeriac

    celeriac.adopt(app)


@app.task(name="bench.next")
def following(number: int) -> int:
    """Count on."""
    return number + 1


def main(links: int) -> None:
    """Run one chain."""
    began = time.perf_counter()
    result = chain(following.s(0), *[following.s() for _ in range(links - 1)]).delay()
    published = time.perf_counter()
    assert result.get(timeout=300) == links
    print(published - began, time.perf_counter() - published)


if __name__ == "__main__":
    main(int(sys.argv[1]))
