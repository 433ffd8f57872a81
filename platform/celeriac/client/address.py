"""Finds the address of the API."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from celeriac.errors import SettingsError
from celeriac.installation.run_file import find_installation
from celeriac.settings import client_environment

_DEFAULT: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """The API's URL, without a slash at its end, and the token that is sent to it."""

    url: str
    token: str | None = field(repr=False)

    @property
    def loopback(self) -> bool:
        """Whether the API runs on this machine, so that no proxy leads to it."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def find_address(url: str | None, token: str | None, environ: Mapping[str, str] | None = None) -> Address:
    """Return the API's address: `url`, else `CELERIAC_URL`, else the `celeriac up` of the data folder, else port 8000.

    The data folder is `CELERIAC_DATA_DIR`, else `.celeriac` in the current folder. The token is `token`, else
    `CELERIAC_TOKEN`, else `CELERIAC_API_KEY`. Raises `SettingsError` if the URL is not valid.
    """
    environment = client_environment(environ)
    chosen = url or environment.url
    if chosen is None:
        installation = find_installation(environment.data_dir)
        chosen = _DEFAULT if installation is None else installation.http
    try:
        parts = urlsplit(chosen)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingsError(f"the API's address is an http or https URL such as {_DEFAULT}, not {chosen!r}")
    return Address(chosen.rstrip("/"), token or environment.token)
