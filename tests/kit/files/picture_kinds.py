"""The kinds of pictures that tests walk through: ramps of every depth, transparency of every sort, what is refused."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image

from tests.kit.files.picture_files import DEEP, INTS, grey_ramp, png, quarters, saved, tiff

NOTE_16 = "16 bits per sample became 8"


def _each(kind: str, times: int, values: list[int]) -> bytes:
    """Return a row of pixels that have each value so many times."""
    return struct.pack(f"{kind[0]}{len(values) * times}{kind[1]}", *(value for value in values for _ in range(times)))


def packed(bits: int, values: list[int]) -> bytes:
    whole = 0
    for value in values:
        whole = whole << bits | value
    return whole.to_bytes(len(values) * bits // 8, "big")


def _ramps() -> dict[str, tuple[bytes, list[int], str]]:
    """Return name → (file, the greys that show, words of the note)."""
    down = INTS[::-1]
    ramps = {
        "png of 16 bits": (png(16, 0, grey_ramp(">H", DEEP)), INTS, NOTE_16),
        "png of 16 bits and 3 colours": (
            png(16, 2, _each(">H", 3, DEEP) * 8),
            INTS,
            NOTE_16,
        ),
        "png of 16 bits with transparency": (
            png(16, 4, struct.pack(">512H", *(one for value in DEEP for one in (value, 65535))) * 8),
            INTS,
            NOTE_16,
        ),
        "png of 4 bits": (png(4, 0, packed(4, [value // 16 for value in INTS]) * 8), [v // 16 * 17 for v in INTS], ""),
        "png of 2 bits": (png(2, 0, packed(2, [value // 64 for value in INTS]) * 8), [v // 64 * 85 for v in INTS], ""),
        "tiff of 12 bits": (tiff(packed(12, [v * 4095 // 255 for v in INTS]) * 8, bits=[12]), INTS, "12 bits"),
        "tiff of 16 bits and 3 colours": (
            tiff(_each("<H", 3, DEEP) * 8, bits=[16] * 3, photometric=2),
            INTS,
            NOTE_16,
        ),
        "tiff of 16 bits, zero is white": (tiff(grey_ramp("<H", DEEP), bits=[16], photometric=0), down, NOTE_16),
        "tiff of unsigned 32 bits": (
            tiff(grey_ramp("<I", [v * 8_000_000 for v in INTS]), bits=[32]),
            INTS,
            "2.04e+09 is white",
        ),
        "tiff of constant floats": (
            tiff(grey_ramp("<f", [2.5] * 256), bits=[32], sample_format=3),
            [255] * 256,
            "scaled",
        ),
        "tiff of huge floats": (
            tiff(grey_ramp("<f", [v * 1e36 for v in INTS]), bits=[32], sample_format=3),
            INTS,
            "scaled",
        ),
        "tiff of CMYK with 16 bits": (
            tiff(
                struct.pack("<1024H", *(one for v in DEEP for one in (0, 0, 0, 65535 - v))) * 8,
                bits=[16] * 4,
                photometric=5,
            ),
            INTS,
            NOTE_16,
        ),
        "pgm of 16 bits": (b"P5 256 8 65535\n" + grey_ramp(">H", DEEP), INTS, NOTE_16),
        "pgm up to 4080": (b"P5 256 8 4080\n" + grey_ramp(">H", [v * 16 for v in INTS]), INTS, NOTE_16),
        "ppm of 16 bits": (b"P6 256 8 65535\n" + _each(">H", 3, DEEP) * 8, INTS, NOTE_16),
        "plain pgm up to 510": (b"P2 256 1 510\n" + b" ".join(b"%d" % (v * 2) for v in INTS), INTS, NOTE_16),
        "plain pgm up to 85": (
            b"P2 256 1 85\n" + b" ".join(b"%d" % (v // 3) for v in INTS),
            [v // 3 * 3 for v in INTS],
            "",
        ),
        "pfm": (b"Pf 256 8 -1.0\n" + grey_ramp("<f", [v / 255 for v in INTS]), INTS, "1 is white"),
    }
    for order, name in (("<", "little"), (">", "big")):
        ramps |= {
            f"tiff of 16 bits, {name}": (tiff(grey_ramp(f"{order}H", DEEP), bits=[16], order=order), INTS, NOTE_16),
            f"tiff of signed 16 bits, {name}": (
                tiff(grey_ramp(f"{order}h", [v * 200 - 20_000 for v in INTS]), bits=[16], sample_format=2, order=order),
                INTS,
                "-20000 is black",
            ),
            f"tiff of 32 bits, {name}": (
                tiff(
                    grey_ramp(f"{order}i", [v * 10**6 - 10**8 for v in INTS]), bits=[32], sample_format=2, order=order
                ),
                INTS,
                "-1e+08 is black",
            ),
            f"tiff of floats, {name}": (
                tiff(grey_ramp(f"{order}f", [v / 255 for v in INTS]), bits=[32], sample_format=3, order=order),
                INTS,
                "0 is black and 1 is white",
            ),
            f"tiff of floats, zero is white, {name}": (
                tiff(grey_ramp(f"{order}f", INTS), bits=[32], sample_format=3, photometric=0, order=order),
                down,
                "255 is black and 0 is white",
            ),
            f"tiff of 8 bits, zero is white, {name}": (
                tiff(bytes(INTS) * 8, bits=[8], photometric=0, order=order),
                down,
                "",
            ),
        }
    return ramps


#: name → (file, the greys that show across, words of the note)
RAMPS = _ramps()


#: name → (file, code, options)
REFUSED: dict[str, tuple[bytes, str, dict[str, Any]]] = {
    "floats that are not numbers": (
        tiff(grey_ramp("<f", [float("nan"), *INTS[1:]]), bits=[32], sample_format=3),
        "unsupported_media",
        {},
    ),
    "infinite floats": (
        tiff(grey_ramp("<f", [*INTS[1:], float("inf")]), bits=[32], sample_format=3),
        "unsupported_media",
        {},
    ),
    "unsigned numbers that become negative": (
        tiff(grey_ramp("<I", [v * 16_000_000 for v in INTS]), bits=[32]),
        "unsupported_media",
        {},
    ),
    "floats of 64 bits": (tiff(grey_ramp("<d", INTS), bits=[64], sample_format=3), "unsupported_media", {}),
    "unsigned numbers in the big order": (tiff(grey_ramp(">I", INTS), bits=[32], order=">"), "unsupported_media", {}),
    "floats in colours": (b"PF 256 8 -1.0\n" + grey_ramp("<f", INTS) * 3, "unsupported_media", {}),
    "an icon": (saved(quarters(), "ICO"), "unsupported_media", {}),
    "too long for a webp": (saved(Image.new("L", (1, 20_000)), "PNG"), "bad_option", {"format": "webp"}),
    "too long for a jpeg": (saved(Image.new("1", (66_000, 1)), "PNG"), "bad_option", {"format": "jpeg"}),
    "a high dynamic range as jpeg": (
        png(8, 0, bytes(INTS) * 8, cICP=bytes((9, 16, 0, 1))),
        "unsupported_media",
        {"format": "jpeg"},
    ),
    "a high dynamic range as webp": (
        png(16, 0, grey_ramp(">H", DEEP), cICP=bytes((9, 18, 0, 1))),
        "unsupported_media",
        {"format": "webp"},
    ),
}


def transparent_files() -> dict[str, tuple[bytes, list[int]]]:
    """Return name → (file, the alpha in the four quarters)."""
    grey = quarters("L")
    palette = quarters().quantize(4)
    first = palette.getpixel((1, 1))
    assert isinstance(first, int)
    colours = bytearray(quarters().resize((2, 2), Image.Resampling.NEAREST).tobytes())
    alphas = bytes(0 if index == first else 255 for index in range(256))
    alpha = grey.point(lambda value: 40 if value == 83 else 255)
    four = [83 // 17, 126 // 17, 43 // 17, 128 // 17]
    quartered = quarters()
    quartered.putalpha(alpha)
    deep = [value * 257 for value in (83, 126, 43, 128)]
    tiny = (2, 2)
    return {
        "png, one grey": (saved(grey, "PNG", transparency=83), [0, 255, 255, 255]),
        "png, one grey of 16 bits": (
            png(16, 0, struct.pack(">4H", *deep), size=tiny, tRNS=struct.pack(">H", deep[0])),
            [0, 255, 255, 255],
        ),
        "png, one grey of 16 bits, near another": (
            png(16, 0, struct.pack(">4H", 1000, 1001, 1002, 1003), size=tiny, tRNS=struct.pack(">H", 1002)),
            [255, 255, 0, 255],
        ),
        "png, one grey of 4 bits": (
            png(
                4,
                0,
                bytes((four[0] << 4 | four[1], four[2] << 4 | four[3])),
                size=tiny,
                tRNS=struct.pack(">H", four[0]),
            ),
            [0, 255, 255, 255],
        ),
        "png, one grey of 2 bits": (
            png(2, 0, bytes((0b00010000, 0b10110000)), size=tiny, tRNS=struct.pack(">H", 1)),
            [255, 0, 255, 255],
        ),
        "png, one grey of 1 bit": (
            png(1, 0, bytes((0b10000000, 0b01000000)), size=tiny, tRNS=struct.pack(">H", 1)),
            [0, 255, 255, 0],
        ),
        "png, one colour": (
            png(8, 2, bytes(colours), size=tiny, tRNS=struct.pack(">3H", *colours[:3])),
            [0, 255, 255, 255],
        ),
        "png, one colour of 16 bits": (
            png(
                16,
                2,
                struct.pack(">12H", *(one * 257 for one in colours)),
                size=tiny,
                tRNS=struct.pack(">3H", *(one * 257 for one in colours[:3])),
            ),
            [0, 255, 255, 255],
        ),
        "png, one entry of a palette": (saved(palette, "PNG", transparency=first), [0, 255, 255, 255]),
        "png, many entries of a palette": (saved(palette, "PNG", transparency=alphas), [0, 255, 255, 255]),
        "gif": (saved(palette, "GIF", transparency=first), [0, 255, 255, 255]),
        "webp": (saved(quartered, "WEBP"), [40, 255, 255, 255]),
        "avif": (saved(quartered, "AVIF", quality=95), [40, 255, 255, 255]),
        "tiff": (saved(quartered, "TIFF"), [40, 255, 255, 255]),
        "tiff, premultiplied": (
            tiff(
                bytes((40, 0, 0, 40, 0, 255, 0, 255, 0, 0, 255, 255, 9, 9, 9, 255)),
                bits=[8] * 4,
                photometric=2,
                extra=[1],
                size=tiny,
            ),
            [40, 255, 255, 255],
        ),
        "tiff, grey and premultiplied": (
            tiff(bytes((40, 40, 200, 255, 100, 255, 0, 255)), bits=[8] * 2, extra=[1], size=tiny),
            [40, 255, 255, 255],
        ),
        "tiff, grey": (saved(quartered.convert("LA"), "TIFF"), [40, 255, 255, 255]),
    }


#: name → (file, the alpha in the four quarters)
TRANSPARENT = transparent_files()
