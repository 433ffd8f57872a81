"""The built-in file processors on good files: what they make, and what they say of it."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard
from PIL import Image

from celeriac.errors import TaskError
from tests.kit.command_line import REPOSITORY
from tests.kit.files.file_runs import FileRun
from tests.kit.files.media_files import ffmpeg, picture, tone, video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a task."""
    own = tmp_path / "videos" / "task-1"
    own.mkdir(parents=True)
    return own


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    return zstandard.ZstdDecompressor().decompress(content) if path.suffix == ".zst" else gzip.decompress(content)


def red_left_of_blue(path: Path) -> bool:
    with Image.open(path) as made:
        rgb = made.convert("RGB")
        left = rgb.getpixel((rgb.width // 4, rgb.height // 2))
        right = rgb.getpixel((3 * rgb.width // 4, rgb.height // 2))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    return bool(left[0] > 200 > left[2] and right[2] > 200 > right[0])


async def test_a_video_becomes_a_playable_mp4_with_thumbnail_and_facts(folder: Path) -> None:
    run = FileRun(video(folder / "original.mkv", size="322x181", codec="ffv1"))
    result = await run("video")
    assert names(folder) == ["original.mkv", "result.mp4", "thumbnail.jpg"]
    assert result["result_file_path"] == str(folder / "result.mp4") == run.context.result_file_path
    assert result["files"]["result.mp4"] == {
        "path": str(folder / "result.mp4"),
        "size": (folder / "result.mp4").stat().st_size,
        "media_type": "video/mp4",
    }
    facts = result["facts"]
    assert facts["probe"]["duration_s"] == pytest.approx(3, abs=0.2)
    [moving] = [stream for stream in facts["probe"]["streams"] if stream["kind"] == "video"]
    assert (moving["codec"], moving["pixel_format"], moving["width"], moving["height"]) == (
        "h264", "yuv420p", 322, 180,
    )  # fmt: skip
    assert [stream["codec"] for stream in facts["probe"]["streams"] if stream["kind"] == "audio"] == ["aac"]
    assert facts["transcode"]["original"]["format"] == "matroska,webm"
    content = (folder / "result.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "it plays while it is loaded"
    with Image.open(folder / "thumbnail.jpg") as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (320, 178))
    decoded = subprocess.run([ffmpeg(), "-v", "error", "-i", str(folder / "result.mp4"), "-f", "null", "-"], check=True)
    assert decoded.returncode == 0


async def test_progress_is_live_and_rises(folder: Path) -> None:
    run = FileRun(video(folder / "original.mp4", seconds=20, size="640x360"), threads=1)
    await run("video", {"transcode": {"preset": "medium"}})
    percentages = [percentage for percentage, _, _ in run.reports.all]
    assert percentages == sorted(percentages)
    assert len({percentage for percentage, stage, _ in run.reports.all if stage == "transcoding"}) >= 2, run.reports.all
    assert {stage for _, stage, _ in run.reports.all} >= {"probing", "transcoding", "drawing"}


async def test_options_of_a_transcoding(folder: Path) -> None:
    run = FileRun(video(folder / "original.mp4", seconds=3))
    options = {"height": 90, "start": "1s", "max_duration": 1, "audio": False, "fps": 10, "preset": "ultrafast"}
    facts = (await run("transcode", options))["facts"]
    assert (facts["width"], facts["height"], facts["audio"], facts["fps"]) == (160, 90, False, 10.0)
    assert facts["duration_s"] == pytest.approx(1, abs=0.15)


async def test_what_can_be_read_of_a_truncated_video_is_kept_on_request(folder: Path) -> None:
    original = video(folder / "original.mkv", seconds=4)
    os.truncate(original, original.stat().st_size // 2)
    facts = (await FileRun(original)("transcode", {"tolerate_damage": True}))["facts"]
    assert 0.5 < facts["duration_s"] < 3.5


@pytest.mark.parametrize(
    ("options", "size", "format_"),
    [
        ({}, (320, 180), "JPEG"),
        ({"width": 64, "format": "png", "at": "2.5s"}, (64, 36), "PNG"),
        ({"width": 4000, "format": "webp", "percent": 100}, (320, 180), "WEBP"),
    ],
)
async def test_a_thumbnail(folder: Path, options: dict[str, Any], size: tuple[int, int], format_: str) -> None:
    result = await FileRun(video(folder / "original.mp4"))("thumbnail", options)
    with Image.open(result["result_file_path"]) as made:
        assert (made.size, made.format) == (size, format_)


async def test_a_thumbnail_beyond_the_end_is_a_bad_option(folder: Path) -> None:
    with pytest.raises(TaskError) as caught:
        await FileRun(video(folder / "original.mp4", seconds=1))("thumbnail", {"at": 9})
    assert caught.value.code == "bad_option"
    assert names(folder) == ["original.mp4"]


async def test_facts_of_sound_and_of_pictures(folder: Path) -> None:
    sound = (await FileRun(tone(folder / "original.flac"))("probe"))["facts"]
    assert sound["format"] == "flac"
    assert sound["duration_s"] == pytest.approx(2, abs=0.1)
    assert [(one["kind"], one["codec"], one["channels"]) for one in sound["streams"]] == [("audio", "flac", 1)]
    seen = (await FileRun(picture(folder / "original.png"))("probe"))["facts"]
    assert (seen["format"], seen["width"], seen["height"], seen["frames"]) == ("png", 200, 100, 1)


async def test_facts_without_a_file_of_their_own_are_the_result_file(folder: Path) -> None:
    run = FileRun(picture(folder / "original.png"))
    result = await run("probe")
    assert run.context.result_file_path == str(folder / "result.json")
    assert json.loads((folder / "result.json").read_text()) == result["facts"]


@pytest.mark.parametrize(
    ("options", "size", "name"),
    [
        ({}, (200, 100), "result.png"),
        ({"width": 50}, (50, 25), "result.png"),
        ({"height": 400}, (200, 100), "result.png"),
        ({"width": 60, "height": 60, "fit": "exact", "format": "webp"}, (60, 60), "result.webp"),
        ({"width": 50, "height": 25, "fit": "cover", "format": "jpeg", "quality": 95}, (50, 25), "result.jpg"),
    ],
)
async def test_a_picture_is_resized_and_converted(
    folder: Path, options: dict[str, Any], size: tuple[int, int], name: str
) -> None:
    result = await FileRun(picture(folder / "original.png"))("image", options)
    assert list(result["files"]) == [name]
    with Image.open(folder / name) as made:
        assert made.size == size
    assert red_left_of_blue(folder / name)


@pytest.mark.parametrize("strip", [True, False])
async def test_a_picture_is_turned_upright_and_loses_its_place(folder: Path, strip: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "maker of the camera"
    with Image.open(picture(folder / "plain.png")) as plain:
        plain.rotate(90, expand=True).save(folder / "original.jpg", exif=exif, quality=95)
    (folder / "plain.png").unlink()
    await FileRun(folder / "original.jpg")("image", {"strip_metadata": strip})
    with Image.open(folder / "result.jpg") as made:
        assert made.size == (200, 100)
        assert 0x0112 not in made.getexif()
        assert (0x010F in made.getexif()) is not strip
    assert red_left_of_blue(folder / "result.jpg")


async def test_transparency_becomes_white_in_a_jpeg(folder: Path) -> None:
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(folder / "original.png")
    await FileRun(folder / "original.png")("image", {"format": "jpeg"})
    with Image.open(folder / "result.jpg") as made:
        assert made.getpixel((5, 5)) == (255, 255, 255)


async def test_checksums(folder: Path) -> None:
    (folder / "original.bin").write_bytes(b"celeriac" * 300_000)
    algorithms = ["sha256", "sha512", "sha1", "md5", "blake2b"]
    facts = (await FileRun(folder / "original.bin")("checksum", {"algorithms": algorithms}))["facts"]
    content = (folder / "original.bin").read_bytes()
    assert facts == {"size_bytes": 2_400_000, **{name: hashlib.new(name, content).hexdigest() for name in algorithms}}


@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
async def test_a_compressed_file_holds_the_original(folder: Path, algorithm: str) -> None:
    original = folder / "original.csv"
    original.write_bytes(b"".join(b"%d;%d\n" % (n, n * n) for n in range(200_000)))
    result = await FileRun(original)("compress", {"algorithm": algorithm})
    compressed = Path(result["result_file_path"])
    assert compressed.name == ("result.csv.zst" if algorithm == "zstd" else "result.csv.gz")
    assert decompressed(compressed) == original.read_bytes()
    assert result["facts"]["ratio"] > 2


async def test_a_file_that_the_payload_names_stays_and_its_results_go_to_the_folder_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = picture(tmp_path / "in" / "-café %d.png")
    files = {"storage_path": str(tmp_path / "storage"), "allowed_roots": [str(tmp_path / "in")]}
    run = FileRun(task_id="../../escape", files=files)
    result = await run("image", path=str(source))
    made = Path(result["result_file_path"])
    assert made.parent.parent == tmp_path / "storage" / "videos"
    assert names(tmp_path / "in") == [source.name]


async def test_a_file_whose_name_is_not_utf8_can_be_processed(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\xfe-%d:\n"
    os.mkdir(odd)
    original = Path(os.fsdecode(odd)) / "original.mp4"
    video(tmp_path / "plain.mp4", seconds=1).rename(original)
    assert (await FileRun(original)("thumbnail"))["facts"]["width"] == 320


@pytest.mark.parametrize("how", ["outside", "relative", "dots", "link", "none"])
async def test_a_path_outside_of_the_roots_is_refused(tmp_path: Path, how: str) -> None:
    root = tmp_path / "in"
    root.mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (root / "link").symlink_to(secret)
    paths = {"outside": str(secret), "relative": "secret.txt", "dots": f"{root}/../secret.txt", "link": f"{root}/link"}
    run = FileRun(files={"storage_path": str(tmp_path / "storage"), "allowed_roots": [str(root)]})
    payload: dict[str, Any] = {"path": paths[how]} if how in paths else {}
    with pytest.raises(TaskError) as caught:
        await run("checksum", **payload)
    assert caught.value.code == "invalid_input"
    assert not (tmp_path / "storage").exists()


async def test_the_example_processor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples" / "files"))
    importlib.import_module("words")
    (folder / "original.txt").write_text("a line of words\nand another\n")
    result = await FileRun(folder / "original.txt")("words", {"least_length": 2})
    assert result["facts"] == {"words": 5, "lines": 2}
    assert (folder / "result.txt").read_text() == "A LINE OF WORDS\nAND ANOTHER\n"
