"""A project with Sentry and OpenTelemetry, set up as their documentation says, adopted by one line.

`SENTRY_DSN` says where errors go, `SPANS` the file for spans (one JSON object a line).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sentry_sdk
from celery import Celery
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from sentry_sdk.integrations.celery import CeleryIntegration

import celeriac

sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], integrations=[CeleryIntegration()], traces_sample_rate=1.0)


def watch(**_: Any) -> None:
    """Write each span to the file."""
    provider = TracerProvider()
    spans = Path(os.environ["SPANS"]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the process
    exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


if "IN_PROCESSES" in os.environ:
    # Exporters have threads, which do not survive a fork.
    worker_process_init.connect(watch, weak=False)
else:
    watch()

app = Celery("watched", broker=os.environ["SHOP_BROKER"])
celeriac.adopt(app)


class OutOfStockError(Exception):
    """An exception of the project's own."""


@app.task(name="watched.add")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@app.task(name="watched.fails")
def fails(article: str) -> None:
    """Raise an exception of the project's own."""
    raise OutOfStockError(article)
