"""What a picture's file has besides one frame of pixels: metadata to keep, and notes on what is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from celeriac_tasks.files.pictures.colour_tags import avif_bits

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

_ORIENTATION: Final = 0x0112
#: Tags of the first directory that a reader may use: the others say how a TIFF stores its pixels.
_KEPT_TAGS: Final = frozenset(
    (
        0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x8769, 0x8825,
        0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
    )
)  # fmt: skip
_EXIF_DIRECTORY: Final = 0x8769
_EXIF_WIDTH: Final = 0xA002
_EXIF_HEIGHT: Final = 0xA003
#: A JPEG has EXIF in one segment (bytes).
_MOST_EXIF_IN_JPEG: Final = 65533
_ADOBE: Final = "adobe"


def notes_of(picture: Image, path: Path) -> list[str]:
    """Return what a result cannot keep of a file, in words. Ask before the picture is loaded."""
    notes: list[str] = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        notes.append(f"the file has {frames} pictures: the result has the first one")
    density = picture.info.get("dpi") or picture.info.get("aspect") or picture.info.get("jfif_density") or (1, 1)
    across, down = (float(value) for value in density)
    if across > 0 and down > 0 and not 0.99 < across / down < 1.01:
        notes.append(f"its pixels are not square ({across:g} to {down:g}): they were kept as they are")
    if picture.format == "JPEG" and picture.mode == "CMYK" and _ADOBE not in picture.info:
        notes.append("it does not say how its CMYK is stored: it was read as inverted, as Adobe writes it")
    if picture.format == "AVIF" and (bits := avif_bits(path)) > 8:
        notes.append(f"{bits} bits per sample became 8")
    return notes


def orientation_of(picture: Image) -> int:
    """Return the EXIF orientation of a loaded picture, 1 to 8."""
    orientation = picture.getexif().get(_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def turned(picture: Image, orientation: int) -> Image:
    """Return a picture upright."""
    from PIL.Image import Transpose

    ways = (
        Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE,
        Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90,
    )  # fmt: skip
    return picture if orientation == 1 else picture.transpose(ways[orientation - 2])


def encoded_exif(exif: Exif, size: tuple[int, int], target_format: str, notes: list[str]) -> bytes | None:
    """Return EXIF for an upright picture of this size, or None if it has none or it does not fit."""
    for tag in set(exif) - _KEPT_TAGS:
        del exif[tag]
    directory = exif.get_ifd(_EXIF_DIRECTORY)
    for tag, edge in ((_EXIF_WIDTH, size[0]), (_EXIF_HEIGHT, size[1])):
        if tag in directory:
            directory[tag] = edge
    if len(exif) == 0:
        return None
    try:
        encoded = exif.tobytes()
    except Exception as exc:  # Pillow raises many kinds of errors for values that do not fit their types
        notes.append(f"its EXIF is damaged ({type(exc).__name__}): it was left out")
        return None
    if target_format == "jpeg" and len(encoded) > _MOST_EXIF_IN_JPEG:
        notes.append(f"its EXIF has {len(encoded)} bytes, more than a jpeg can have: it was left out")
        return None
    return encoded
