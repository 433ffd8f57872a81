"""Facts from what ffmpeg logs and from what ffprobe writes: the same file, the same facts."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from celeriac_tasks.files.ffmpeg_errors import error_of
from celeriac_tasks.files.media import facts_of_ffprobe, facts_of_log

LOG = """\
Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/x/original.mp4':
  Metadata:
    major_brand     : isom
  Duration: 01:02:03.50, start: 0.000000, bitrate: 1205 kb/s
  Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709, progressive), 1920x1080 [SAR 1:1 DAR 16:9], 1100 kb/s, 29.97 fps, 29.97 tbr, 30k tbn (default)
      Metadata:
        handler_name    : VideoHandler
      Side data:
        displaymatrix: rotation of -90.00 degrees
  Stream #0:1[0x2](deu): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, 5.1(side), fltp, 96 kb/s (default)
  Stream #0:2: Video: png, rgb24(pc), 600x600, 90k tbr, 90k tbn (attached pic)
  Stream #0:3(eng): Subtitle: mov_text (tx3g / 0x67337874), 0 kb/s
At least one output file must be specified
"""  # noqa: E501

PROBED: dict[str, Any] = {
    "format": {"format_name": "mov,mp4,m4a,3gp,3g2,mj2", "duration": "3723.500000", "bit_rate": "1205000"},
    "streams": [
        {
            "index": 0, "codec_type": "video", "codec_name": "h264", "width": 1920, "height": 1080,
            "pix_fmt": "yuv420p", "avg_frame_rate": "2997/100", "r_frame_rate": "30000/1001",
            "sample_aspect_ratio": "1:1", "field_order": "progressive", "color_range": "tv", "color_space": "bt709",
            "color_primaries": "bt709", "color_transfer": "bt709", "bit_rate": "1100000", "tags": {"language": "und"},
            "side_data_list": [{"side_data_type": "Display Matrix", "rotation": -90}],
            "disposition": {"attached_pic": 0},
        },
        {
            "index": 1, "codec_type": "audio", "codec_name": "aac", "sample_rate": "48000", "channels": 6,
            "bit_rate": "96000", "tags": {"language": "deu"},
        },
        {
            "index": 2, "codec_type": "video", "codec_name": "png", "width": 600, "height": 600, "pix_fmt": "rgb24",
            "color_range": "pc",
            "avg_frame_rate": "0/0", "disposition": {"attached_pic": 1},
        },
        {"index": 3, "codec_type": "subtitle", "codec_name": "mov_text", "bit_rate": "0", "tags": {"language": "eng"}},
    ],
}  # fmt: skip


def test_facts_of_a_log() -> None:
    facts = facts_of_log(LOG)
    assert facts["duration_s"] == 3723.5
    assert facts["bitrate_bps"] == 1_205_000
    video, audio, cover, subtitle = facts["streams"]
    assert video == {
        "index": 0, "kind": "video", "codec": "h264", "width": 1920, "height": 1080, "fps": 29.97,
        "pixel_format": "yuv420p", "rotation": -90, "cover": False, "bitrate_bps": 1_100_000, "language": None,
        "sample_aspect_ratio": "1:1", "interlaced": False, "variable_fps": False, "alpha": False, "color_range": "tv",
        "color_space": "bt709", "color_primaries": "bt709", "color_transfer": "bt709",
    }  # fmt: skip
    assert (audio["channels"], audio["sample_rate_hz"], audio["language"]) == (6, 48_000, "deu")
    assert (cover["cover"], cover["width"], cover["fps"]) == (True, 600, None)
    assert subtitle["kind"] == "subtitle"


def test_ffprobe_says_the_same() -> None:
    assert facts_of_ffprobe(PROBED) == facts_of_log(LOG)


def test_what_a_file_does_not_say_is_none() -> None:
    facts = facts_of_log("Input #0, mp3, from 'x':\n  Duration: N/A, bitrate: N/A\n  Stream #0:0: Audio: mp3, mono\n")
    assert (facts["duration_s"], facts["bitrate_bps"]) == (None, None)
    assert facts["streams"][0]["sample_rate_hz"] is None
    assert facts_of_ffprobe({}) == {"format": "", "duration_s": None, "bitrate_bps": None, "streams": []}


@pytest.mark.parametrize(
    ("returncode", "log", "code"),
    [
        (1, "[mov @ 0x1] moov atom not found\n", "damaged_media"),
        (1, "[vost#0:0 @ 0x1] Unknown encoder 'libx264'\n", "processor_unavailable"),
        (1, "[vist#0:0/none @ 0x1] Decoder not found\n", "unsupported_media"),
        (1, "[out#0/mp4 @ 0x1] Error writing trailer: No space left on device\n", "disk_full"),
        (1, "[libx264 @ 0x1] malloc of size 99 failed\n", "out_of_memory"),
        (255, "", "timeout"),
        (-signal.SIGXFSZ, "", "too_large"),
        (-signal.SIGSEGV, "", "processor_crashed"),
        (-signal.SIGKILL, "", "out_of_memory"),
    ],
)
def test_what_a_failed_ffmpeg_means(returncode: int, log: str, code: str) -> None:
    assert error_of(returncode, log).code == code
