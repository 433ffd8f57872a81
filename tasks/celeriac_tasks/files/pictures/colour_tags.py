"""Reads how a PNG or AVIF says that its colours are meant, where Pillow drops it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from celeriac_tasks.files.refusals import UnsupportedMediaError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

_PNG: Final = b"\x89PNG\r\n\x1a\n"
#: The chunks that say how the colours of a PNG are meant; all stand before its pixels.
_CHUNKS: Final = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_MOST_CHUNKS: Final = 1000
#: sRGB is close to this gamma; a PNG's chunk has a hundred thousand times its value.
_SRGB_GAMMA: Final = 1 / 2.2
_CLOSE: Final = 0.02
_SRGB_PRIMARIES: Final = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
#: Codes of H.273: primaries and transfers that are shown as sRGB, and the transfers of high dynamic range.
_LIKE_SRGB: Final = ((0, 1, 2), (0, 1, 2, 6, 13, 14, 15))
_HDR: Final = {16: "PQ", 18: "HLG"}
#: Where an AVIF has its boxes with properties.
_AVIF_HEAD: Final = 256 * 1024


def colour_chunks(path: Path) -> dict[bytes, bytes]:
    """Return the chunks of a PNG, or for an AVIF those of a PNG with the same meaning, unless the meaning is sRGB."""
    with path.open("rb") as file:
        head = file.read(8)
        if head == _PNG:
            chunks: dict[bytes, bytes] = {}
            for _ in range(_MOST_CHUNKS):
                length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
                if kind in (b"IDAT", b"\0\0\0\0"):
                    break
                if kind in _CHUNKS and length <= 32:
                    chunks[kind] = file.read(length)
                    file.seek(4, 1)
                else:
                    file.seek(length + 4, 1)
            return _unlike_srgb(chunks)
        if head[4:] == b"ftyp":
            return _unlike_srgb(_avif_chunks(head + file.read(_AVIF_HEAD)))
    return {}


def avif_bits(path: Path) -> int:
    """Return the bits per sample of an AVIF; 8 if it does not say."""
    with path.open("rb") as file:
        head = file.read(_AVIF_HEAD)
    at, bits = head.find(b"pixi"), 8
    while at >= 0 and len(head) > at + 9:
        bits = max(bits, head[at + 9])
        at = head.find(b"pixi", at + 4)
    return bits if bits in (10, 12) else 8


def _avif_chunks(head: bytes) -> dict[bytes, bytes]:
    at = head.find(b"colrnclx")
    if at < 0 or len(head) < at + 12:
        return {}
    primaries, transfer = struct.unpack_from(">HH", head, at + 8)
    return {b"cICP": bytes((primaries & 255, transfer & 255, 0, 1))}


def _unlike_srgb(chunks: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Leave out the chunks that say what is assumed without them; a better one takes the place of the others."""
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4:
        primaries, transfers = _LIKE_SRGB
        return {} if cicp[0] in primaries and cicp[1] in transfers else {b"cICP": cicp}
    if b"sRGB" in chunks:
        return {}
    kept = {}
    gamma = chunks.get(b"gAMA", b"")
    if len(gamma) != 4 or _gamma_of(gamma) <= 0:
        # There is no such chunk, or it says nothing.
        gamma = struct.pack(">I", round(_SRGB_GAMMA * 100_000))
    if abs(_gamma_of(gamma) / _SRGB_GAMMA - 1) > _CLOSE:
        kept[b"gAMA"] = gamma
    primaries_of = chunks.get(b"cHRM", b"")
    if len(primaries_of) == 32 and any(
        abs(one - other) > 1000 for one, other in zip(struct.unpack(">8I", primaries_of), _SRGB_PRIMARIES, strict=True)
    ):
        kept[b"cHRM"] = primaries_of
        kept[b"gAMA"] = gamma
    return kept


def png_info(chunks: dict[bytes, bytes]) -> PngInfo:
    """Return the chunks for Pillow, which writes them into a PNG."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for kind, body in chunks.items():
        info.add(kind, body)
    return info


def without_chunks(picture: Image, chunks: dict[bytes, bytes], target_format: str, notes: list[str]) -> Image:
    """Return a picture that looks the same in a format that has no such chunks.

    Raises `UnsupportedMediaError` for high dynamic range.
    """
    if (cicp := chunks.get(b"cICP")) is not None:
        if cicp[1] in _HDR:
            raise UnsupportedMediaError(
                f"the picture has a high dynamic range ({_HDR[cicp[1]]}), which a {target_format} cannot have: use the"
                " format png"
            )
        notes.append(f"its colours (H.273: primaries {cicp[0]}, transfer {cicp[1]}) are read as sRGB")
        return picture
    if b"cHRM" in chunks:
        notes.append("its primaries (cHRM) are read as those of sRGB")
    gamma = chunks.get(b"gAMA")
    if gamma is None or abs(_gamma_of(gamma) / _SRGB_GAMMA - 1) <= _CLOSE:
        return picture
    notes.append(f"its gamma of {_gamma_of(gamma):g} was brought to that of sRGB")
    exponent = _SRGB_GAMMA / _gamma_of(gamma)
    table = [round(255 * (value / 255) ** exponent) for value in range(256)]
    return picture.point(table * 3 + (list(range(256)) if picture.mode == "RGBA" else []))


def _gamma_of(body: bytes) -> float:
    return int(struct.unpack(">I", body)[0]) / 100_000
