"""Rules on the broker: which one it is, and its options. A Redis broker is the store as well."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from celeriac.settings.store_address import SENTINEL, SENTINEL_TLS, masked
from celeriac_tasks.compatibility.finding import Examined, Finding, as_it_is, different, not_possible
from celeriac_tasks.compatibility.sentinels import SCHEME, store_url_of_sentinels

#: Schemes of a broker that is the store as well.
_REDIS: Final = frozenset({"redis", "rediss", "redis+socket", "unix", SCHEME, SENTINEL, SENTINEL_TLS})
_RABBITMQ: Final = frozenset({"amqp", "amqps", "pyamqp", "pyamqps", "librabbitmq"})
#: The scheme of our transport, as the address of an adopted app shows it.
_OURS: Final = "celeriac_tasks.engine.brokers.transport"
#: How redis-py names what kombu calls `CERT_REQUIRED`, ....
_CERTIFICATES: Final[Mapping[Any, Any]] = {
    "CERT_REQUIRED": "required", ssl.CERT_REQUIRED: "required",
    "CERT_OPTIONAL": "optional", ssl.CERT_OPTIONAL: "optional",
    "CERT_NONE": "none", ssl.CERT_NONE: "none",
}  # fmt: skip

#: The layout of kombu's lists on Redis, which the store's scripts share: the default of each option.
_LAYOUT: Final[Mapping[str, Any]] = {
    "priority_steps": [0, 3, 6, 9],
    "sep": "\x06\x16",
}
#: Options of the acknowledgement emulation, which the lease of a record replaces.
_ACKNOWLEDGEMENTS: Final = (
    "visibility_timeout",
    "ack_emulation",
    "unacked_key",
    "unacked_index_key",
    "unacked_mutex_key",
    "unacked_mutex_expire",
    "unacked_restore_limit",
    "unacked_restore_interval",
    "unacked_restore_throttle",
)


def broker_urls(app: Any) -> list[str]:
    """Return the addresses of the broker that the app publishes to; more than one if it may fail over."""
    conf = app.conf
    given = conf.broker_write_url or conf.broker_url or "amqp://"
    parts = given if isinstance(given, list | tuple) else str(given).split(";")
    return [str(part).strip() for part in parts if str(part).strip()]


def on_redis(app: Any) -> bool:
    """Return whether the broker of an app is a Redis or a Valkey, which can be its store as well."""
    return _scheme(broker_urls(app)[0]) in _REDIS


def store_url_of(app: Any) -> str | None:
    """Return the URL of a Redis broker as the store reads it; None for another broker.

    kombu and redis-py spell sockets and certificates in different ways; `broker_use_ssl` may have the latter too.
    """
    if not on_redis(app):
        return None
    urls = broker_urls(app)
    if _scheme(urls[0]) in (SENTINEL, SENTINEL_TLS):
        return urls[0]
    parts = urlsplit(urls[0])
    tls = app.conf.broker_use_ssl
    options = {**dict(parse_qsl(parts.query)), **(tls if isinstance(tls, Mapping) else {})}
    query = {name: _CERTIFICATES.get(value, value) for name, value in options.items()}
    if parts.scheme == SCHEME:
        return store_url_of_sentinels(urls, app.conf.broker_transport_options or {}, query=query, tls=bool(tls))
    scheme = "unix" if parts.scheme == "redis+socket" else "rediss" if tls else parts.scheme
    if scheme == "unix" and "virtual_host" in query:
        query["db"] = query.pop("virtual_host")
    text = parts._replace(scheme=scheme, query=urlencode(query, safe="/:")).geturl()
    # `urlunsplit` leaves out the empty host of a socket.
    return text if "://" in text else text.replace(":", "://", 1)


def store_of_records(examined: Examined) -> Iterator[Finding]:
    """Say where the records go: into the broker, or into a Redis beside it."""
    conf = examined.app.conf
    if not conf.broker_url and not conf.broker_write_url:
        yield different(
            "broker", "none is set, so the store becomes the broker: set broker_url or REDIS_URL to a Redis"
        )
        return
    urls = broker_urls(examined.app)
    scheme, shown = _scheme(urls[0]), masked(urls[0])
    if scheme == SCHEME and store_url_of(examined.app) is None:
        yield not_possible(
            "broker",
            f"{shown} does not say which service the Sentinels watch: set broker_transport_options.master_name",
        )
    elif scheme in _REDIS:
        if examined.redis_url is None or examined.redis_url == store_url_of(examined.app):
            yield as_it_is("broker", f"{shown} stays the broker, and holds the records too")
        else:
            where = masked(examined.redis_url)
            yield not_possible(
                "broker",
                f"the broker {shown} and the store {where} are two servers: a record and its message are written in"
                " one step, so leave out redis_url, or name the broker in it",
            )
    elif scheme == "memory":
        yield not_possible(
            "broker", "memory:// ends with its process: set broker_url to a Redis, such as redis://localhost:6379/0"
        )
    else:
        name = "RabbitMQ" if scheme in _RABBITMQ else f"the broker {scheme}://"
        if examined.redis_url is None:
            yield not_possible(
                "broker",
                f"{name} carries the messages, and the records need a Redis or Valkey beside it: set REDIS_URL, or"
                " write adopt(app, redis_url='redis://localhost:6379/0')",
            )
        elif scheme in _RABBITMQ:
            yield as_it_is("broker", f"RabbitMQ carries the messages; {_records_in(examined)}")
        else:
            yield different(
                "broker",
                f"{name} carries the messages, and {_records_in(examined)}; only Redis and RabbitMQ are tested, so"
                " try it before you rely on it",
            )


def several_brokers(examined: Examined) -> Iterator[Finding]:
    """Refuse settings by which records and messages would go to different servers."""
    conf = examined.app.conf
    read, write = conf.broker_read_url, conf.broker_write_url
    if on_redis(examined.app):
        if (read or write) and read != write:
            yield not_possible(
                "broker_read_url",
                "reads and writes go to different servers, but the store is one server: set broker_url alone",
            )
        urls = broker_urls(examined.app)
        if len(urls) > 1 and {_scheme(url) for url in urls} != {SCHEME}:
            yield not_possible(
                "broker_url",
                f"names {len(urls)} servers, but the store is one server: set broker_url to one of them, best by a"
                " name or a virtual address that follows a failover",
            )
    transport = conf.broker_transport
    if transport and not str(transport).startswith(_OURS) and transport not in _REDIS | _RABBITMQ:
        if on_redis(examined.app):
            yield not_possible(
                "broker_transport", f"{transport!r:.100} would not make records: remove the setting, the URL suffices"
            )
        else:
            yield as_it_is("broker_transport", f"{transport!r:.100} stays the transport of the messages")


def transport_options(examined: Examined) -> Iterator[Finding]:
    """Say which options of the transport have no effect, or cannot be honoured."""
    if not on_redis(examined.app):
        return
    options = dict(examined.app.conf.broker_transport_options or {})
    for name, default in _LAYOUT.items():
        if name in options and _plain(options[name]) != default:
            yield not_possible(
                f"broker_transport_options.{name}",
                f"the store's scripts know the lists of kombu's default layout only: remove {name}",
            )
    prefix = options.get("global_keyprefix") or ""
    if prefix != examined.key_prefix and prefix:
        yield not_possible(
            "broker_transport_options.global_keyprefix",
            f"the store would have other keys: remove global_keyprefix, and set key_prefix to {str(prefix)!r:.100} in"
            " celeriac.yaml (CELERIAC_KEY_PREFIX), which counts for the records and the messages",
        )
    # An app that is adopted already has `ack_emulation` off.
    found = [name for name in _ACKNOWLEDGEMENTS if options.get(name)]
    if found:
        yield different(
            f"broker_transport_options.{found[0]}",
            "has no effect: a task that is lost with its worker runs again as soon as its lease (`lease`, 15 s) has"
            " run out",
        )
    if "queue_order_strategy" in options:
        yield different(
            "broker_transport_options.queue_order_strategy",
            "has no effect: the queues of a worker take turns, and each gets its own",
        )


def _records_in(examined: Examined) -> str:
    return f"the records are in {masked(str(examined.redis_url))}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value or ""


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme.lower() if found else url.lower()
