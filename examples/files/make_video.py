"""Make a small real video for trying things out: moving test bars and a tone.

    python examples/files/make_video.py /tmp/holiday.mkv --seconds 10

Uses the ffmpeg that comes with Celeriac.
"""

from __future__ import annotations

import argparse
import subprocess

import imageio_ffmpeg


def main() -> None:
    """Write the video that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make a small video of moving test bars, with a tone.")
    parser.add_argument("path")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", default="640x360")
    options = parser.parse_args()
    bars = ["-f", "lavfi", "-i", f"testsrc2=size={options.size}:rate=25"]
    tone = ["-f", "lavfi", "-i", "sine=frequency=440"]
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *bars, *tone, "-t", str(options.seconds),
            "-c:v", "mpeg4", "-q:v", "4", options.path,
        ],
        check=True,
    )  # fmt: skip
    print(options.path)


if __name__ == "__main__":
    main()
