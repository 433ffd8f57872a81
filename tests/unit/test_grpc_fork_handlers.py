from __future__ import annotations

import subprocess
import sys


def test_a_worker_has_grpcs_fork_handlers_off_before_grpc_is_there() -> None:
    """With them, a child started while another thread calls into gRPC now and then ends between fork and exec."""
    script = """
import os, sys
os.environ.pop("GRPC_ENABLE_FORK_SUPPORT", None)
import celeriac_tasks.engine.app
assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
assert "grpc" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
