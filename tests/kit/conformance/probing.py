"""What a probe is, and how its outcome is written so that two sides can be compared."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

#: Seconds that a probe waits for a result before it says that there is none.
WAIT = 40
#: As `WAIT`, for an end that has to come soon, or that does not come everywhere.
SOON = 15
#: Seconds until a call is due that is revoked, or called again, before: a machine that stalls has the time to.
LATER = 12
#: How long a probe looks for what does not come everywhere (seconds): what comes takes longer on a busy machine.
A_WHILE = 8
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"0x[0-9a-f]+|127\.0\.0\.1:\d+")

Probe = Callable[[], Any]
Found = TypeVar("Found")
PROBES: dict[str, Probe] = {}


def probe(function: Probe) -> Probe:
    """Add a function to the script: it does something with Celery and returns what a project sees of it."""
    name = function.__name__
    assert name not in PROBES, f"two probes are called {name}"
    PROBES[name] = function
    return function


def outcome_of(function: Probe) -> Any:
    """Run a probe and return its outcome as JSON has it: the value, or what it raised."""
    try:
        return plain(function())
    except Exception as exc:
        return plain({"raised": exc})


def raised(function: Callable[[], Any]) -> Any:
    """Return what a call raises, or a word with its value."""
    try:
        return ["nothing raised", function()]
    except Exception as exc:
        return exc


def eventually(check: Callable[[], Found], until: Callable[[Found], bool] = bool, timeout_s: float = WAIT) -> Found:
    """Return what `check` finds as soon as it is what is waited for; after the timeout, what it finds then."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = check()
        if until(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def fresh() -> str:
    """Return a key or id that nobody has used."""
    return str(uuid.uuid4())


def plain(value: Any) -> Any:
    """Return a value as JSON, with its type where JSON has none; without ids and addresses, which differ each time."""
    if value is None or isinstance(value, bool | int | float):
        return value if type(value) in (type(None), bool, int, float) else [type(value).__name__, repr(value)]
    if isinstance(value, str):
        text = _ADDRESS.sub("<address>", _ID.sub("<id>", value))
        text = text.encode("utf-8", "backslashreplace").decode()
        return text if type(value) is str else [type(value).__name__, text]
    if isinstance(value, Mapping):
        return {plain(key) if isinstance(key, str) else repr(key): plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, tuple | set | frozenset):
        return (
            {type(value).__name__: [plain(one) for one in sorted(value, key=repr)]}
            if isinstance(value, set | frozenset)
            else {type(value).__name__: [plain(one) for one in value]}
        )
    if isinstance(value, BaseException):
        kind = type(value)
        return {
            "exception": f"{kind.__module__}.{kind.__qualname__}",
            "args": [repr(one) if isinstance(one, BaseException) else plain(one) for one in value.args],
            "text": plain(str(value)),
        }
    return [type(value).__name__, plain(repr(value))]
