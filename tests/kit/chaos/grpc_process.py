"""A `celeriac grpc` in a process of its own, to be killed."""

from __future__ import annotations

import sys

import celeriac_api.rpc.process  # noqa: F401 - what the command loads when it runs
from celeriac.cli.main import main


def serve_grpc(*arguments: str) -> None:
    """Do what `python -m celeriac grpc` does with these arguments."""
    sys.argv = ["celeriac", "grpc", *arguments]
    sys.exit(main())
