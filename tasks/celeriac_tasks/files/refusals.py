"""The errors that processors raise. What another run would not change fails the task for good."""

from __future__ import annotations

import errno
import os

from celeriac.errors import SkipRetry, TaskError


class UnsupportedMediaError(SkipRetry):
    """The file is not what the processor works on."""

    code = "unsupported_media"


class DamagedMediaError(SkipRetry):
    """The file is of the right kind, but truncated or broken."""

    code = "damaged_media"


class TooLargeError(SkipRetry):
    """The file, or what would become of it, is above a limit."""

    code = "too_large"


class BadOptionError(SkipRetry):
    """An option does not fit this file."""

    code = "bad_option"


class InvalidInputError(SkipRetry):
    """The input is missing, or no file that may be processed."""

    code = "invalid_input"


class OutOfTimeError(SkipRetry):
    """The run took more time than it may."""

    code = "timeout"


class OutOfMemoryError(SkipRetry):
    """The run needed more memory than it may have."""

    code = "out_of_memory"


class ProcessorCrashedError(SkipRetry):
    """The processor, or ffmpeg, was ended by a fault of its own."""

    code = "processor_crashed"


class DiskFullError(TaskError):
    """There is no room for the output; retried."""

    code = "disk_full"


class ProcessorUnavailableError(TaskError):
    """This worker lacks what the processor needs; retried, since another may have it."""

    code = "processor_unavailable"


def refusal_of(exc: Exception) -> TaskError:
    """Return what an exception of a processor means for the task; `processor_failed` (retried) if nothing special."""
    if isinstance(exc, TaskError):
        return exc
    if isinstance(exc, MemoryError):
        return OutOfMemoryError("the processor needed more memory than it may have (files.processing.memory)")
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"there is no room for the output: {os.strerror(exc.errno)}")
    if isinstance(exc, OSError) and exc.errno == errno.EFBIG:
        return TooLargeError("the output is larger than it may be (files.processing.max_output_bytes)")
    if isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
        return OutOfMemoryError("the system had no memory for the processor")
    return TaskError(f"{type(exc).__name__}: {exc}", code="processor_failed")
