"""Says in a process that does not start anew by itself that its code or its configuration has changed."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Final

from celeriac.reload.file_watch import FileWatch, shown_files
from celeriac.reload.project_files import project_files

log = logging.getLogger(__name__)

#: How often the files are looked at (seconds).
_LOOK_S: Final = 1.0


def say_changes(command: str, configuration: Path) -> None:
    """Write one line to the log for each change of what this process has imported, and of its configuration."""
    watch = FileWatch()
    watch.add([str(configuration.absolute())])
    threading.Thread(target=_say, args=(command, watch, time.time()), name="own-changes", daemon=True).start()


def _say(command: str, watch: FileWatch, began: float) -> None:
    seen = -1
    while True:
        if len(sys.modules) != seen:
            seen = len(sys.modules)
            watch.add(project_files(), read_since=began)
        if changed := watch.changed():
            log.warning("%s changed: restart `%s` to use it", shown_files(changed), command)
        time.sleep(_LOOK_S)
