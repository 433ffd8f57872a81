"""An API with authentication on, and the credentials of its users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, FilesSettings, Settings
from tests.kit.api.http_serving import serving
from tests.kit.tokens import token_of

SECRET = "an access secret of at least 32 bytes"


def settings_of(redis_url: str, folder: Path, **access: Any) -> Settings:
    return Settings(
        redis_url=redis_url,
        data_dir=folder / "data",
        files=FilesSettings(storage_path=folder / "storage"),
        access=AccessSettings(**{"jwt_secret": SECRET, **access}),
    )


def header(settings: Settings, user: str = "7", *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(settings, user_id=user, scopes=scopes)}"}


@asynccontextmanager
async def client_of(settings: Settings, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20, **options) as client:
        yield client
