"""The errors that processors raise. An error that another run would not change fails the task for good."""

from __future__ import annotations

import errno
import os

from celeriac.errors import SkipRetry, TaskError


class UnsupportedMediaError(SkipRetry):
    """The processor does not support the type of the file."""

    code = "unsupported_media"


class DamagedMediaError(SkipRetry):
    """The file has a supported type, but it is truncated or damaged."""

    code = "damaged_media"


class TooLargeError(SkipRetry):
    """The file or its output is above a limit."""

    code = "too_large"


class BadOptionError(SkipRetry):
    """An option does not fit this file."""

    code = "bad_option"


class InvalidInputError(SkipRetry):
    """The input is missing, or the task may not process it."""

    code = "invalid_input"


class OutOfTimeError(SkipRetry):
    """The run took more time than the limit allows."""

    code = "timeout"


class OutOfMemoryError(SkipRetry):
    """The run needed more memory than the limit allows."""

    code = "out_of_memory"


class ProcessorCrashedError(SkipRetry):
    """The processor or ffmpeg crashed."""

    code = "processor_crashed"


class BadFactsError(SkipRetry):
    """The facts hold a value that JSON has no form for."""

    code = "bad_result"


class DiskFullError(TaskError):
    """The disk does not have room for the output; the task is retried."""

    code = "disk_full"


class InputChangedError(TaskError):
    """The file changed while it was read; the task is retried."""

    code = "processor_failed"


class ProcessorUnavailableError(TaskError):
    """This worker lacks something that the processor needs; the task is retried, because another worker may have it."""

    code = "processor_unavailable"


def check_unchanged(size: int, read: int) -> None:
    """Raise `InputChangedError` unless as many bytes were read as the file had at the beginning."""
    if read != size:
        raise InputChangedError(f"the file changed while it was read: it had {size} bytes, and {read} were read")


def refusal_of(exc: Exception) -> TaskError:
    """Return the task's error for an exception of a processor; `processor_failed` (retried) if no class fits."""
    if isinstance(exc, TaskError):
        return exc
    if isinstance(exc, MemoryError) or (isinstance(exc, RuntimeError) and "start new thread" in str(exc)):
        # A thread needs memory for its stack.
        return OutOfMemoryError("the processor needed more memory than the limit allows (files.processing.memory)")
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"the disk does not have room for the output: {os.strerror(exc.errno)}")
    if isinstance(exc, OSError) and exc.errno == errno.EFBIG:
        return TooLargeError("the output is larger than the limit allows (files.processing.max_output_bytes)")
    if isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
        return OutOfMemoryError("the system did not have enough memory for the processor")
    return TaskError(f"{type(exc).__name__}: {exc}", code="processor_failed")
