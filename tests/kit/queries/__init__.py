"""The examples of the query language, which the server and the pages must read alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

EXAMPLES: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "examples.json").read_text("utf-8"))
