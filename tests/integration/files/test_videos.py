"""Videos of every shape, turn, colour space, rate and sound: the result is shown as the original, or says why not.

Each runs on the ffmpeg that comes with the installation, without ffprobe, and on the system's.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from celeriac.errors import TaskError
from celeriac.tasks.types.file_options import ThumbnailOptions, TranscodeOptions
from celeriac.tasks.types.processors import NoOptions
from celeriac_tasks.files.processors.probe import probe
from celeriac_tasks.files.processors.thumbnail import thumbnail
from celeriac_tasks.files.processors.transcode import transcode
from tests.kit.files.file_runs import FileRun, job_of
from tests.kit.files.media_files import ffmpeg, make, video
from tests.kit.files.video_files import (
    BARS,
    RATES,
    SOUNDS,
    SPECIAL,
    TURNS,
    VIDEOS,
    difference,
    frame,
    frame_times,
    sound_begins_s,
    video_file,
)

MIB = 1024**2
SYSTEM = shutil.which("ffmpeg")
#: Videos that are made once are looked at once.
frame_of_made = cache(frame)


@pytest.fixture(params=["bundled", *(["system"] if SYSTEM is not None else [])])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ffmpeg that a processor runs."""
    if request.param == "system":
        assert SYSTEM is not None
        return SYSTEM
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    return ffmpeg()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos that are made once."""
    return tmp_path_factory.mktemp("videos")


class Run:
    """Runs processors on one file, in this process."""

    def __init__(self, source: Path, folder: Path, program: str) -> None:
        self.job, self.program = job_of(source, folder, ffmpeg=program), program
        self.result = folder / "result.mp4"

    def transcode(self, **options: Any) -> dict[str, Any]:
        return transcode(self.job, TranscodeOptions(preset="ultrafast", crf=8, **options))

    def thumbnail(self, **options: Any) -> tuple[Image.Image, dict[str, Any]]:
        facts = thumbnail(self.job, ThumbnailOptions(**{"width": 2000, "at": 0.2, **options}))
        with Image.open(self.job.folder / f"thumbnail.{options.get('format', 'jpg')}") as picture:
            return picture.convert("RGB"), facts

    def made(self) -> dict[str, Any]:
        """Return the facts of the result's video."""
        of_result = job_of(self.result, self.job.folder, ffmpeg=self.program)
        streams: list[dict[str, Any]] = probe(of_result, NoOptions())["streams"]
        return streams[0]


