"""Reads facts about a media file from the log of `ffmpeg -i`, for machines without ffprobe."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final

_INPUT: Final = re.compile(r"^Input #0, (.+), from ", re.MULTILINE)
_DURATION: Final = re.compile(r"^\s+Duration: (?:(\d+):(\d\d):(\d\d(?:\.\d+)?)|N/A)", re.MULTILINE)
_BITRATE: Final = re.compile(r"^\s+Duration: .*bitrate: (\d+) kb/s", re.MULTILINE)
_STREAM: Final = re.compile(
    r"^\s+Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\((\w+)\))?: (Video|Audio|Subtitle|Data|Attachment): (.*)$"
)
_ROTATION: Final = re.compile(r"displaymatrix: rotation of (-?\d+(?:\.\d+)?) degrees")
_CHANNELS: Final = {"mono": 1, "stereo": 2, "quad": 4}
_ASPECT: Final = re.compile(r"SAR (\d+:\d+)")
_ALPHA_MODE: Final = re.compile(r"^\s+alpha_mode\s*: [1-9]", re.IGNORECASE)
#: What stands in a log once if matrix, primaries and transfer have the same name.
_SINGLE_TAGS: Final = ("bt709", "smpte170m", "smpte240m", "bt470bg", "fcc", "gbr")
#: Pixel formats with transparency, by the beginning of ffmpeg's name.
_ALPHA: Final = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8")


def is_opened(log: str) -> bool:
    """Return whether ffmpeg could open the file."""
    return _INPUT.search(log) is not None


def has_alpha(pixel_format: str) -> bool:
    """Return whether a pixel format of ffmpeg has transparency."""
    return pixel_format.startswith(_ALPHA)


def pixel_shape(text: Any) -> str:
    """Return the shape of a pixel, `W:H`, in lowest terms; square if it is unknown."""
    across, _, down = str(text).partition(":")
    if not (across.isdigit() and down.isdigit() and int(across) and int(down)):
        return "1:1"
    ratio = Fraction(int(across), int(down))
    return f"{ratio.numerator}:{ratio.denominator}"


def varies(shown: float | None, grid: float | None) -> bool:
    """Return whether the frames come at irregular times: fewer or more are shown than the grid of their times has."""
    return bool(shown and grid and abs(shown / grid - 1) > 0.01)


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
        elif streams and streams[-1]["kind"] == "video":
            if (turned := _ROTATION.search(line)) is not None:
                streams[-1]["rotation"] = round(float(turned[1]))
            elif _ALPHA_MODE.match(line):
                streams[-1]["alpha"] = True
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
        shape = _ASPECT.search(text)
        shown, grid = (
            float(rate[1]) * (1000 if rate[2] else 1) if rate else None
            for rate in (re.search(rf", (\d+(?:\.\d+)?)(k?) {unit}", text) for unit in ("fps", "tbr"))
        )
        pixel_format = parts[1].strip() if len(parts) > 1 else ""
        fact |= {
            "width": int(size[1]) if size else 0,
            "height": int(size[2]) if size else 0,
            "fps": shown,
            "pixel_format": pixel_format,
            "rotation": 0,
            "cover": "(attached pic)" in text,
            "sample_aspect_ratio": pixel_shape(shape[1] if shape else None),
            "variable_fps": varies(shown, grid),
            "alpha": has_alpha(pixel_format),
            **_logged_colours(text, pixel_format),
        }
    elif kind == "audio":
        rate = re.search(r", (\d+) Hz", text)
        layout = parts[2].strip() if len(parts) > 2 else ""
        fact |= {"sample_rate_hz": int(rate[1]) if rate else None, "channels": _channels(layout)}
    bitrate = re.search(r", (\d+) kb/s", text)
    return {**fact, "bitrate_bps": int(bitrate[1]) * 1000 if bitrate else None, "language": language_of(match[2])}


def _logged_colours(text: str, pixel_format: str) -> dict[str, Any]:
    """Return what stands in brackets after the pixel format, such as `(tv, bt709/bt709/unknown, top first)`."""
    found = re.search(rf", {re.escape(pixel_format)}\(([^()]*(?:\([^()]*\))?[^()]*)\)", text) if pixel_format else None
    words = found[1].split(", ") if found else []
    tags = next((word.split("/") for word in words if "/" in word or word in _SINGLE_TAGS), [])
    space, primaries, transfer = tags if len(tags) == 3 else (tags * 3 or [None] * 3)
    return {
        "interlaced": any("top " in word or "bottom " in word for word in words),
        "color_range": next((word for word in words if word in ("tv", "pc")), None),
        "color_space": None if space == "unknown" else space,
        "color_primaries": None if primaries == "unknown" else primaries,
        "color_transfer": None if transfer == "unknown" else transfer,
    }


def _channels(layout: str) -> int | None:
    if (counted := re.match(r"(\d+) channels", layout)) is not None:
        return int(counted[1])
    if (surround := re.match(r"(\d)\.(\d)", layout)) is not None:
        return int(surround[1]) + int(surround[2])
    return _CHANNELS.get(layout)


def language_of(name: str | None) -> str | None:
    """Return the language of a stream, or None if it is unknown."""
    return None if name in (None, "und", "") else name
