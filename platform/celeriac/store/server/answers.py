"""What errors of the store mean: which ones pass by themselves, and which ones somebody must mend.

During a failover, a restart, a long script or with a full memory, a server answers and yet refuses. To the caller that
is the same as a lost connection: the next try goes over a new connection, perhaps to another server. So each connection
of this package turns such answers into the driver's `ConnectionError` (`patient`).
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

from redis.exceptions import AuthenticationError, AuthorizationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

#: Errors that pass by themselves: code → what the server means by it.
PASSING: Final = {
    "LOADING": "it is still reading its data",
    "READONLY": "it is a replica, so another server is the primary now",
    "UNBLOCKED": "it has become a replica",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "NOREPLICAS": "too few replicas follow it (min-replicas-to-write)",
    "CLUSTERDOWN": "the cluster has no primary for this data",
    "TRYAGAIN": "the cluster is moving this data",
    "BUSY": "a script or a function occupies it",
    "OOM": "its memory is full (maxmemory)",
    "MISCONF": "it cannot write its data to the disk",
    "EXECABORT": "it refused a part of a transaction",
}
#: Those of a server that has become a replica.
DEMOTED: Final = ("READONLY", "UNBLOCKED", "MASTERDOWN")
#: Errors that stay until somebody mends something: code → what to do.
FINAL: Final = {
    "NOAUTH": "it wants a password: put it into redis_url",
    "WRONGPASS": "user or password are wrong: check redis_url",
    "NOPERM": "the user of redis_url may not do this: allow it the commands, keys and channels of this installation",
    "DENIED": "it is in protected mode: set a password, or let it listen on the loopback only",
    "MOVED": "it is a cluster of several shards: use a single server",
    "ASK": "it is a cluster of several shards: use a single server",
    "CROSSSLOT": "it is a cluster of several shards: use a single server",
    "NOPROTO": "it does not speak this version of the protocol: use Redis 6.2 or later",
}

#: The error of a command inside a script, as servers before version 7 report it.
_IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: (?:@user_script: ?\d+: )?-?([A-Z]+) ")


def code_of(error: BaseException) -> str:
    """Return the code of a server's error: its first word, in capitals; 'ERR' if it has none.

    An error that a script passes on may begin with ERR, and what it passes on follows.
    """
    text = str(error)
    inside = _IN_SCRIPT.search(text)
    for code in (getattr(error, "status_code", None), text.partition(" ")[0], inside and inside[1]):
        if code and code != "ERR" and code.isupper():
            return str(code)
    return "ERR"


def passes(error: BaseException) -> bool:
    """Return whether a server's error passes by itself, so that the call should be repeated."""
    return code_of(error) in PASSING


def is_wrong(error: BaseException) -> bool:
    """Return whether the server would refuse the same command again, however long the caller waits.

    Errors with other codes, such as `NOPERM`, are for something that an operator may mend.
    """
    return isinstance(error, ResponseError) and code_of(error) in ("ERR", "WRONGTYPE")


def refuses_login(error: BaseException) -> bool:
    """Return whether the server refuses this process, so that it makes no sense to repeat the call."""
    return isinstance(error, AuthenticationError | AuthorizationError)


def described(error: BaseException) -> str:
    """Return why the store cannot be used, and what to do if somebody has to do something."""
    code = code_of(error)
    if code in PASSING:
        return f"the store refuses for now, because {PASSING[code]} ({code})"
    if code in FINAL:
        return f"the store refuses, because {FINAL[code]} ({code})"
    if isinstance(error, ResponseError):
        return f"the store refused a command: {error}"
    return f"the store cannot be reached ({type(error).__name__}: {error})"


def is_demoted(error: BaseException) -> bool:
    """Return whether an error, or the one that caused it, says that the server is a replica."""
    causes = (error, error.__cause__)
    return any(code_of(one) in DEMOTED for one in causes if isinstance(one, ResponseError | PassingRefusalError))


class PassingRefusalError(RedisConnectionError):
    """A server that refuses for now, as the driver's error for a lost connection."""


def patient(connection_class: type) -> type:
    """Return the driver's class of connections, blocking or not, with refusals that pass as lost connections."""
    is_async = inspect.iscoroutinefunction(connection_class.read_response)  # type: ignore[attr-defined]
    mixin = _PatientAsync if is_async else _Patient
    return type(f"Patient{connection_class.__name__}", (mixin, connection_class), {})


def lost(error: ResponseError) -> PassingRefusalError:
    """Return a refusal that passes as the driver's error for a lost connection."""
    return PassingRefusalError(str(error), status_code=code_of(error))


class _Patient:
    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as exc:
            if not passes(exc):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise lost(exc) from exc


class _PatientAsync:
    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as exc:
            if not passes(exc):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise lost(exc) from exc
