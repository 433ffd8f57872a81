"""A store behind Sentinels, as Celery's settings say it, and as one URL: both ways.

Celery has `sentinel://h1:26379/0;sentinel://h2:26379/0`, with the service in `broker_transport_options.master_name`
and what the Sentinels themselves want in `sentinel_kwargs`. Tools that read these settings find the primary by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from celeriac.settings.store_address import SENTINEL, SENTINEL_TLS, StoreAddress, read_store_address, sentinel_url

#: Celery's scheme.
SCHEME: Final = "sentinel"
_PORT: Final = 26379


def as_celery_url(url: Any) -> Any:
    """Return the URL of a store as Celery reads it; what is not one stays as it is. Raises `ValueError`."""
    if not isinstance(url, str) or url.partition("://")[0].lower() not in (SENTINEL, SENTINEL_TLS):
        return url
    address = read_store_address(url)
    login = urlsplit(address.server_url).netloc.rpartition("@")[0]
    before = f"{SCHEME}://{login}{'@' if login else ''}"
    return ";".join(f"{before}{_with_port(host, port)}/{address.database}" for host, port in address.sentinels)


def celery_options(address: StoreAddress) -> dict[str, Any]:
    """Return the transport's options that name the service; empty for a single server."""
    if not address.sentinels:
        return {}
    theirs = {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "ssl": address.sentinel_tls or None,
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
    }
    return {
        "master_name": address.service,
        "sentinel_kwargs": {name: value for name, value in theirs.items() if value is not None},
    }


def store_url_of_sentinels(
    urls: Sequence[str], options: Mapping[str, Any], *, query: Mapping[str, Any], tls: bool
) -> str | None:
    """Return the store's URL for Celery's settings; None if they do not name the service.

    `query` are options of the connections to the servers, `tls` whether these are encrypted.
    """
    service = options.get("master_name")
    if not service:
        return None
    parts = [urlsplit(url) for url in urls]
    theirs = dict(options.get("sentinel_kwargs") or {})
    sentinel_tls = bool(theirs.get("ssl"))
    return sentinel_url(
        [(part.hostname or "localhost", part.port or _PORT) for part in parts],
        str(service),
        login=parts[0].netloc.rpartition("@")[0],
        database=quote(parts[0].path.strip("/")),
        tls=tls,
        options={
            **query,
            "sentinel_username": theirs.get("username"),
            "sentinel_password": theirs.get("password"),
            "sentinel_tls": None if sentinel_tls == tls else str(sentinel_tls).lower(),
        },
    )


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
