"""Media files for tests, good and bad, made when they are needed: nothing binary is committed."""

from __future__ import annotations

import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imageio_ffmpeg
from PIL import Image

from tests.kit.servers import free_port


@cache
def ffmpeg() -> str:
    """Return the ffmpeg that makes test files (the one that comes with the installation)."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def make(path: Path, *arguments: str) -> Path:
    """Make a file with ffmpeg."""
    subprocess.run([ffmpeg(), "-v", "error", "-y", *arguments, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


def video(path: Path, *, seconds: float = 3, size: str = "320x180", sound: bool = True, codec: str = "mpeg4") -> Path:
    """Make a small video of moving test bars, with a tone."""
    tone = ["-f", "lavfi", "-i", "sine=frequency=440"] if sound else []
    return make(
        path, "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25", *tone, "-t", str(seconds), "-c:v", codec,
        "-shortest",
    )  # fmt: skip


def tone(path: Path, *, seconds: float = 2) -> Path:
    """Make a file that holds sound alone."""
    return make(path, "-f", "lavfi", "-i", "sine=frequency=440", "-t", str(seconds))


def picture(path: Path, *, size: tuple[int, int] = (200, 100)) -> Path:
    """Make a picture with a red left half and a blue right half."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    image.save(path)
    return path


def cut(path: Path, share: float) -> Path:
    """Cut a file off at `share` of its length."""
    os.truncate(path, int(path.stat().st_size * share))
    return path


# --- files that nobody should be hurt by; each maker gets an empty folder and returns the original

Maker = Callable[[Path], Path]


def _bytes(content: bytes, name: str = "original.mp4") -> Maker:
    def made(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return made


def _faststart(folder: Path) -> Path:
    return make(
        folder / "original.mp4", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-t", "4", "-c:v", "mpeg4",
        "-movflags", "+faststart",
    )  # fmt: skip


def truncated_data(folder: Path) -> Path:
    """An MP4 whose index is whole and whose second half is missing."""
    return cut(_faststart(folder), 0.5)


def truncated_index(folder: Path) -> Path:
    """An MP4 that was cut off before its index (moov), which stands at the end."""
    return cut(video(folder / "original.mp4"), 0.6)


def truncated_matroska(folder: Path) -> Path:
    """A Matroska file that lost its end."""
    return cut(video(folder / "original.mkv", seconds=4), 0.4)


def broken_data(folder: Path) -> Path:
    """An MP4 with a good index whose data are noise."""
    path = _faststart(folder)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 8
    content[begin:] = bytes((i * 73 + 41) % 251 for i in range(len(content) - begin))
    path.write_bytes(bytes(content))
    return path


def header_only(folder: Path) -> Path:
    """The first 32 bytes of an MP4."""
    path = video(folder / "original.mp4", seconds=1)
    os.truncate(path, 32)
    return path


def empty(folder: Path) -> Path:
    """No byte at all."""
    return _bytes(b"")(folder)


def a_symlink(folder: Path) -> Path:
    """A link to a file that belongs to somebody else."""
    path = folder / "original.mp4"
    path.symlink_to("/etc/passwd")
    return path


def a_folder(folder: Path) -> Path:
    """A folder with the name of a video."""
    path = folder / "original.mp4"
    path.mkdir()
    return path


def a_fifo(folder: Path) -> Path:
    """A pipe that nobody writes to: opening it would wait for ever."""
    path = folder / "original.mp4"
    os.mkfifo(path)
    return path


def missing(folder: Path) -> Path:
    """A name without a file."""
    return folder / "original.mp4"


def only_sound(folder: Path) -> Path:
    """Sound in a container that usually holds video."""
    return make(folder / "original.mp4", "-f", "lavfi", "-i", "sine", "-t", "1", "-c:a", "aac")


def sound_with_cover(folder: Path) -> Path:
    """Sound with a picture of its sleeve, which ffmpeg takes for a video of one frame."""
    cover = picture(folder / "cover.png", size=(64, 64))
    path = make(
        folder / "original.mp3", "-f", "lavfi", "-i", "sine", "-i", str(cover), "-map", "0:a", "-map", "1:v", "-t", "1",
        "-c:v", "copy", "-disposition:v:0", "attached_pic",
    )  # fmt: skip
    cover.unlink()
    return path


def huge_frames(folder: Path) -> Path:
    """A small file with frames of 1,600 x 1,600 pixels."""
    return make(
        folder / "original.mkv", "-f", "lavfi", "-i", "color=size=1600x1600:rate=1", "-c:v", "mjpeg", "-strict", "-1",
        "-frames:v", "1",
    )  # fmt: skip


def long_video(folder: Path) -> Path:
    """A small file that lasts for two days."""
    return make(folder / "original.mkv", "-f", "lavfi", "-i", "color=size=16x16:rate=0.001", "-t", "172800", "-c:v",
                "mpeg4", "-r", "0.001")  # fmt: skip


def picture_as_video(folder: Path) -> Path:
    """A PNG that says it is an MP4."""
    return picture(folder / "picture.png").rename(folder / "original.mp4")


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG in grey that claims a size, with whatever pixel rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", zlib.compress(rows, 9)), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_bomb(folder: Path) -> Path:
    """A PNG of 2.5 megapixels in 3 kB."""
    side = 1600
    return _bytes(png_of(side, side, bytes((side + 1) * side)), "original.png")(folder)


def png_of_two_billion(folder: Path) -> Path:
    """A PNG whose header says 2^31 - 1 pixels each way."""
    return _bytes(png_of(2**31 - 1, 2**31 - 1, b"\0" * 100), "original.png")(folder)


def truncated_png(folder: Path) -> Path:
    """A PNG of noise without its end."""
    path = folder / "original.png"
    Image.effect_noise((300, 300), 90).save(path)
    return cut(path, 0.5)


def truncated_jpeg(folder: Path) -> Path:
    """A JPEG without its end."""
    path = folder / "original.jpg"
    Image.effect_noise((300, 300), 90).save(path)
    return cut(path, 0.5)


def gif_bomb(folder: Path) -> Path:
    """A GIF of 40 bytes that says it has 65,535 x 65,535 pixels."""
    header = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00\x3b"
    return _bytes(header + frame, "original.gif")(folder)


def tiff_of_lies(folder: Path) -> Path:
    """A TIFF whose directory lies outside of the file."""
    return _bytes(b"II*\0" + struct.pack("<I", 0x7FFFFFF0) + b"\0" * 64, "original.tif")(folder)


def zip_bomb(folder: Path) -> Path:
    """A ZIP of 20 kB that holds 20 MB of zeros."""
    path = folder / "original.mp4"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    return path


#: A server that nobody listens on: who asks it anything fails in another way than by refusing the file.
_NOBODY = free_port()

PLAYLIST_OF_A_SECRET = b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
PLAYLIST_OF_AN_ADDRESS = (
    f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nhttp://127.0.0.1:{_NOBODY}/x.ts\n#EXT-X-ENDLIST\n".encode()
)
CONCAT_OF_A_SECRET = b"ffconcat version 1.0\nfile /etc/passwd\n"
DASH_OF_AN_ADDRESS = (
    f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    f'<Representation id="1"><BaseURL>http://127.0.0.1:{_NOBODY}/</BaseURL></Representation></AdaptationSet></Period></MPD>'
).encode()
SDP_OF_AN_ADDRESS = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
SVG_WITH_AN_ENTITY = (
    b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><text>&x;</text></svg>'
)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd) (r) file\nshowpage\n"

