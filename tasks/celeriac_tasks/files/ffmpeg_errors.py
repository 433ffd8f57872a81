"""Says what the end of an ffmpeg means: damage only if ffmpeg says so about its input."""

from __future__ import annotations

import re
import signal
from typing import Final

from celeriac.errors import TaskError
from celeriac.tasks.types.processors import JobLimits
from celeriac_tasks.files.refusals import (
    DamagedMediaError,
    DiskFullError,
    OutOfMemoryError,
    OutOfTimeError,
    ProcessorCrashedError,
    ProcessorUnavailableError,
    TooLargeError,
    UnsupportedMediaError,
)

#: ffmpeg's exit code after an orderly end by a signal; the only such signal here is SIGXCPU.
_SIGNALLED: Final = 255
#: ffmpeg 6 and later end with the lowest byte of their error: out of memory, no thread, invalid data.
_NO_MEMORY_CODES: Final = (256 - 12, 256 - 11)
_INVALID_DATA_CODE: Final = 183
#: The shell's and the loader's codes for a program that could not be started.
_NOT_STARTED: Final = (126, 127)
#: A thread needs memory for its stack; a library is loaded into memory.
_NO_MEMORY: Final = (
    "Cannot allocate memory",
    "malloc of size",
    "bad_alloc",
    "get_buffer() failed",
    "Resource temporarily unavailable",
    "pthread_create",
    "failed to map segment",
    "cannot allocate",
    "Out of memory",
    "out of memory",
)
#: What ffmpeg says about a file that is damaged.
_DAMAGE: Final = (
    "Invalid data found",
    "moov atom not found",
    "corrupt",
    "damaged",
    "truncated",
    "Truncated",
    "partial file",
    "Error while decoding",
    "error while decoding",
    "Error submitting packet to decoder",
    "Decode error rate",
    "decoding error",
    "Could not find codec parameters",
)
#: From this share of the limit on, memory is the likely reason of an end that ffmpeg does not explain.
_NEAR_LIMIT: Final = 0.5
_MEMORY_SAID: Final = "ffmpeg needed more memory than the limit allows (files.processing.memory)"
_PICTURE_SIZE: Final = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")
_LOADER: Final = "error while loading shared libraries:"
_PREFIXES: Final = re.compile(r"(?:\[[^\]]*\] )+")


def check_frame_size(log: str, limits: JobLimits) -> None:
    """Raise `TooLargeError` if ffmpeg refused frames because of their size."""
    for match in _PICTURE_SIZE.finditer(log):
        if int(match[1]) * int(match[2]) > limits.max_pixels:
            raise TooLargeError(
                f"the frames have {match[1]}x{match[2]} pixels, above the limit of {limits.max_pixels}"
                " (files.processing.max_pixels)"
            )


def lacks_memory(log: str) -> bool:
    """Return whether ffmpeg said that it did not get memory or a thread."""
    return _says(log, _NO_MEMORY)


def check_memory(log: str) -> None:
    """Raise `OutOfMemoryError` if ffmpeg went on after it had lost frames for want of memory."""
    if lacks_memory(log):
        raise OutOfMemoryError(_MEMORY_SAID)


def error_of(returncode: int, log: str, *, peak_bytes: int = 0, memory_bytes: int = 0) -> TaskError:
    """Return the task's error for a failed ffmpeg; its message is never empty.

    `peak_bytes` is the most memory that ffmpeg used, of `memory_bytes` that it may use.
    """
    if returncode in (-signal.SIGXCPU, _SIGNALLED):
        return OutOfTimeError("ffmpeg used more CPU time than the limit allows (files.processing.cpu_time)")
    if returncode == -signal.SIGXFSZ or "File too large" in log:
        return TooLargeError("the output is larger than the limit allows (files.processing.max_output_bytes)")
    if "No space left on device" in log:
        return DiskFullError("the disk does not have room for the output")
    if returncode in _NO_MEMORY_CODES or returncode == -signal.SIGKILL or lacks_memory(log):
        return OutOfMemoryError(_MEMORY_SAID)
    near_limit = memory_bytes > 0 and peak_bytes >= _NEAR_LIMIT * memory_bytes
    if returncode < 0:
        return _killed(-returncode, log, near_limit=near_limit)
    if returncode in _NOT_STARTED:
        return ProcessorUnavailableError(f"ffmpeg cannot be started ({said(log)}): set FFMPEG_BINARY to one that works")
    if "Unknown encoder" in log or "No such filter" in log or "Unrecognized option" in log:
        return ProcessorUnavailableError(
            f"this ffmpeg lacks a part ({said(log)}): set FFMPEG_BINARY to one that has it"
        )
    if "Decoder not found" in log or "Unknown decoder" in log:
        return UnsupportedMediaError(f"this ffmpeg cannot decode the file: {said(log)}")
    if returncode == _INVALID_DATA_CODE or _says(log, _DAMAGE):
        return DamagedMediaError(f"the file is damaged, or ffmpeg cannot process it: {said(log)}")
    if near_limit:
        return OutOfMemoryError(f"{_MEMORY_SAID}: it ended with exit code {returncode} near the limit")
    return ProcessorCrashedError(f"ffmpeg ended with exit code {returncode}: {said(log)}")


def _killed(number: int, log: str, *, near_limit: bool) -> TaskError:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    if near_limit:
        return OutOfMemoryError(f"{_MEMORY_SAID}: {name} ended it near the limit")
    return ProcessorCrashedError(f"ffmpeg was killed by {name}: {said(log)}")


def said(log: str) -> str:
    """Return the first complaint in a log in words for a user; says so if there is none."""
    return first_words(log) or "it gave no reason"


def first_words(log: str) -> str:
    """Return the first complaint in a log, without addresses and paths; "" if there is none."""
    plain = ""
    for line in log.splitlines():
        # A line that says that ffmpeg guesses the format is not a complaint about the file.
        if (prefix := _PREFIXES.match(line)) is not None and "misdetection possible" not in line:
            return line[prefix.end() :].strip()[:300]
        words = line.rpartition(_LOADER)[2].strip()
        if prefix is None and not plain and "/" not in words and "Last message repeated" not in words:
            plain = words[:300]
    return plain


def _says(log: str, words: tuple[str, ...]) -> bool:
    return any(word in log for word in words)
