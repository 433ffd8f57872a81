"""The processes that a test has started."""

from __future__ import annotations

import contextlib

import psutil


def children_with(text: str) -> list[psutil.Process]:
    """Return our children whose command line has `text`; one that has ended and was not waited for does not count."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if text in " ".join(child.cmdline()):
                found.append(child)
    return found
