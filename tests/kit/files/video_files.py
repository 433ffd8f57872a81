"""Short videos of every kind for tests: shapes, turns, colours, rates, sounds."""

from __future__ import annotations

import array
import io
import subprocess
from pathlib import Path

from PIL import Image

from tests.kit.files.media_files import ffmpeg, make

BARS = ("-f", "lavfi", "-i", "smptebars=size=96x64:rate=25:duration=0.4")
_709 = (
    "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "8")
_TONE = ("-f", "lavfi", "-i", "sine=d=0.4")


def _hdr(transfer: str) -> tuple[str, ...]:
    tags = f"format=yuv420p10le,setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}"
    coder = f"log-level=error:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    return (*BARS, "-vf", tags, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", coder)


#: name → arguments for ffmpeg; the end of the name is the suffix of the file.
VIDEOS: dict[str, tuple[str, ...]] = {
    "plain.mp4": (*BARS, "-vf", _709, *_H264),
    "wide pixels.mp4": (*BARS, "-vf", "setsar=2/1,format=yuv420p", *_H264),
    "narrow pixels.mp4": (*BARS, "-vf", "setsar=8/9,format=yuv420p", *_H264),
    "wide pixels.mpg": (*BARS, "-vf", "setsar=64/45", "-aspect", "16:9", "-c:v", "mpeg2video", "-q:v", "2"),
    "unknown pixels.mkv": (*BARS, "-vf", "setsar=0", "-c:v", "ffv1", "-pix_fmt", "yuv420p"),
    "full range.mp4": (*BARS, "-vf", "scale=out_range=pc,format=yuvj420p", *_H264),
    "motion jpeg.avi": (*BARS, "-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj444p"),
    "rgb.mkv": (*BARS, "-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "rgb.mp4": (*BARS, "-c:v", "libx264rgb", "-preset", "ultrafast", "-crf", "8"),
    "grey.mkv": (*BARS, "-c:v", "ffv1", "-pix_fmt", "gray"),
    "deep grey.mkv": (*BARS, "-c:v", "ffv1", "-pix_fmt", "gray10le"),
    "half colours.mkv": (*BARS, "-c:v", "ffv1", "-pix_fmt", "yuv422p"),
    "all colours, 10 bits.mp4": (*BARS, *_H264, "-pix_fmt", "yuv444p10le"),
    "10 bits.mp4": (*BARS, *_H264, "-pix_fmt", "yuv420p10le"),
    "16 bits.mkv": (*BARS, "-c:v", "ffv1", "-pix_fmt", "rgb48le"),
    "bt2020.mp4": (
        *BARS,
        "-vf",
        "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p,"
        "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt2020-10",
        *_H264,
    ),
    "interlaced.mpg": (
        *BARS,
        "-vf",
        "setfield=tff",
        "-c:v",
        "mpeg2video",
        "-flags",
        "+ilme+ildct",
        "-q:v",
        "2",
    ),
    "interlaced.mp4": (
        *BARS,
        "-vf",
        "format=yuv420p,setfield=tff",
        *_H264,
        "-flags",
        "+ilme+ildct",
        "-x264opts",
        "tff=1",
    ),
    "odd.mkv": (
        "-f",
        "lavfi",
        "-i",
        "smptebars=size=97x63:rate=25",
        "-t",
        "0.4",
        "-c:v",
        "ffv1",
        "-pix_fmt",
        "yuv444p",
    ),
    "tiny.mkv": ("-f", "lavfi", "-i", "color=red:size=1x1:rate=25", "-t", "0.4", "-c:v", "ffv1", "-pix_fmt", "yuv444p"),
    "animation.gif": BARS,
    "vp9.webm": (*BARS, "-c:v", "libvpx-vp9", "-crf", "5", "-b:v", "0", "-deadline", "realtime"),
    "av1.mkv": (*BARS, "-c:v", "libsvtav1", "-crf", "5", "-preset", "12", "-svtav1-params", "enable-overlays=0"),
    "hevc.mp4": (*BARS, "-c:v", "libx265", "-preset", "ultrafast", "-crf", "5", "-x265-params", "log-level=error"),
}

#: As above, with transparency of one half or a high dynamic range.
SPECIAL: dict[str, tuple[str, ...]] = {
    "alpha.webm": (
        *BARS,
        "-vf",
        "format=rgba,colorchannelmixer=aa=0.5,format=yuva420p",
        "-c:v",
        "libvpx-vp9",
        "-crf",
        "5",
        "-b:v",
        "0",
        "-deadline",
        "realtime",
    ),
    "alpha.mov": (*BARS, "-vf", "format=rgba,colorchannelmixer=aa=0.5", "-c:v", "qtrle"),
    "alpha.mkv": (*BARS, "-vf", "format=rgba,colorchannelmixer=aa=0.5,format=yuva444p", "-c:v", "ffv1"),
    "pq.mp4": _hdr("smpte2084"),
    "hlg.mp4": _hdr("arib-std-b67"),
}

#: name → how the player turns the plain video.
TURNS: dict[str, tuple[str, ...]] = {
    "90": ("-display_rotation", "90"),
    "180": ("-display_rotation", "180"),
    "270": ("-display_rotation", "270"),
    "flipped across": ("-display_hflip",),
    "flipped down": ("-display_vflip",),
    "90 and flipped": ("-display_rotation", "90", "-display_hflip"),
}

#: name → (rate that the result should have, arguments)
RATES: dict[str, tuple[float, tuple[str, ...]]] = {
    f"{name}.{suffix}": (
        rate,
        ("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={fraction}", "-frames:v", "24", "-c:v", "mpeg4", "-q:v", "3"),
    )
    for name, fraction, rate in (
        ("23.976", "24000/1001", 23.976),
        ("29.97", "30000/1001", 29.97),
        ("60", "60", 60),
        ("12.5", "25/2", 12.5),
    )
    for suffix in ("mp4", "mkv")
}

_SOUNDS = {
    "mono, 8 kHz": "sine=d=0.4:r=8000",
    "96 kHz": "sine=d=0.4:r=96000",
    "44.1 kHz": "sine=d=0.4:r=44100",
}
#: name → (arguments, words of the note)
SOUNDS: dict[str, tuple[tuple[str, ...], str]] = {
    **{
        name: ((*BARS, "-f", "lavfi", "-i", sound, "-c:v", "mpeg4", "-c:a", "pcm_s16le"), "")
        for name, sound in _SOUNDS.items()
    },
    "5.1": (
        (
            *BARS,
            "-f",
            "lavfi",
            "-i",
            "sine=d=0.4,pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0",
            "-c:v",
            "mpeg4",
            "-c:a",
            "ac3",
        ),
        "6 channels",
    ),
    "two tracks": (
        (*BARS, *_TONE, *_TONE, "-map", "0", "-map", "1", "-map", "2", "-c:v", "mpeg4"),
        "1 other sound track",
    ),
}


def video_file(folder: Path, name: str, arguments: tuple[str, ...]) -> Path:
    """Make a video once per folder."""
    path = folder / name
    return path if path.exists() else make(path, *arguments)


def _read(*arguments: str, level: str = "error") -> subprocess.CompletedProcess[bytes]:
    """Let ffmpeg write to its standard output."""
    return subprocess.run([ffmpeg(), "-v", level, *arguments, "-"], capture_output=True, check=True)


def frame(path: Path, at_s: float = 0.2) -> Image.Image:
    """Return a frame as a player shows it, in square pixels, over black."""
    filters = ("-vf", "scale=w='max(1,round(iw*sar))':h=ih,setsar=1,format=rgb24")
    done = _read("-ss", str(at_s), "-i", str(path), "-frames:v", "1", *filters, "-c:v", "ppm", "-f", "image2pipe")
    return Image.open(io.BytesIO(done.stdout)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference of the colours of 16 parts."""
    parts = [picture.convert("RGB").resize((4, 4), Image.Resampling.BOX).tobytes() for picture in (one, other)]
    return max(abs(a - b) for a, b in zip(*parts, strict=True))


def frame_times(path: Path) -> list[float]:
    """Return the moments of the frames (seconds)."""
    filters = ("-fps_mode", "passthrough", "-vf", "showinfo")
    said = _read("-i", str(path), "-map", "0:V:0", *filters, "-f", "null", level="info").stderr.decode()
    return [float(line.split("pts_time:")[1].split()[0]) for line in said.splitlines() if "pts_time:" in line]


def sound_begins_s(path: Path) -> float:
    """Return when the first sound can be heard, from the beginning of the file."""
    filters = ("-af", "aresample=8000:async=1:first_pts=0", "-ac", "1")
    samples = array.array("h", _read("-i", str(path), "-map", "0:a:0", *filters, "-f", "s16le").stdout)
    return next(number for number, sample in enumerate(samples) if abs(sample) > 500) / 8000
