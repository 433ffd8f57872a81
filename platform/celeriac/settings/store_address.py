"""The address of the store: one server by its URL, or the primary of a service that Sentinels watch.

`redis+sentinel://[user:pass@]h1:26379,h2:26379,h3:26379/SERVICE/0?sentinel_password=…`, and `rediss+sentinel://…` with
TLS. User and password are those of the servers; Sentinels have their own (`sentinel_username`, `sentinel_password`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

#: Schemes of a single server.
SINGLE: Final = ("redis", "rediss", "unix")
#: Schemes of a service of Sentinels; with the second one, TLS is used to all of them.
SENTINEL, SENTINEL_TLS = "redis+sentinel", "rediss+sentinel"

_DEFAULT_PORT: Final = 26379
_WANTED: Final = (
    "write redis://[USER:PASSWORD@]HOST:PORT/DATABASE, rediss://… for TLS, unix:///PATH, or with Sentinels"
    " redis+sentinel://[USER:PASSWORD@]HOST:26379,HOST:26379/SERVICE/DATABASE"
)
_MASK: Final = "***"
#: Options of the query that are secret.
_SECRET: Final = ("password", "sentinel_password", "ssl_password")
_OWN: Final = ("sentinel_username", "sentinel_password", "sentinel_tls")

_HOST: Final = re.compile(r"[^\s/@:\[\]?#,;]+")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is. Its text shows no password."""

    #: What was given; it may hold passwords.
    url: str = field(repr=False)
    #: How to talk to the server: login, database, TLS. With Sentinels, its host means nothing.
    server_url: str = field(repr=False)
    #: Host and port of each Sentinel; empty for a single server.
    sentinels: tuple[tuple[str, int], ...] = ()
    #: The name that the Sentinels have for the primary and its replicas.
    service: str = ""
    database: int = 0
    tls: bool = False
    sentinel_tls: bool = False
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return masked(self.url)

    def __json__(self) -> str:
        """Return its text: workers show their transport options to operators as JSON."""
        return str(self)


def read_store_address(text: str) -> StoreAddress:
    """Return what a URL says.

    Raises `ValueError`, which says what is wrong and never quotes a password.
    """
    scheme, found, rest = text.partition("://")
    scheme = scheme.lower()
    if not found or scheme not in (*SINGLE, SENTINEL, SENTINEL_TLS):
        named = f"has the scheme {scheme}://" if found and re.fullmatch(r"[a-z0-9+.-]+", scheme) else "has no scheme"
        raise ValueError(f"{named}: {_WANTED}")
    if scheme in SINGLE:
        return StoreAddress(text, text, tls=scheme == "rediss")
    place, _, query = rest.partition("?")
    login, _, place = place.rpartition("@")
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    service = unquote(service)
    if not service:
        raise ValueError(
            "names no service: write the name that the Sentinels have for it after the hosts, as in /mymaster/0"
        )
    if database and not database.isdecimal():
        raise ValueError("has a database that is not a number: write /SERVICE/0")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if "db" in options:
        raise ValueError("has the option db: write the database after the service, as in /SERVICE/0")
    tls = scheme == SENTINEL_TLS
    sentinel_tls = options.get("sentinel_tls", "true" if tls else "false").lower()
    if sentinel_tls not in ("true", "false"):
        raise ValueError("has a sentinel_tls that is neither true nor false")
    kept = urlencode({name: value for name, value in options.items() if name not in _OWN}, safe="/:")
    server = f"{'rediss' if tls else 'redis'}://{login}{'@' if login else ''}sentinel/{int(database or 0)}"
    return StoreAddress(
        text,
        f"{server}?{kept}" if kept else server,
        tuple(_hosts(hosts)),
        service,
        database=int(database or 0),
        tls=tls,
        sentinel_tls=sentinel_tls == "true",
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
    )


def check_store_url(text: str) -> str:
    """Return the URL unchanged; raises `ValueError` if it cannot be the store's."""
    read_store_address(text)
    return text


def sentinel_url(
    sentinels: list[tuple[str, int]],
    service: str,
    *,
    login: str = "",
    database: str = "0",
    tls: bool = False,
    options: Mapping[str, object] | None = None,
) -> str:
    """Return the URL of a service. `login` is `USER:PASSWORD`, quoted; `options` are those of the query."""
    hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sentinels)
    scheme = SENTINEL_TLS if tls else SENTINEL
    query = urlencode({name: value for name, value in (options or {}).items() if value is not None}, safe="/:")
    url = f"{scheme}://{login}{'@' if login else ''}{hosts}/{quote(service, safe='')}/{database or 0}"
    return f"{url}?{query}" if query else url


def masked(url: str) -> str:
    """Return the URL with `***` for each password, for logs and pages. It may be of any server, and broken."""
    scheme, found, rest = url.partition("://")
    if not found:
        # Without a scheme, what stands before an @ may still be a login.
        return f"{_MASK}@{url.rpartition('@')[2]}" if "@" in url else url
    place, _, query = rest.partition("?")
    login, at, hosts = place.rpartition("@")
    user, colon, _ = login.partition(":")
    # A text before the @ without a colon may be meant as the password.
    login = f"{user}:{_MASK}" if colon else _MASK if login else ""
    options = "&".join(_masked_option(option) for option in query.split("&")) if query else ""
    return f"{scheme}://{login}{at}{hosts}" + (f"?{options}" if options else "")


def _masked_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}={_MASK}" if equals and unquote(name).lower() in _SECRET else option


def _hosts(text: str) -> Iterator[tuple[str, int]]:
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(_DEFAULT_PORT)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host
        if not host:
            raise ValueError("has a Sentinel without a host: write HOST:26379,HOST:26379")
        if not _HOST.fullmatch(host) and not re.fullmatch(r"[0-9A-Fa-f:.]+(%\w+)?", host):
            raise ValueError("has a Sentinel whose host is neither a name nor an IP address: write HOST:26379")
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError("has a Sentinel whose port is not a number from 1 to 65535: write HOST:26379")
        yield host, int(port)
