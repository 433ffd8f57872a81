"""Where a command goes: to a server over HTTP, or straight to the installation of this folder.

In this order: `--url` or `--profile`; `--data-dir` or `--config`; `CELERIAC_URL`; the store of the settings or the
`celeriac up` of this folder or a parent folder; the default profile.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from celeriac.cli.output import print_error
from celeriac.cli.reach.profiles import Profile, read_profiles
from celeriac.errors import ApiError, SettingsError
from celeriac.installation.discovery import DATA_DIR, NoInstallationError, joined_settings
from celeriac.settings import Settings, client_environment

if TYPE_CHECKING:
    from celeriac.cli.reach.platform import AnyPlatform
    from celeriac.client.address import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Destination:
    """What a user said about where to go; None for what was not said."""

    url: str | None = None
    token: str | None = None
    profile: str | None = None
    data_dir: Path | None = None
    config: Path | None = None

    def run(self, work: Callable[[AnyPlatform], Awaitable[T]]) -> T:
        """Connect, do `work` on the platform, and disconnect; raises `SettingsError` if there is nowhere to go."""
        found = self.find()
        if isinstance(found, tuple):
            return asyncio.run(_directly(*found, work))
        return asyncio.run(_over_http(found, work))

    def find(self) -> Address | tuple[Settings, str]:
        """Return the address of an API, or the settings and the store of an installation; raises `SettingsError`."""
        if self.url is not None and self.profile is not None:
            raise SettingsError("--url and --profile exclude each other: give one of them")
        named = self.url is not None or self.profile is not None
        if named and (self.data_dir is not None or self.config is not None):
            raise SettingsError("--url and --profile lead to a server, --data-dir and --config to an installation here")
        if named:
            return self._named()
        here = self.data_dir is not None or self.config is not None
        if not here and (address := self._of_environment()) is not None:
            return address
        if self.token is not None:
            raise SettingsError("--token needs a server: give --url or --profile, or set CELERIAC_URL")
        try:
            return joined_settings(self.config, self.data_dir)
        except NoInstallationError as exc:
            # A folder that is named, also in the environment, is meant.
            here = here or client_environment().data_dir != DATA_DIR
            if here or (profile := _default_profile()) is None:
                raise NoInstallationError(
                    f"{exc}; or name a server with --url, CELERIAC_URL or `celeriac login`"
                ) from exc
            return _address_of(profile.url, profile.token)

    def _named(self) -> Address:
        if self.profile is not None:
            profile = read_profiles().named(self.profile)
            return _address_of(profile.url, self.token or profile.token)
        assert self.url is not None
        return _address_of(self.url, self.token or client_environment().token or read_profiles().token_of(self.url))

    def _of_environment(self) -> Address | None:
        environment = client_environment()
        if environment.url is None:
            return None
        token = self.token or environment.token or read_profiles().token_of(environment.url)
        return _address_of(environment.url, token)


def _address_of(url: str, token: str | None) -> Address:
    from celeriac.client.address import address_of

    return address_of(url, token)


def _default_profile() -> Profile | None:
    profiles = read_profiles()
    if profiles.default is None:
        return None
    profile = profiles.named(profiles.default)
    if sys.stderr.isatty():
        print_error(f"nothing runs here: this is the profile {profiles.default} ({profile.url})")
    return profile


async def _directly(settings: Settings, url: str, work: Callable[[AnyPlatform], Awaitable[T]]) -> T:
    # Imported here: a server is reached without the drivers of store and database.
    from celeriac.cli.reach.direct.platform import opened_directly

    async with opened_directly(settings, url) as platform:
        return await work(platform)


async def _over_http(address: Address, work: Callable[[AnyPlatform], Awaitable[T]]) -> T:
    from celeriac.cli.reach.http.platform import opened_over_http

    async with opened_over_http(address) as platform:
        try:
            return await work(platform)
        except ApiError as exc:
            if exc.code == "unauthenticated":
                advice = "give --token, set CELERIAC_TOKEN, or log in with `celeriac login URL`"
                raise ApiError(f"{address.url}: {exc.detail}; {advice}", status=exc.status, code=exc.code) from exc
            if exc.code == "unreadable":
                raise ApiError(f"{address.url}: {exc.detail}", status=exc.status, code=exc.code) from exc
            raise
