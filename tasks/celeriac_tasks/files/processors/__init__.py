"""The file processors that come with Celeriac, one module each."""

from __future__ import annotations

import importlib
from typing import Final

_MODULES: Final = ("checksum", "compress", "image", "probe", "thumbnail", "transcode")


def load() -> None:
    """Register the functions of all built-in processors in this process."""
    for name in _MODULES:
        importlib.import_module(f"{__name__}.{name}")
