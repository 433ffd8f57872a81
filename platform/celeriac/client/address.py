"""Finds the address of the API."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from celeriac.errors import SettingsError
from celeriac.installation.discovery import DATA_DIR, nearest_data_dir
from celeriac.installation.run_file import find_installation

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

    The data folder is `CELERIAC_DATA_DIR`, else `.celeriac` in the current or the nearest parent folder. The token is
    `token`, else `CELERIAC_TOKEN`, else `CELERIAC_API_KEY`. Raises `SettingsError` if the URL is not valid.
    """
    # Imported here, so that `from celeriac import Client` does not import the settings.
    from celeriac.settings import client_environment

    environment = client_environment(environ)
    chosen = url or environment.url
    if chosen is None:
        folder = environment.data_dir if environment.data_dir != DATA_DIR else nearest_data_dir()
        installation = find_installation(folder)
        chosen = _DEFAULT if installation is None else installation.http
    return address_of(chosen, token or environment.token)


def address_of(url: str, token: str | None) -> Address:
    """Return the address of the API at `url`; raises `SettingsError` if the URL is not valid."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingsError(f"the API's address is an http or https URL such as {_DEFAULT}, not {url!r}")
    return Address(url.rstrip("/"), token)
