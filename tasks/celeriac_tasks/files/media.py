"""Reads facts about a media file from ffprobe, or from ffmpeg's log if ffprobe is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import TaskError
from celeriac.tasks.types.processors import FileJob
from celeriac_tasks.files.ffmpeg import (
    check_frame_size,
    error_of,
    find_ffmpeg,
    find_ffprobe,
    first_words,
    input_arguments,
    look,
)
from celeriac_tasks.files.pictures.opening import is_still
from celeriac_tasks.files.refusals import DamagedMediaError, TooLargeError, UnsupportedMediaError

_INPUT: Final = re.compile(r"^Input #0, (.+), from ", re.MULTILINE)
_DURATION: Final = re.compile(r"^\s+Duration: (?:(\d+):(\d\d):(\d\d(?:\.\d+)?)|N/A)", re.MULTILINE)
_BITRATE: Final = re.compile(r"^\s+Duration: .*bitrate: (\d+) kb/s", re.MULTILINE)
_STREAM: Final = re.compile(
    r"^\s+Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\((\w+)\))?: (Video|Audio|Subtitle|Data|Attachment): (.*)$"
)
_ROTATION: Final = re.compile(r"displaymatrix: rotation of (-?\d+(?:\.\d+)?) degrees")
_CHANNELS: Final = {"mono": 1, "stereo": 2, "quad": 4}


def media_facts(job: FileJob, source: Path | None = None) -> dict[str, Any]:
    """Return the facts of a file: format, duration_s (None if unknown), size_bytes, bitrate_bps, streams.

    Raises `UnsupportedMediaError` if the file is not sound or video, or not of a self-contained format.
    """
    path = job.source if source is None else source
    if is_still(path):
        raise UnsupportedMediaError("the file is a still picture, neither sound nor video: use the processor image")
    ffmpeg = find_ffmpeg(job.limits)
    ffprobe = find_ffprobe(ffmpeg)
    folder = job.folder
    if ffprobe is not None:
        command = [ffprobe, "-v", "error", "-of", "json", "-show_format", "-show_streams"]
        code, output, log = look([*command, *input_arguments(path, job.limits)], folder)
        check_frame_size(log, job.limits)
        if code != 0:
            raise _refusal(code, log)
        facts = facts_of_ffprobe(json_text.read(output))
    else:
        # Without an output ffmpeg fails, but only after it has logged the streams.
        code, _, log = look([ffmpeg, "-hide_banner", "-nostdin", *input_arguments(path, job.limits)], folder)
        check_frame_size(log, job.limits)
        if code < 0 or _INPUT.search(log) is None:
            raise _refusal(code, log)
        facts = facts_of_log(log)
    if not facts["streams"]:
        raise UnsupportedMediaError("the file contains neither sound nor video")
    return {**facts, "size_bytes": path.stat().st_size}


def _refusal(code: int, log: str) -> TaskError:
    if "not on whitelist" in log:
        return UnsupportedMediaError("the file is not a media file, or its format refers to other files")
    error = error_of(code, log)
    if error.code in (UnsupportedMediaError.code, DamagedMediaError.code):
        return UnsupportedMediaError(f"the file is not a media file: {first_words(log) or 'its format is unknown'}")
    return error


def check_limits(job: FileJob, facts: Mapping[str, Any]) -> None:
    """Raise `TooLargeError` if a video is longer, or has larger frames, than the limits allow."""
    limits = job.limits
    duration_s = facts["duration_s"]
    if duration_s is not None and duration_s > limits.max_duration_s:
        raise TooLargeError(
            f"the file lasts {duration_s:.0f} s, above the limit of {limits.max_duration_s:.0f} s"
            " (files.processing.max_duration)"
        )
    for stream in facts["streams"]:
        if stream.get("width", 0) * stream.get("height", 0) > limits.max_pixels:
            raise TooLargeError(
                f"the frames have {stream['width']}x{stream['height']} pixels, above the limit of"
                f" {limits.max_pixels} (files.processing.max_pixels)"
            )


def video_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first stream of moving pictures; raises `UnsupportedMediaError` if there is none."""
    for stream in facts["streams"]:
        if stream["kind"] == "video" and not stream.get("cover"):
            return dict(stream)
    kinds = {"cover picture" if stream.get("cover") else stream["kind"] for stream in facts["streams"]}
    raise UnsupportedMediaError(f"the file does not contain a video, only: {', '.join(sorted(kinds))}")


