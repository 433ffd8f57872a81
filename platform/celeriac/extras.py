"""The extras of the distribution: a room that needs more than `pip install celeriac` says so when it is imported."""

from __future__ import annotations

from importlib.util import find_spec

from celeriac.errors import MissingExtraError


def need(room: str, *packages: str, extra: str) -> None:
    """Raise `MissingExtraError` unless all of these can be imported; it imports none of them.

    A room calls it in its `__init__.py`, with its own name, the top-level names of the packages, and the extra that
    brings them.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(room, package, extra)
