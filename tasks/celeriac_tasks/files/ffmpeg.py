"""Finds and runs ffmpeg for a processor, in its child process.

A file must not be able to make ffmpeg read another file or use the network. So only demuxers of self-contained
formats are allowed (no playlists, no lists of files), and only the protocol for local files.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from celeriac.tasks.types.processors import JobLimits
from celeriac_tasks.files.ffmpeg_errors import check_frame_size, check_memory, error_of, lacks_memory
from celeriac_tasks.files.parent_death import die_with_parent
from celeriac_tasks.files.refusals import ProcessorUnavailableError

#: Demuxers of self-contained formats. Left out on purpose: hls, dash, concat, image sequences, sdp, and all
#: other formats that name files or addresses.
_DEMUXERS: Final = (
    "aac,ac3,aiff,amr,ape,asf,avi,caf,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mp3,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,tta,w64,wav,wtv,wv"
)
#: How many lines of ffmpeg's log are kept, both from the beginning (facts about the file) and from the end.
_KEPT_LINES: Final = 400
_KEPT_LINE_LENGTH: Final = 1000
#: How long an ffmpeg may go on after it has said that it lacks memory (seconds).
_GRACE_S: Final = 5.0


def find_ffmpeg(limits: JobLimits) -> str:
    """Return the ffmpeg to run: from the settings, else from PATH, else from `imageio-ffmpeg`."""
    if limits.ffmpeg is not None:
        found = shutil.which(limits.ffmpeg)
        if found is None:
            raise ProcessorUnavailableError(f"there is no ffmpeg at {limits.ffmpeg} (FFMPEG_BINARY)")
        return found
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    import imageio_ffmpeg  # an ImportError tells the user what to install

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as exc:
        raise ProcessorUnavailableError("there is no ffmpeg: install one, or set FFMPEG_BINARY") from exc


def find_ffprobe(ffmpeg: str) -> str | None:
    """Return the ffprobe beside this ffmpeg, else the one on PATH, else None."""
    beside = Path(ffmpeg).with_name("ffprobe")
    return shutil.which(str(beside)) or shutil.which("ffprobe")


def input_arguments(source: Path, limits: JobLimits) -> list[str]:
    """Return the arguments that open `source` safely; the last ones are `-i` and the file."""
    return [
        "-protocol_whitelist", "file,pipe", "-format_whitelist", _DEMUXERS,
        "-probesize", "32M", "-analyzeduration", "30M", "-max_pixels", str(limits.max_pixels),
        "-i", f"file:{source}",
    ]  # fmt: skip


def run_ffmpeg(
    arguments: Sequence[str], *, limits: JobLimits, folder: Path, on_progress: Callable[[dict[str, str]], None]
) -> str:
    """Run ffmpeg to its end and return its log; raises a `TaskError` if it fails.

    `on_progress` receives each block of its `-progress` output, twice a second.
    """
    ffmpeg = find_ffmpeg(limits)
    code, log = _run(ffmpeg, arguments, limits, folder, on_progress)
    if code != 0 and "Unrecognized option 'fps_mode'" in log:
        # Before version 5.1 the option had another name.
        older = ["-vsync" if argument == "-fps_mode" else argument for argument in arguments]
        code, log = _run(ffmpeg, older, limits, folder, on_progress)
    check_frame_size(log, limits)
    if code != 0:
        raise error_of(code, log, peak_bytes=_peak_bytes(), memory_bytes=limits.memory_bytes)
    check_memory(log)
    return log


def _run(
    ffmpeg: str,
    arguments: Sequence[str],
    limits: JobLimits,
    folder: Path,
    on_progress: Callable[[dict[str, str]], None],
) -> tuple[int, str]:
    command = [
        ffmpeg, "-v", "error", "-nostdin", "-nostats", "-progress", "pipe:1",
        "-filter_threads", str(limits.threads), *arguments,
    ]  # fmt: skip
    with _popen(command, folder) as process:
        # An ffmpeg that has lost a thread for want of memory may wait for it for ever.
        log = _Log(process.stderr, on_no_memory=lambda: _end_soon(process))
        block: dict[str, str] = {}
        assert process.stdout is not None
        for line in process.stdout:
            name, _, value = line.decode(errors="replace").strip().partition("=")
            block[name] = value
            if name == "progress":
                on_progress(block)
                block = {}
        process.wait()
        return process.returncode, log.text()


def _end_soon(process: subprocess.Popen[bytes]) -> None:
    """Kill a process if it does not end by itself within the grace."""

    def kill() -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
            return
        process.kill()

    threading.Thread(target=kill, daemon=True).start()


def _peak_bytes() -> int:
    """Return the most memory that a process which this one started has used."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def look(command: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Run a command that examines a file; returns its exit code, the first MiB of its output, and its log."""
    with _popen(command, folder) as process:
        log = _Log(process.stderr)
        assert process.stdout is not None
        output = process.stdout.read(1024 * 1024)
        process.stdout.close()
        process.wait()
        return process.returncode, output.decode(errors="replace"), log.text()


def _popen(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    parent_pid = os.getpid()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.Popen(  # noqa: S603 - no shell; all arguments are ours except the path after `file:`
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**kept, "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "AV_LOG_FORCE_NOCOLOR": "1"},
        # This process has a single thread and does not use gRPC, so it may run Python between fork and exec.
        preexec_fn=lambda: die_with_parent(parent_pid),
    )


class _Log:
    """Reads a log in a thread and keeps its first and last lines, because a hostile file may cause gigabytes of log."""

    def __init__(self, stream: IO[bytes] | None, on_no_memory: Callable[[], None] = lambda: None) -> None:
        assert stream is not None
        self._on_no_memory = on_no_memory
        self._stream = stream
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while line := self._stream.readline(64 * 1024):
            text = line.decode(errors="replace").rstrip()[:_KEPT_LINE_LENGTH]
            if lacks_memory(text):
                self._on_no_memory()
                self._on_no_memory = lambda: None
            if len(self._first) < _KEPT_LINES:
                self._first.append(text)
            else:
                self._last.append(text)

    def text(self) -> str:
        """Wait for the end of the stream and return the kept lines."""
        self._thread.join()
        return "\n".join([*self._first, *self._last])
