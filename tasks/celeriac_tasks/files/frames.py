"""Filters that show the frames of a video as they are meant, and notes on what the result cannot keep.

A result has square pixels, whole frames, no transparency and a standard dynamic range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celeriac_tasks.files.media import shown_width
from celeriac_tasks.files.refusals import TooLargeError

#: Transfers of high dynamic range.
_HDR: Final = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
_RGB: Final = re.compile(r"(?:0|x2)?(?:rgb|bgr)|gbr|argb|abgr|pal8")
_PLAIN: Final = ("yuv420p", "yuvj420p", "nv12", "nv21", "")
#: What players assume of a video that does not say its colours: that of high definition from this height.
_HIGH_DEFINITION: Final = 720
#: The longest edge that H.264 can have.
_LONGEST_EDGE: Final = 16384
#: Decoders that read the transparency of a codec, which ffmpeg's own decoders leave out.
_ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_TONE_MAPPING: Final = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=mobius:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv:d=error_diffusion"
)


def decoder_of(stream: Mapping[str, Any]) -> list[str]:
    """Return the arguments that choose a decoder, if ffmpeg's own would lose something."""
    decoder = _ALPHA_DECODERS.get(stream["codec"]) if stream["alpha"] else None
    return ["-c:v:0", decoder] if decoder is not None else []


def check_edges(stream: Mapping[str, Any]) -> None:
    """Raise `TooLargeError` if a frame in square pixels has an edge that H.264 does not allow."""
    width, height = shown_width(stream), stream["height"]
    if max(width, height) > _LONGEST_EDGE:
        raise TooLargeError(f"the frames have {width}x{height} pixels: H.264 allows {_LONGEST_EDGE} on each side")


def shown_filters(stream: Mapping[str, Any], *, fps: float | None = None) -> list[str]:
    """Return the filters to whole, opaque frames; the caller scales next."""
    filters = ["yadif=deint=interlaced"] if stream["interlaced"] else []
    if fps is not None:
        filters.append(f"fps={fps}")
    if stream["alpha"]:
        # The decoder of VP9 says so only with its first frame.
        filters += ["format=gbrap" if _is_rgb(stream) else "format=yuva444p", "premultiply=inplace=1"]
    return filters


def to_video(stream: Mapping[str, Any], height: int | None) -> list[str]:
    """Return the filters to frames of H.264: at most `height` lines, square pixels, even edges, 8 bits in 4:2:0."""
    lines = f"max(2,2*floor({_least('ih', height)}/2))"
    size = f"scale=w='max(2,2*round(iw*sar*{lines}/ih/2))':h='{lines}'"
    if is_hdr(stream):
        return [size, "setsar=1", _TONE_MAPPING, "format=yuv420p"]
    matrix, tags = _colours(stream, height)
    return [f"{size}{matrix}:out_range=tv", "setsar=1", "format=yuv420p", *tags]


def to_picture(stream: Mapping[str, Any], width: int, pixels: str) -> list[str]:
    """Return the filters to a picture of at most `width` pixels across; JPEG and WebP have the matrix of BT.601."""
    across = f"max(2,round(min({width},iw*sar)))"
    size = f"scale=w='{across}':h='max(2,2*round(ih*{across}/(iw*sar)/2))'"
    matrix = ":out_color_matrix=bt601" if pixels.startswith("yuv") else ""
    range_ = "pc" if pixels in ("yuvj420p", "rgb24") else "tv"
    if is_hdr(stream):
        return [
            size,
            "setsar=1",
            _TONE_MAPPING,
            f"format=yuv444p,scale=w=iw:h=ih{matrix}:out_range={range_}",
            f"format={pixels}",
        ]
    return [f"{size}{matrix}:out_range={range_}", "setsar=1", f"format={pixels}"]


def is_hdr(stream: Mapping[str, Any]) -> bool:
    """Return whether a stream has a high dynamic range."""
    return stream["color_transfer"] in _HDR


def _is_rgb(stream: Mapping[str, Any]) -> bool:
    return _RGB.match(stream["pixel_format"]) is not None


def _least(name: str, most: int | None) -> str:
    return name if most is None else f"min({name},{most})"


def _colours(stream: Mapping[str, Any], height: int | None) -> tuple[str, list[str]]:
    """Return the option of `scale` and the filters that make pixels and tags agree.

    What a video says of its colours is kept. RGB gets a matrix. A video that says nothing is tagged only if a player
    would guess differently for the size of the result.
    """
    if _is_rgb(stream):
        return ":out_color_matrix=bt709", ["setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"]
    if stream["color_space"] is None and height is not None and height < _HIGH_DEFINITION <= stream["height"]:
        return "", ["setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"]
    return "", []


# --- notes


def frame_notes(stream: Mapping[str, Any]) -> list[str]:
    """Return what of the frames a result cannot keep, in words."""
    notes = []
    if is_hdr(stream):
        transfer = _HDR[stream["color_transfer"]]
        notes.append(f"its high dynamic range ({transfer}) was mapped to the standard range of BT.709")
    if stream["alpha"]:
        notes.append("transparent parts, if it has any, became black")
    if stream["interlaced"]:
        notes.append("its interlaced frames were deinterlaced")
    if stream["sample_aspect_ratio"] != "1:1":
        notes.append(f"its pixels of {stream['sample_aspect_ratio']} were scaled to square ones")
    return notes


def video_notes(facts: Mapping[str, Any], stream: Mapping[str, Any], *, sound: bool) -> list[str]:
    """Return what of a file a result with one video and one sound cannot keep, in words."""
    notes = frame_notes(stream)
    if stream["pixel_format"] not in _PLAIN:
        notes.append(f"its pixels of {stream['pixel_format']} became yuv420p")
    if stream["width"] % 2 or stream["height"] % 2:
        notes.append(f"its edges of {stream['width']}x{stream['height']} became even")
    return notes + _stream_notes(facts["streams"], sound=sound)


def _stream_notes(streams: Sequence[Mapping[str, Any]], *, sound: bool) -> list[str]:
    videos = [one for one in streams if one["kind"] == "video" and not one.get("cover")]
    sounds = [one for one in streams if one["kind"] == "audio"]
    counts = {
        "other video": len(videos) - 1,
        "other sound track": len(sounds) - 1 if sound else 0,
        "cover picture": sum(bool(one.get("cover")) for one in streams),
        "subtitle track": sum(one["kind"] == "subtitle" for one in streams),
        "attachment": sum(one["kind"] == "attachment" for one in streams),
    }
    left_out = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count > 0]
    notes = [f"left out: {', '.join(left_out)}"] if left_out else []
    channels = (sounds[0]["channels"] or 0) if sounds and sound else 0
    if channels > 2:
        notes.append(f"its {channels} channels of sound became 2")
    return notes
