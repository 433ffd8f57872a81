"""Processor `thumbnail`: one frame of a video as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from celeriac.tasks.types.file_options import ThumbnailOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.ffmpeg import input_arguments, run_ffmpeg
from celeriac_tasks.files.frames import decoder_of, frame_notes, shown_filters, to_picture
from celeriac_tasks.files.media import check_limits, media_facts, video_of
from celeriac_tasks.files.pictures.opening import size_of
from celeriac_tasks.files.refusals import BadOptionError, DamagedMediaError

_ENCODERS: Final = {
    "jpg": ["-c:v", "mjpeg", "-q:v", "3"],
    "png": ["-c:v", "png"],
    "webp": ["-c:v", "libwebp", "-quality", "85"],
}
#: JPEG is full range by definition; PNG stores RGB pixels instead of colour planes.
_PIXELS: Final = {"jpg": "yuvj420p", "png": "rgb24", "webp": "yuv420p"}
_DEFAULT_PERCENT: Final = 10.0


@processor("thumbnail", options=ThumbnailOptions, requires="celeriac[files]", weight=1)
def thumbnail(job: FileJob, options: ThumbnailOptions) -> dict[str, Any]:
    """Write `thumbnail.jpg` (`.png`, `.webp`); returns its `width` and `height`, `at_s`, and `notes`."""
    job.progress(0, "probing")
    facts = media_facts(job)
    check_limits(job, facts)
    moving = video_of(facts)
    at_s = _moment_s(facts["duration_s"], options)
    target = job.output(f"thumbnail.{options.format}")
    job.progress(50, "drawing")
    _draw(job, options, moving, at_s, target)
    if not target.exists() and options.at is None and at_s > 0:
        # If frames are rare, there may not be one after this moment.
        at_s = 0.0
        _draw(job, options, moving, at_s, target)
    if not target.exists() or target.stat().st_size == 0:
        raise DamagedMediaError(f"no frame could be read at {at_s:g} s")
    width, height = size_of(target, job.limits)
    return {
        "at_s": at_s,
        "width": width,
        "height": height,
        "size_bytes": target.stat().st_size,
        "notes": frame_notes(moving),
    }


def _moment_s(duration_s: float | None, options: ThumbnailOptions) -> float:
    if options.at is not None:
        if duration_s is not None and options.at > duration_s:
            raise BadOptionError(f"at is {options.at:g} s, but the video ends at {duration_s:g} s")
        return options.at
    percent = _DEFAULT_PERCENT if options.percent is None else options.percent
    # There is no frame at the very end.
    return round(min((duration_s or 0) * percent / 100, max((duration_s or 0) - 0.1, 0)), 3)


def _draw(job: FileJob, options: ThumbnailOptions, moving: Mapping[str, Any], at_s: float, target: Path) -> None:
    filters = ",".join([*shown_filters(moving), *to_picture(moving, options.width, _PIXELS[options.format])])
    arguments = [
        *(["-ss", str(at_s)] if at_s else []), "-threads", str(job.limits.threads),
        *decoder_of(moving), *input_arguments(job.source, job.limits), "-map", "0:V:0", "-frames:v", "1",
        "-an", "-sn", "-dn", "-vf", filters, *_ENCODERS[options.format],
        "-map_metadata", "-1", "-f", "image2", "-update", "1", "-y",
        f"file:{target}",
    ]  # fmt: skip
    run_ffmpeg(arguments, limits=job.limits, folder=job.folder, on_progress=lambda _: None)
