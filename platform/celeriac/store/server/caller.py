"""How a server is called: as functions of a library where it has them, else as scripts.

The server makes all functions of a script anew for each call, which costs more than most transitions do. Those of a
library it makes once. A server has functions from Redis 7.0 on, unless its operator or its access rules forbid them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from celeriac.store.server.pipeline import Command
from celeriac.store.server.scripts import LIBRARY_PREFIX, Script, every_function, library, script

log = logging.getLogger(__name__)

#: How many versions of the library a server keeps. An older one comes back when a process that uses it calls it.
MOST_LIBRARIES: Final = 8
#: What lists our libraries.
LISTING: Final = ("FUNCTION", "LIST", "LIBRARYNAME", f"{LIBRARY_PREFIX}*")
#: How often a call may find that the server lacks the script: functions were deleted, then it turns out to have none.
MOST_REPETITIONS: Final = 3
#: What an answer says whose function the server does not have.
_NO_FUNCTION: Final = "Function not found"
#: What a server says that has no functions, or whose user may not load any; or may not call any.
_MAY_NOT_LOAD: Final = re.compile(r"unknown command|permissions to run the 'function", re.IGNORECASE)
_NO_FUNCTIONS: Final = re.compile(r"unknown command [`']FCALL|permissions to run the 'fcall'", re.IGNORECASE)


class Caller:
    """What one process knows of the server that it calls. May be used by several threads.

    `prefix`: what the keys of the installation begin with.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        #: Whether the server has functions, as far as is known.
        self.functions = True
        self.loaded = False
        self._may_load = True

    def loading(self) -> list[Command]:
        """Return what makes the server know all transitions; nothing if it does."""
        if self.loaded:
            return []
        if self.functions:
            return [("FUNCTION", "LOAD", library(self._prefix).source)]
        return [("SCRIPT", "LOAD", called.source) for called in every_function(self._prefix)]

    def command(self, called: Script, arguments: Sequence[Any]) -> Command:
        """Return the call of a script without keys."""
        if self._prefix:
            called = script(called.name, self._prefix)
        if self.functions and called.function:
            return ("FCALL", called.function, 0, *arguments)
        return ("EVALSHA", called.sha, 0, *arguments)

    def outdated(self, listed: Any) -> list[Command]:
        """Return what removes the libraries of other versions, if the server has too many of them.

        `listed`: what the server answered to `LISTING`, or its error.
        """
        if isinstance(listed, Exception) or len(listed) <= MOST_LIBRARIES:
            return []
        # An array of names and values, or a map.
        names = [dict(zip(one[::2], one[1::2], strict=True)) if isinstance(one, list) else one for one in listed]
        found = {str(one["library_name"]) for one in names}
        return [("FUNCTION", "DELETE", name) for name in sorted(found - {library(self._prefix).name})]

    def note_loaded(self, replies: Sequence[Any]) -> None:
        """Note what the server answered to `loading`."""
        refused = [reply for reply in replies if isinstance(reply, Exception) and "already exists" not in str(reply)]
        if refused and self.functions and not _MAY_NOT_LOAD.search(str(refused[0])):
            log.warning("the store refused the functions of this version, so it runs slower scripts: %s", refused[0])
        self._may_load = self._may_load and not refused
        self.loaded = not refused

    def is_missing(self, reply: Any) -> bool:
        """Return whether a call changed nothing because the server does not have the script; then it is to be repeated.

        If the server has no functions, or refuses them, scripts are called from now on.
        """
        if isinstance(reply, NoScriptError):
            self.loaded = False
            return True
        if not self.functions or not isinstance(reply, ResponseError):
            return False
        if _NO_FUNCTIONS.search(str(reply)) or (_NO_FUNCTION in str(reply) and not self._may_load):
            self.functions = self.loaded = False
            return True
        if _NO_FUNCTION in str(reply):
            self.loaded = False
            return True
        return False
