"""Processor `transcode`: converts any video to H.264 and AAC in an MP4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.tasks.types.file_options import TranscodeOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.ffmpeg import input_arguments, run_ffmpeg
from celeriac_tasks.files.ffmpeg_errors import said
from celeriac_tasks.files.frames import check_edges, decoder_of, shown_filters, to_video, video_notes
from celeriac_tasks.files.media import check_limits, media_facts, video_of
from celeriac_tasks.files.refusals import BadOptionError, DamagedMediaError, UnsupportedMediaError

#: How much shorter a video may be than its header says, because headers round, and sound and pictures end apart.
_SHORTER_S: Final = 1.0
_SHORTER_SHARE: Final = 0.03
#: The share of frames that may be damaged.
_BROKEN_SHARE: Final = 0.1


@processor("transcode", options=TranscodeOptions, requires="celeriac[files]", weight=18)
def transcode(job: FileJob, options: TranscodeOptions) -> dict[str, Any]:
    """Write `result.mp4`; returns its `duration_s`, `width`, `height`, `fps`, `size_bytes`, and facts of the source.

    `notes` says what of the source could not be kept.
    """
    job.progress(0, "probing")
    original = media_facts(job)
    check_limits(job, original)
    moving = video_of(original)
    check_edges(moving)
    notes = video_notes(original, moving, sound=options.audio)
    expected_s = _expected_s(original["duration_s"], options)
    seen = {"frames": 0, "duration_s": 0.0}

    def on_progress(block: dict[str, str]) -> None:
        seen["frames"] = _number(block.get("frame"))
        seen["duration_s"] = max(seen["duration_s"], _number(block.get("out_time_us")) / 1e6)
        done_s = seen["duration_s"]
        percentage = min(100 * done_s / expected_s, 100) if expected_s else 0
        speed = block.get("speed", "").strip()
        of = f" of {expected_s:.1f}" if expected_s else ""
        job.progress(
            percentage, "transcoding", f"{done_s:.1f}{of} s{f' at {speed}' if speed not in ('', 'N/A') else ''}"
        )

    result = job.output("result.mp4")
    log = run_ffmpeg(
        [*_input(job, options, moving), *_output(job, options, moving), f"file:{result}"],
        limits=job.limits,
        folder=job.folder,
        on_progress=on_progress,
    )
    if log.strip():
        notes.append(f"ffmpeg reported faults of the file, and parts of it may be damaged: {said(log)}")
    job.progress(100, "checking")
    if seen["frames"] < 1:
        raise DamagedMediaError("no frame of the video could be read")
    if expected_s is not None and _ends_early(seen["duration_s"], expected_s):
        # Subtitles, for example, may outlast pictures and sound; ffmpeg complains of a file that was cut off.
        whole = not log.strip() and len(original["streams"]) > 1
        if not whole and not options.tolerate_damage:
            raise _cut_off(seen["duration_s"], expected_s)
        notes.append(f"its header says {expected_s:.1f} s, but pictures and sound end after {seen['duration_s']:.1f} s")
    return _facts(job, original, notes)


def _expected_s(duration_s: float | None, options: TranscodeOptions) -> float | None:
    if duration_s is None:
        return None
    if options.start >= duration_s:
        raise BadOptionError(f"start is {options.start:g} s, but the video ends at {duration_s:g} s")
    left_s = duration_s - options.start
    return left_s if options.max_duration is None else min(left_s, options.max_duration)


def _input(job: FileJob, options: TranscodeOptions, moving: Mapping[str, Any]) -> list[str]:
    start = ["-ss", str(options.start)] if options.start else []
    share = 1 if options.tolerate_damage else _BROKEN_SHARE
    return [
        *start,
        "-threads",
        str(job.limits.threads),
        "-max_error_rate",
        str(share),
        *decoder_of(moving),
        *input_arguments(job.source, job.limits),
    ]


def _output(job: FileJob, options: TranscodeOptions, moving: Mapping[str, Any]) -> list[str]:
    # 4:2:0 needs even edges, and many players cannot show any other pixel format or range.
    filters = [*shown_filters(moving, fps=options.fps), *to_video(moving, options.height)]
    sound = ["-map", "0:a:0?", "-c:a", "aac", "-b:a", f"{options.audio_bitrate_kbps}k", "-ac", "2"]
    # Frames at irregular times need a fine clock: on a coarse one, some would fall together and be lost.
    clock = ["-enc_time_base:v", "1:90000"] if moving["variable_fps"] and options.fps is None else []
    return [
        "-map", "0:V:0", *(sound if options.audio else ["-an"]), "-sn", "-dn", "-map_metadata", "-1",
        "-map_chapters", "-1",
        *(["-t", str(options.max_duration)] if options.max_duration is not None else []),
        "-vf", ",".join(filters), "-fps_mode", "vfr", *clock,
        "-c:v", "libx264", "-preset", options.preset, "-crf", str(options.crf),
        "-threads", str(job.limits.threads), "-max_muxing_queue_size", "2048",
        "-movflags", "+faststart", "-f", "mp4", "-y",
    ]  # fmt: skip


def _ends_early(duration_s: float, expected_s: float) -> bool:
    missing_s = expected_s - duration_s
    return missing_s > max(_SHORTER_S, _SHORTER_SHARE * expected_s) or duration_s < expected_s / 2


def _cut_off(duration_s: float, expected_s: float) -> DamagedMediaError:
    return DamagedMediaError(
        f"the file is truncated or damaged: its header says {expected_s:.1f} s, but only {duration_s:.1f} s could"
        " be read (to keep that part, set the option tolerate_damage)"
    )


def _facts(job: FileJob, original: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    result = job.folder / "result.mp4"
    try:
        made = media_facts(job, result)
    except UnsupportedMediaError as exc:
        raise DamagedMediaError(f"the result cannot be played: {exc}") from exc
    video = video_of(made)
    return {
        "duration_s": made["duration_s"],
        "width": video["width"],
        "height": video["height"],
        "fps": video["fps"],
        "size_bytes": made["size_bytes"],
        "audio": any(stream["kind"] == "audio" for stream in made["streams"]),
        "notes": notes,
        "original": {name: original[name] for name in ("format", "duration_s", "size_bytes")},
    }


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # N/A
        return 0.0
