"""Celery's settings that every adopted app needs; all others are the project's."""

from __future__ import annotations

from typing import Any, Final

from celeriac.settings import Settings
from celeriac.settings.store_address import read_store_address
from celeriac_tasks.compatibility.sentinels import as_celery_url, celery_options
from celeriac_tasks.engine.app import CeleriacApp
from celeriac_tasks.engine.brokers.transport import NAME as TRANSPORT
from celeriac_tasks.engine.calls.publishing import PublishedCalls

RECORD_BACKEND: Final = "celeriac_tasks.engine.results:RecordBackend"
#: Options of the connections to the store, which a project may override.
_CONNECTING: Final = {
    "socket_keepalive": True,
    # A connection that has gone silent is noticed within 10 s: an answer is late after this time and the one second of
    # a BRPOP, and this often somebody looks.
    "health_check_interval": 4,
    # A silent server must not block a worker for ever; this is longer than an answer takes.
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
}


def use_store(app: CeleriacApp, conf: Any, settings: Settings) -> None:
    """Publish through the store, and read results from the records unless the app has a result backend."""
    options = dict(conf.broker_transport_options or {})
    if settings.other_broker:
        # A message that the broker has not confirmed goes back to the outbox.
        conf.broker_transport_options = {"confirm_publish": True, **options}
    else:
        # Writes the record and the message in one step, with one client per channel.
        conf.broker_transport = TRANSPORT
        # The record, its lease and the sweep replace kombu's acknowledgement emulation: they give more at half the
        # cost (docs/decisions/0002).
        forced: dict[str, Any] = {"ack_emulation": False, "submit": PublishedCalls(app)}
        if settings.redis_url is not None:
            address = read_store_address(settings.redis_url)
            forced |= {"store": address, **celery_options(address)}
            conf.broker_url = as_celery_url(conf.broker_url)
        if settings.key_prefix:
            # Under the name that kombu, stock clients and Flower know.
            forced["global_keyprefix"] = settings.key_prefix
        conf.broker_transport_options = {**_CONNECTING, **options, **forced}
    if not conf.result_backend:
        conf.result_backend = RECORD_BACKEND
        if not conf.value_set_for("result_expires"):
            # As long as the record.
            conf.result_expires = settings.retention