# --- from ffprobe


def facts_of_ffprobe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts in ffprobe's JSON."""
    about = document.get("format", {})
    return {
        "format": about.get("format_name", ""),
        "duration_s": _number(about.get("duration")),
        "bitrate_bps": _whole(about.get("bit_rate")),
        "streams": [_ffprobe_stream(stream) for stream in document.get("streams", [])],
    }


def _ffprobe_stream(stream: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(stream.get("codec_type", "data"))
    fact: dict[str, Any] = {"index": stream["index"], "kind": kind, "codec": stream.get("codec_name", "unknown")}
    if kind == "video":
        rotation = next((side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side), 0)
        fact |= {
            "width": stream.get("width", 0),
            "height": stream.get("height", 0),
            "fps": _rate(stream.get("avg_frame_rate")),
            "pixel_format": stream.get("pix_fmt", ""),
            "rotation": round(float(rotation)),
            "cover": bool(stream.get("disposition", {}).get("attached_pic")),
        }
    elif kind == "audio":
        fact |= {"sample_rate_hz": _whole(stream.get("sample_rate")), "channels": stream.get("channels")}
    language = stream.get("tags", {}).get("language")
    return {**fact, "bitrate_bps": _whole(stream.get("bit_rate")), "language": _language(language)}


def _number(text: Any) -> float | None:
    try:
        return round(float(text), 3)
    except (TypeError, ValueError):
        return None


def _whole(text: Any) -> int | None:
    number = _number(text)
    return None if number is None else round(number)


def _rate(text: Any) -> float | None:
    try:
        return round(float(Fraction(text)), 3)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


# --- from ffmpeg's log


def facts_of_log(log: str) -> dict[str, Any]:
    """Return the facts in the log of `ffmpeg -i`."""
    opened = _INPUT.search(log)
    duration = _DURATION.search(log)
    bitrate = _BITRATE.search(log)
    duration_s = None
    if duration is not None and duration[1] is not None:
        duration_s = round(int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]), 3)
    streams: list[dict[str, Any]] = []
    for line in log.splitlines():
        if (match := _STREAM.match(line)) is not None:
            streams.append(_logged_stream(match))
        elif streams and streams[-1]["kind"] == "video" and (turned := _ROTATION.search(line)) is not None:
            streams[-1]["rotation"] = round(float(turned[1]))
    return {
        "format": opened[1] if opened else "",
        "duration_s": duration_s,
        "bitrate_bps": int(bitrate[1]) * 1000 if bitrate else None,
        "streams": streams,
    }


def _logged_stream(match: re.Match[str]) -> dict[str, Any]:
    kind, text = match[3].lower(), match[4]
    fact: dict[str, Any] = {"index": int(match[1]), "kind": kind, "codec": re.split(r"[ ,]", text, maxsplit=1)[0]}
    # A comma in brackets does not separate: "yuv420p(tv, bt709)".
    parts = re.sub(r"\([^()]*\)", "", text).split(", ")
    if kind == "video":
        size = re.search(r", (\d+)x(\d+)", text)
        fps = re.search(r", (\d+(?:\.\d+)?)(k?) fps", text)
        fact |= {
            "width": int(size[1]) if size else 0,
            "height": int(size[2]) if size else 0,
            "fps": float(fps[1]) * (1000 if fps[2] else 1) if fps else None,
            "pixel_format": parts[1].strip() if len(parts) > 1 else "",
            "rotation": 0,
            "cover": "(attached pic)" in text,
        }
    elif kind == "audio":
        rate = re.search(r", (\d+) Hz", text)
        layout = parts[2].strip() if len(parts) > 2 else ""
        fact |= {"sample_rate_hz": int(rate[1]) if rate else None, "channels": _channels(layout)}
    bitrate = re.search(r", (\d+) kb/s", text)
    return {**fact, "bitrate_bps": int(bitrate[1]) * 1000 if bitrate else None, "language": _language(match[2])}


def _channels(layout: str) -> int | None:
    if (counted := re.match(r"(\d+) channels", layout)) is not None:
        return int(counted[1])
    if (surround := re.match(r"(\d)\.(\d)", layout)) is not None:
        return int(surround[1]) + int(surround[2])
    return _CHANNELS.get(layout)


def _language(name: str | None) -> str | None:
    return None if name in (None, "und", "") else name
