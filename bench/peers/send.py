"""Publishes tasks from a separate process: `python -m peers.send MODULE COUNT PAYLOAD`."""

from __future__ import annotations

import importlib
import json
import sys

if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).send(int(sys.argv[2]), json.loads(sys.argv[3]))