#: name → words of the notes; none of the others says anything.
NOTES = {
    "wide pixels.mp4": ["square"],
    "narrow pixels.mp4": ["square"],
    "wide pixels.mpg": ["square"],
    "motion jpeg.avi": ["yuvj444p"],
    "rgb.mkv": ["yuv420p"],
    "rgb.mp4": ["gbrp"],
    "grey.mkv": ["gray"],
    "deep grey.mkv": ["gray10le"],
    "half colours.mkv": ["yuv422p"],
    "all colours, 10 bits.mp4": ["yuv444p10le"],
    "10 bits.mp4": ["yuv420p10le"],
    "16 bits.mkv": ["yuv420p"],
    "interlaced.mpg": ["deinterlaced"],
    "interlaced.mp4": ["deinterlaced"],
    "odd.mkv": ["yuv444p", "97x63"],
    "tiny.mkv": ["yuv444p", "1x1"],
    "animation.gif": ["became black", "bgra"],
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_shown_as_before(made: Path, tmp_path: Path, program: str, name: str) -> None:
    source = video_file(made, name, VIDEOS[name])
    run = Run(source, tmp_path, program)
    facts = run.transcode()
    shown = frame_of_made(source)
    assert difference(frame(run.result), shown) <= 10
    result = run.made()
    assert (result["sample_aspect_ratio"], result["rotation"], result["pixel_format"]) == ("1:1", 0, "yuv420p")
    assert not result["interlaced"]
    assert (result["width"], result["height"]) == (facts["width"], facts["height"])
    for is_, was in zip((facts["width"], facts["height"]), shown.size, strict=True):
        assert is_ == max(2, was // 2 * 2) or is_ == was + was % 2
    notes = NOTES.get(name, [])
    assert len(facts["notes"]) == len(notes), facts["notes"]
    assert all(word in note for word, note in zip(notes, facts["notes"], strict=True))


@pytest.mark.parametrize("format_", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "wide pixels.mp4",
        "narrow pixels.mp4",
        "full range.mp4",
        "rgb.mkv",
        "grey.mkv",
        "bt2020.mp4",
        "10 bits.mp4",
        "interlaced.mp4",
        "odd.mkv",
    ],
)
def test_a_thumbnail_is_shown_as_its_frame(made: Path, tmp_path: Path, program: str, name: str, format_: str) -> None:
    source = video_file(made, name, VIDEOS[name])
    picture, facts = Run(source, tmp_path, program).thumbnail(format=format_)
    shown = frame_of_made(source)
    assert difference(picture, shown) <= 14
    assert picture.size == (facts["width"], facts["height"])
    assert abs(picture.width / picture.height / (shown.width / shown.height) - 1) < 0.04
    small, _ = Run(source, tmp_path, program).thumbnail(format=format_, width=40)
    assert small.width == 40
    assert abs(small.width / small.height / (shown.width / shown.height) - 1) < 0.08


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", ["plain.mp4", "wide pixels.mp4"])
def test_a_turned_video_is_upright(made: Path, tmp_path: Path, program: str, name: str, turn: str) -> None:
    plain = video_file(made, name, VIDEOS[name])
    source = video_file(made, f"{turn} {name}", (*TURNS[turn], "-i", str(plain), "-c", "copy"))
    run = Run(source, tmp_path, program)
    run.transcode()
    shown = frame_of_made(source)
    result = frame(run.result)
    assert difference(result, shown) <= 14
    assert run.made()["rotation"] == 0
    assert abs(result.width - shown.width) <= 2
    assert abs(result.height - shown.height) <= 2
    picture, _ = run.thumbnail()
    assert difference(picture, shown) <= 20
    assert abs(picture.width / picture.height / (result.width / result.height) - 1) < 0.05


@pytest.mark.parametrize("name", SPECIAL)
def test_transparency_and_high_dynamic_range(made: Path, tmp_path: Path, program: str, name: str) -> None:
    run = Run(video_file(made, name, SPECIAL[name]), tmp_path, program)
    facts = run.transcode()
    picture, drawn = run.thumbnail(format="png")
    assert difference(frame(run.result), picture) <= 12
    assert ("black" if name.startswith("alpha") else "dynamic range") in facts["notes"][0]
    assert facts["notes"][0] in drawn["notes"]
    bars = frame_of_made(video_file(made, "plain.mp4", VIDEOS["plain.mp4"]))
    if name.startswith("alpha"):
        assert difference(picture, bars.point([value // 2 for value in range(256)] * 3)) <= 8
    else:
        tags = run.made()
        assert (tags["color_space"], tags["color_transfer"], tags["color_primaries"]) == ("bt709",) * 3


@pytest.mark.parametrize("height", [None, 360])
def test_tags_and_pixels_agree_where_players_guess(tmp_path: Path, program: str, height: int | None) -> None:
    source = make(
        tmp_path / "hd.mkv",
        "-f",
        "lavfi",
        "-i",
        "smptebars=size=1280x720:rate=5",
        "-t",
        "0.4",
        "-vf",
        "scale=out_color_matrix=bt709,format=yuv420p,setparams=colorspace=unknown",
        "-c:v",
        "ffv1",
    )
    run = Run(source, tmp_path, program)
    run.transcode(height=height)
    # A small video without a word on its colours would be taken for standard definition.
    assert run.made()["color_space"] in ((None, "bt470bg") if height is None else ("bt709",))


@pytest.mark.parametrize("name", RATES)
def test_the_frame_rate_is_kept(made: Path, tmp_path: Path, program: str, name: str) -> None:
    rate, arguments = RATES[name]
    source = video_file(made, name, arguments)
    run = Run(source, tmp_path, program)
    assert run.transcode()["fps"] == pytest.approx(rate, abs=0.02)
    assert len(frame_times(run.result)) == 24


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_frame_rate_is_kept(tmp_path: Path, program: str, suffix: str) -> None:
    moments = "lt(t,0.3)*not(mod(n,24))+between(t,0.3,0.5)*not(mod(n,5))+gt(t,0.5)*not(mod(n,17))"
    source = make(
        tmp_path / f"variable.{suffix}",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48:rate=240",
        "-t",
        "0.8",
        "-vf",
        f"select='{moments}'",
        "-fps_mode",
        "passthrough",
        "-enc_time_base:v",
        "1:240",
        *("-c:v", "libx264"),
    )
    run = Run(source, tmp_path, program)
    run.transcode()
    was, is_ = frame_times(source), frame_times(run.result)
    assert len(is_) == len(was)
    assert max(abs((a - is_[0]) - (b - was[0])) for a, b in zip(is_, was, strict=True)) < 0.006


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_kept(made: Path, tmp_path: Path, program: str, name: str) -> None:
    arguments, note = SOUNDS[name]
    facts = Run(video_file(made, f"{name}.mkv", arguments), tmp_path, program).transcode()
    assert facts["audio"]
    assert (note in " ".join(facts["notes"])) if note else facts["notes"] == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_that_begins_later_stays_later(tmp_path: Path, program: str, suffix: str) -> None:
    source = make(
        tmp_path / f"late.{suffix}",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48:rate=25:d=1",
        "-itsoffset",
        "0.5",
        "-f",
        "lavfi",
        "-i",
        "sine=d=0.5",
        "-c:v",
        "mpeg4" if suffix != "ts" else "mpeg2video",
    )
    run = Run(source, tmp_path, program)
    run.transcode()
    assert sound_begins_s(run.result) == pytest.approx(0.5, abs=0.1)
    assert len(frame_times(run.result)) == 25


@pytest.mark.parametrize(("end", "more"), [("00,300", 0), ("09,000", 1)])
def test_what_is_left_out_is_said(tmp_path: Path, program: str, end: str, more: int) -> None:
    words = tmp_path / "words.srt"
    words.write_text(f"1\n00:00:00,000 --> 00:00:{end}\nhello\n")
    cover = tmp_path / "cover.png"
    Image.new("RGB", (64, 64), "red").save(cover)
    source = make(
        tmp_path / "many.mp4",
        *BARS,
        "-f",
        "lavfi",
        "-i",
        "sine=d=0.4",
        "-i",
        str(cover),
        "-i",
        str(words),
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "1",
        "-map",
        "2",
        "-map",
        "3",
        "-c:v:0",
        "mpeg4",
        "-c:v:1",
        "copy",
        "-c:s",
        "mov_text",
        "-disposition:v:1",
        "attached_pic",
    )
    run = Run(source, tmp_path, program)
    facts = run.transcode()
    assert facts["notes"][0] == "left out: 1 other sound track, 1 cover picture, 1 subtitle track"
    # Not every ffmpeg counts subtitles as part of the duration.
    assert len(facts["notes"]) <= 1 + more
    assert all("header" in note for note in facts["notes"][1:])
    assert difference(frame(run.result), frame(source)) <= 10


def test_faults_in_the_middle_are_refused_or_said(tmp_path: Path, program: str) -> None:
    source = video(tmp_path / "original.mkv", seconds=4, sound=False)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(value * 7 % 251 for value in range(600))
    source.write_bytes(bytes(content))
    try:
        notes = Run(source, tmp_path, program).transcode()["notes"]
    except TaskError as exc:
        assert exc.code == "damaged_media"
    else:
        assert "faults" in " ".join(notes)


def test_pixels_that_would_fill_no_screen_are_refused(tmp_path: Path, program: str) -> None:
    source = make(
        tmp_path / "original.mp4", "-f", "lavfi", "-i", "color=size=1024x64:rate=25:duration=0.2", "-vf", "setsar=50",
        "-c:v", "mpeg4",
    )  # fmt: skip
    with pytest.raises(TaskError) as caught:
        Run(source, tmp_path, program).transcode()
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("memory", [128, 160, 224])
async def test_too_little_memory_is_never_taken_for_damage(tmp_path: Path, program: str, memory: int) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    source = video(folder / "original.mp4", seconds=1, size="3840x2160")
    for processor in ("transcode", "thumbnail"):
        try:
            await FileRun(source, memory=memory * MIB, ffmpeg=program)(processor)
        except TaskError as exc:
            assert exc.code == "out_of_memory", exc.message
            assert "files.processing.memory" in exc.message
        else:
            assert processor == "thumbnail", "it needs much less"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("kill -9 $$", "out_of_memory"),
        ("kill -SEGV $$", "processor_crashed"),
        ("kill -ABRT $$", "processor_crashed"),
        ("kill -BUS $$", "processor_crashed"),
        ("kill -40 $$", "processor_crashed"),
        ("exit 1", "processor_crashed"),
        ("exit 234", "processor_crashed"),
        ("exit 244", "out_of_memory"),
        ("exit 183", "damaged_media"),
        ("echo 'terminate called after throwing std::bad_alloc' >&2; kill -ABRT $$", "out_of_memory"),
        ("echo '[mpeg4 @ 0x1] Invalid data found when processing input' >&2; exit 1", "damaged_media"),
        ("echo '[libx264 @ 0x1] something new' >&2; exit 1", "processor_crashed"),
        (
            "echo 'ffmpeg: error while loading shared libraries: libx.so: cannot open it' >&2; exit 127",
            "processor_unavailable",
        ),
    ],
)
@pytest.mark.parametrize("locale", ["C", "de_DE.UTF-8"])
def test_each_end_of_ffmpeg_has_its_own_code(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, code: str, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    source = video_file(made, "plain.mp4", VIDEOS["plain.mp4"])
    # This ffmpeg answers what a file is, and ends like that when it should make one.
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *progress*) {ending};; *) exec {ffmpeg()} "$@";; esac\n')
    os.chmod(wrapper, 0o700)
    with pytest.raises(TaskError) as caught:
        Run(source, tmp_path, str(wrapper)).transcode()
    assert caught.value.code == code, caught.value.message
    assert not caught.value.message.rstrip().endswith(":"), "a reason is never empty"


def test_an_ffmpeg_that_knows_an_older_option_works(made: Path, tmp_path: Path) -> None:
    source = video_file(made, "plain.mp4", VIDEOS["plain.mp4"])
    wrapper = tmp_path / "ffmpeg"
    script = f"""#!{sys.executable}
import os, sys
if "-fps_mode" in sys.argv:
    sys.exit("Unrecognized option 'fps_mode'.")
os.execv({ffmpeg()!r}, [{ffmpeg()!r}, *("-fps_mode" if one == "-vsync" else one for one in sys.argv[1:])])
"""
    wrapper.write_text(script)
    os.chmod(wrapper, 0o700)
    assert Run(source, tmp_path, str(wrapper)).transcode()["notes"] == []
