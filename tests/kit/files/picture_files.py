"""Pictures of every kind for tests, written byte by byte where Pillow cannot write them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image, ImageCms

#: A ramp from black to white across, which shows clipping, wrapping and turned scales at a glance.
WIDTH, HEIGHT = 256, 8
INTS = list(range(WIDTH))
DEEP = [value * 257 for value in INTS]


def png(bits: int, colour: int, rows: bytes, *, size: tuple[int, int] = (WIDTH, HEIGHT), **chunks: bytes) -> bytes:
    """Return a PNG of packed rows (without filter bytes); `chunks` stand before the pixels."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    stride = (size[0] * bits * samples + 7) // 8
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(size[1]))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))]
    parts += [(name.encode(), body) for name, body in chunks.items()]
    parts += [(b"IDAT", zlib.compress(filtered)), (b"IEND", b"")]
    chunk = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk)


def tiff(
    data: bytes,
    *,
    bits: Sequence[int],
    photometric: int = 1,
    sample_format: int = 1,
    extra: Sequence[int] = (),
    order: str = "<",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    more: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """Return a TIFF of one uncompressed strip; `more` are (tag, type, value)."""
    count = len(bits)
    arrays, at = b"", 8
    tags: list[tuple[int, int, int, int | bytes]] = [
        (256, 4, 1, size[0]), (257, 4, 1, size[1]), (259, 3, 1, 1), (262, 3, 1, photometric), (277, 3, 1, count),
        (278, 4, 1, size[1]), (279, 4, 1, len(data)),
    ]  # fmt: skip
    for tag, values in ((258, bits), (339, [sample_format] * count), (338, extra)):
        if len(values) <= 2:
            if values:
                tags.append((tag, 3, len(values), struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")))
        else:
            tags.append((tag, 3, len(values), at + len(arrays)))
            arrays += struct.pack(f"{order}{len(values)}H", *values)
    tags += [(tag, kind, 1, value) for tag, kind, value in more]
    tags.append((273, 4, 1, at + len(arrays)))
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, number, value in sorted(tags, key=lambda entry: entry[0]):
        packed = (
            value
            if isinstance(value, bytes)
            else struct.pack(f"{order}{'H2x' if kind == 3 and number == 1 else 'I'}", value)
        )
        directory += struct.pack(f"{order}HHI", tag, kind, number) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    body = arrays + data + b"\0" * ((len(arrays) + len(data)) % 2)
    return magic + struct.pack(f"{order}I", at + len(body)) + body + directory + struct.pack(f"{order}I", 0)


def grey_ramp(kind: str, values: Sequence[float]) -> bytes:
    """Return rows of numbers; `kind` is a format of `struct`, such as `<H`."""
    return struct.pack(f"{kind[0]}{len(values)}{kind[1]}", *values) * HEIGHT


def saved(picture: Image.Image, format_: str, **options: object) -> bytes:
    """Return a picture as Pillow writes it."""
    buffer = io.BytesIO()
    picture.save(buffer, format=format_, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def quarters(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a picture whose quarters are red and green above, blue and grey below: each turn and flip shows."""
    picture = Image.new("RGB", size, (128, 128, 128))
    halves = (size[0] // 2, size[1] // 2)
    picture.paste((230, 20, 20), (0, 0, *halves))
    picture.paste((20, 200, 20), (halves[0], 0, size[0], halves[1]))
    picture.paste((20, 20, 220), (0, halves[1], halves[0], size[1]))
    return picture.convert(mode)


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours in the middles of the four quarters, by rows."""
    pixels = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    found = []
    for y in (picture.height // 4, 3 * picture.height // 4):
        for x in (picture.width // 4, 3 * picture.width // 4):
            pixel = pixels.getpixel((x, y))
            assert isinstance(pixel, tuple)
            found.append(tuple(int(sample) for sample in pixel))
    return found


def profile(space: str) -> bytes:
    """Return an ICC profile: `sRGB`, `LAB`, `GRAY` (linear), or `WIDE` (sRGB's with red and green exchanged)."""
    if space in ("sRGB", "LAB"):
        return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()  # type: ignore[arg-type]
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if space == "WIDE":
        red, green = srgb.index(b"rXYZ"), srgb.index(b"gXYZ")
        srgb[red : red + 4], srgb[green : green + 4] = b"gXYZ", b"rXYZ"
        return bytes(srgb)
    return _grey_profile()


def _grey_profile() -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    at = 128 + 4 + 2 * 12
    table = struct.pack(">I", 2) + struct.pack(">4sII", b"wtpt", at, len(white))
    table += struct.pack(">4sII", b"kTRC", at + len(white), len(curve))
    head = struct.pack(">I4sI4s4s4s", at + len(white) + len(curve), b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + table + white + curve
