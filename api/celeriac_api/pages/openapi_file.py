"""The OpenAPI document as a file. It is made once in each process, on another thread: that takes a second."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from celeriac import json_text
from celeriac_api.pages.assets import Asset, asset


class OpenApiFile:
    """The document of one application that is reached below the path `root`."""

    def __init__(self, app: FastAPI, root: str) -> None:
        self._app = app
        self._root = root
        self._made: Asset | None = None
        self._making = asyncio.Lock()

    async def made(self) -> Asset:
        """Return the file."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        return self._made

    def _make(self) -> Asset:
        document: dict[str, Any] = self._app.openapi()
        if self._root:
            document = {**document, "servers": [{"url": self._root}]}
        return asset(json_text.encode(document), "application/json")
