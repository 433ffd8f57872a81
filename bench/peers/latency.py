"""Measures latencies in a process of its own: `python -m peers.latency MODULE COUNT PAYLOAD [WARM-UP]`.

The module has `latencies_ms(count, payload)`. One line of JSON is printed: `{"latencies_ms": [...]}`.
"""

from __future__ import annotations

import importlib
import json
import sys

if __name__ == "__main__":
    measure = importlib.import_module(sys.argv[1]).latencies_ms
    count, payload, warm_up = int(sys.argv[2]), json.loads(sys.argv[3]), int((sys.argv[4:] or ["100"])[0])
    measure(warm_up, payload)
    print(json.dumps({"latencies_ms": measure(count, payload)}))
