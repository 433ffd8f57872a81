"""Reads facts about a media file from ffprobe, or from ffmpeg's log if ffprobe is missing."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import TaskError
from celeriac.tasks.types.processors import FileJob
from celeriac_tasks.files.ffmpeg import (
    find_ffmpeg,
    find_ffprobe,
    input_arguments,
    look,
)
from celeriac_tasks.files.ffmpeg_errors import check_frame_size, error_of, first_words
from celeriac_tasks.files.media_log import facts_of_log, has_alpha, is_opened, language_of, pixel_shape, varies
from celeriac_tasks.files.pictures.opening import is_still
from celeriac_tasks.files.refusals import DamagedMediaError, TooLargeError, UnsupportedMediaError

_INTERLACED: Final = ("tt", "bb", "tb", "bt")
_COLOUR_FACTS: Final = ("color_range", "color_space", "color_primaries", "color_transfer")


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
        if code < 0 or not is_opened(log):
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
        if stream["kind"] != "video" or stream.get("cover"):
            continue
        # Pixels that are not square are scaled across.
        for width in (stream["width"], shown_width(stream)):
            if width * stream["height"] > limits.max_pixels:
                raise TooLargeError(
                    f"the frames have {width}x{stream['height']} pixels, above the limit of"
                    f" {limits.max_pixels} (files.processing.max_pixels)"
                )


def shown_width(stream: Mapping[str, Any]) -> int:
    """Return the width of a stream's frames in square pixels, before they are turned."""
    width: int = stream["width"]
    return max(1, round(width * Fraction(stream["sample_aspect_ratio"].replace(":", "/"))))


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
    tags = {name.lower(): value for name, value in stream.get("tags", {}).items()}
    if kind == "video":
        rotation = next((side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side), 0)
        fact |= {
            "width": stream.get("width", 0),
            "height": stream.get("height", 0),
            "fps": _rate(stream.get("avg_frame_rate")),
            "pixel_format": stream.get("pix_fmt", ""),
            "rotation": round(float(rotation)),
            "cover": bool(stream.get("disposition", {}).get("attached_pic")),
            "sample_aspect_ratio": pixel_shape(stream.get("sample_aspect_ratio")),
            "interlaced": stream.get("field_order") in _INTERLACED,
            "variable_fps": varies(_rate(stream.get("avg_frame_rate")), _rate(stream.get("r_frame_rate"))),
            "alpha": has_alpha(stream.get("pix_fmt", "")) or str(tags.get("alpha_mode", "0")) != "0",
            **{name: _known(stream.get(name)) for name in _COLOUR_FACTS},
        }
    elif kind == "audio":
        fact |= {"sample_rate_hz": _whole(stream.get("sample_rate")), "channels": stream.get("channels")}
    return {**fact, "bitrate_bps": _whole(stream.get("bit_rate")), "language": language_of(tags.get("language"))}


def _known(value: Any) -> str | None:
    return None if value in (None, "", "unknown", "reserved", "unspecified") else str(value)


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
