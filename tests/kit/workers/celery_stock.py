"""A producer that knows Celery and our queue's name, and nothing of us: no transport, no base task.

`python -m tests.kit.workers.celery_stock '{"kwargs": {...}}' ...` publishes one message per argument and
prints the ids; an argument is the options of `send_task` as JSON.
"""

from __future__ import annotations

import json
import os
import sys

from celery import Celery

app = Celery("stranger", broker=os.environ["STOCK_BROKER"])
app.conf.task_default_queue = os.environ.get("STOCK_QUEUE", "default")

if __name__ == "__main__":
    for argument in sys.argv[1:]:
        options = json.loads(argument)
        print(app.send_task(options.pop("name"), **options).id)