#: Most pixels for which the pictures below are too large.
MAX_PIXELS = 2_000_000

#: name → (maker, processor, code that the task fails with)
HOSTILE: dict[str, tuple[Maker, str, str]] = {
    "zero bytes": (empty, "video", "unsupported_media"),
    "missing": (missing, "video", "invalid_input"),
    "a symbolic link": (a_symlink, "checksum", "invalid_input"),
    "a folder": (a_folder, "checksum", "invalid_input"),
    "a pipe": (a_fifo, "checksum", "invalid_input"),
    "text as mp4": (_bytes(b"this is no video\n" * 100), "video", "unsupported_media"),
    "zeros as mp4": (_bytes(bytes(1_000_000)), "video", "unsupported_media"),
    "header only": (header_only, "video", "unsupported_media"),
    "index cut off": (truncated_index, "video", "unsupported_media"),
    "data cut off": (truncated_data, "video", "damaged_media"),
    "matroska cut off": (truncated_matroska, "video", "damaged_media"),
    "data of noise": (broken_data, "video", "damaged_media"),
    "only sound, to transcode": (only_sound, "transcode", "unsupported_media"),
    "only sound, for a thumbnail": (only_sound, "thumbnail", "unsupported_media"),
    "sound with a cover": (sound_with_cover, "transcode", "unsupported_media"),
    "frames of 2.5 megapixels": (huge_frames, "transcode", "too_large"),
    "two days long": (long_video, "transcode", "too_large"),
    "a picture as mp4": (picture_as_video, "video", "unsupported_media"),
    "a playlist of /etc/passwd": (_bytes(PLAYLIST_OF_A_SECRET), "video", "unsupported_media"),
    "a playlist of an address": (_bytes(PLAYLIST_OF_AN_ADDRESS, "original.m3u8"), "probe", "unsupported_media"),
    "a concat list": (_bytes(CONCAT_OF_A_SECRET), "probe", "unsupported_media"),
    "a dash manifest": (_bytes(DASH_OF_AN_ADDRESS, "original.mpd"), "transcode", "unsupported_media"),
    "an sdp file": (_bytes(SDP_OF_AN_ADDRESS, "original.sdp"), "transcode", "unsupported_media"),
    "svg with an entity": (_bytes(SVG_WITH_AN_ENTITY, "original.svg"), "image", "unsupported_media"),
    "svg as mp4": (_bytes(SVG_WITH_AN_ENTITY), "transcode", "unsupported_media"),
    "postscript as png": (_bytes(POSTSCRIPT, "original.png"), "image", "unsupported_media"),
    "text as picture": (_bytes(b"no picture", "original.jpg"), "image", "unsupported_media"),
    "a png bomb": (png_bomb, "image", "too_large"),
    "a png of 2^62 pixels": (png_of_two_billion, "image", "too_large"),
    "a gif bomb": (gif_bomb, "image", "too_large"),
    "a gif bomb as video": (gif_bomb, "transcode", "too_large"),
    "png cut off": (truncated_png, "image", "damaged_media"),
    "jpeg cut off": (truncated_jpeg, "image", "damaged_media"),
    "a tiff of lies": (tiff_of_lies, "image", "unsupported_media"),
    "a zip bomb as mp4": (zip_bomb, "video", "unsupported_media"),
}
