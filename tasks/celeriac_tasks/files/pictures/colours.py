"""Brings the pixels of a picture to 8 bits of red, green and blue, and notes what that changes.

Pillow's own conversions clip: they show a picture of 16 bits as white, drop a transparent colour that is not in the
scale of the pixels, and keep a colour profile that no longer fits.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from celeriac_tasks.files.refusals import UnsupportedMediaError

if TYPE_CHECKING:
    from PIL.Image import Image

#: The modes whose pixels are single numbers of more than 8 bits.
_WIDE: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_WITH_ALPHA: Final = ("RGBA", "LA", "PA", "RGBa", "La")
#: The factor from a PNG's grey of so many bits to 8 bits, which Pillow does not apply to the transparent grey.
_GREY_FACTORS: Final = {"L;2": 85, "L;4": 17}
_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0


def raw_mode_of(picture: Image) -> str:
    """Return Pillow's name for the pixels in the file, such as `RGB;16B`; "" if it has none. Ask before loading."""
    for tile in picture.tile if hasattr(picture, "tile") else ():
        args = tile[3]
        for value in args if isinstance(args, tuple) else (args,):
            if isinstance(value, str):
                # The decoder of PPM gets the highest value of a sample besides the mode.
                deep = args[1:2] and isinstance(args[1], int) and args[1] > 255 and tile[0].startswith("ppm")
                return f"{value};16" if deep else value
    return ""


def in_rgb(picture: Image, raw_mode: str, notes: list[str]) -> tuple[Image, bytes | None]:
    """Return a loaded picture as RGB or RGBA, and the colour profile that its pixels still have."""
    _match_transparency(picture, raw_mode, notes)
    if picture.mode in _WIDE:
        base, alpha = _grey_of(picture, raw_mode, notes), _mask_of(picture)
    else:
        if "16" in raw_mode:
            notes.append("16 bits per sample became 8")
        base, alpha = _split(picture)
    profile = None if picture.mode == "LAB" else picture.info.get("icc_profile")  # LAB needs none
    coloured, profile = _coloured(base, profile, notes)
    if alpha is not None:
        coloured.putalpha(alpha)
    return coloured, profile


def _match_transparency(picture: Image, raw_mode: str, notes: list[str]) -> None:
    """Bring the transparent grey or colour of a PNG to the scale of the pixels that Pillow made."""
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int) and raw_mode in _GREY_FACTORS:
        picture.info["transparency"] = transparent * _GREY_FACTORS[raw_mode]
    elif isinstance(transparent, tuple) and "16" in raw_mode:
        picture.info["transparency"] = tuple(sample >> 8 for sample in transparent)
        notes.append("the transparent colour was compared at 8 bits per sample")


def _split(picture: Image) -> tuple[Image, Image | None]:
    """Return the picture without its transparency, in a mode that has colours or greys, and its transparency."""
    if picture.mode == "CMYK":
        return picture, None
    if picture.mode not in _WITH_ALPHA and not picture.has_transparency_data:
        return (picture if picture.mode in ("L", "RGB") else picture.convert(_opaque_mode(picture))), None
    if picture.mode == "La":
        picture = picture.convert("LA")
    whole = picture.convert("RGBA")
    alpha = whole.getchannel("A")
    return (picture.getchannel("L") if picture.mode == "LA" else whole.convert("RGB")), alpha


def _opaque_mode(picture: Image) -> str:
    return "L" if picture.mode == "1" else "RGB"


# --- more than 8 bits


def _grey_of(picture: Image, raw_mode: str, notes: list[str]) -> Image:
    low, high = _range_of(picture, raw_mode, notes)
    scale = 255 / (high - low)
    offset = -low * scale
    if _is_negative(picture):
        scale, offset = -scale, 255 - offset
    numbers = picture if picture.mode in ("I", "F") else picture.convert("I")
    # The conversion to 8 bits cuts off the fraction, so that half is added to round.
    return numbers.convert("F").point(lambda value: value * scale + (offset + 0.5)).convert("L")


def _range_of(picture: Image, raw_mode: str, notes: list[str]) -> tuple[float, float]:
    """Return the numbers that are black and white: those of the format, or the picture's own if it has none."""
    if raw_mode == "I;12":
        notes.append("12 bits per sample became 8")
        return 0, 4095
    if picture.mode.startswith("I;16") or (picture.format == "PPM" and picture.mode == "I"):
        notes.append("16 bits per sample became 8")
        return 0, 65535
    low, high = _extremes(picture, raw_mode)
    if low == high:
        # One number says nothing about the range: zero is black.
        low, high = min(low, 0), max(high, 0) or 1
    black, white = (high, low) if _is_negative(picture) else (low, high)
    notes.append(f"its numbers were scaled: {black:g} is black and {white:g} is white")
    return low, high


def _extremes(picture: Image, raw_mode: str) -> tuple[float, float]:
    if picture.mode == "F":
        _check_finite(picture)
    lowest, highest = picture.getextrema()
    assert isinstance(lowest, int | float)
    assert isinstance(highest, int | float)
    if raw_mode == "I;32N" and lowest < 0:
        raise UnsupportedMediaError("the picture has numbers above 2147483647, which cannot be read without damage")
    return lowest, highest


def _check_finite(picture: Image) -> None:
    from PIL import ImageMath

    # The difference of a number and itself is zero, but not for infinity and NaN.
    finite = ImageMath.lambda_eval(lambda images: (images["x"] - images["x"]) == 0, x=picture)
    if finite.getextrema()[0] == 0:
        raise UnsupportedMediaError("the picture has values that are not numbers (NaN or infinity)")


def _is_negative(picture: Image) -> bool:
    """Return whether zero is white; Pillow turns only pixels of up to 8 bits."""
    tags: Any = getattr(picture, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO


def _mask_of(picture: Image) -> Image | None:
    """Return the transparency of a grey picture of 16 bits: one grey is transparent."""
    from PIL import ImageMath

    transparent = picture.info.get("transparency")
    if not isinstance(transparent, int):
        return None
    seen = ImageMath.lambda_eval(lambda images: (images["x"] != transparent) * 255, x=picture.convert("I"))
    masked: Image = seen.convert("L")
    return masked


# --- colour profiles


def _coloured(base: Image, profile: bytes | None, notes: list[str]) -> tuple[Image, bytes | None]:
    """Return the picture as RGB, and its profile if that still describes the pixels."""
    space = _space_of(profile, notes)
    if space == "RGB" and base.mode != "CMYK":
        return base.convert("RGB"), profile
    if profile is not None and (space, base.mode) in (("GRAY", "L"), ("CMYK", "CMYK")):
        made = _in_srgb(base, profile)
        if made is not None:
            notes.append("its colours were converted from its colour profile to sRGB")
            return made, None
        notes.append("its colour profile could not be applied and was left out")
    elif space is not None:
        notes.append(f"its colour profile is for {space} and does not fit its pixels: it was left out")
    if base.mode == "CMYK":
        notes.append("its CMYK colours were converted without a colour profile: they are approximate")
    return base.convert("RGB"), None


def _space_of(profile: bytes | None, notes: list[str]) -> str | None:
    if not profile:
        return None
    from PIL import ImageCms

    try:
        return str(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space).strip()
    except (OSError, ValueError, TypeError):
        notes.append("its colour profile is damaged: it was left out")
        return None


def _in_srgb(base: Image, profile: bytes) -> Image | None:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made: Image | None = ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return made
