"""Processor `image`: turns a picture upright, resizes it and converts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celeriac.tasks.types.file_options import ImageOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.pictures import opened, reading
from celeriac_tasks.files.refusals import TooLargeError

if TYPE_CHECKING:
    from PIL.Image import Image

#: The output format for each input format, by Pillow's name; all other input formats become PNG.
_TARGETS: Final = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
_SUFFIXES: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@processor("image", options=ImageOptions, requires="pillow")
def image(job: FileJob, options: ImageOptions) -> dict[str, Any]:
    """Write `result.jpg` (`.png`, `.webp`); returns `width`, `height`, `format`, and the same of the original.

    It takes the first frame of an animation.
    """
    from PIL import ImageOps

    with opened(job.source, job.limits) as picture, reading():
        source_format, source_size = picture.format or "", picture.size
        job.progress(10, "reading")
        if (edges := _draft_edges(options)) is not None:
            picture.draft("RGB", edges)  # Pillow can decode a JPEG at a smaller size
        picture.load()
        exif = None if options.strip_metadata else picture.getexif()
        profile = picture.info.get("icc_profile")
        upright = ImageOps.exif_transpose(picture)
    if exif is not None:
        exif.pop(0x0112, None)  # Orientation: the picture is upright now
    job.progress(50, "converting")
    target_format = options.format or _TARGETS.get(source_format, "png")
    result = _fitted(_in_colours(upright, target_format), options, job.limits.max_pixels)
    target = job.output(f"result.{_SUFFIXES[target_format]}")
    extras: dict[str, Any] = {"icc_profile": profile} if profile and result.mode in ("RGB", "RGBA") else {}
    if exif is not None and len(exif) > 0:
        extras["exif"] = exif.tobytes()
    if target_format != "png":
        extras["quality"] = options.quality
    if target_format == "jpeg":
        extras |= {"progressive": True, "optimize": True}
    result.save(target, format=target_format.upper(), **extras)
    return {
        "width": result.width,
        "height": result.height,
        "format": target_format,
        "size_bytes": target.stat().st_size,
        "original": {
            "width": source_size[0],
            "height": source_size[1],
            "format": source_format.lower(),
            "size_bytes": job.source.stat().st_size,
        },
    }


def _draft_edges(options: ImageOptions) -> tuple[int, int] | None:
    edges = [edge for edge in (options.width, options.height) if edge is not None]
    # Twice the longest edge in both directions, because the picture may still be turned.
    return (2 * max(edges), 2 * max(edges)) if edges and options.fit != "exact" else None


def _in_colours(picture: Image, target_format: str) -> Image:
    """Return the picture in a mode that the format supports."""
    from PIL import Image as Images

    transparent = picture.has_transparency_data
    if target_format != "jpeg":
        return picture.convert("RGBA" if transparent else "RGB")
    if not transparent:
        return picture.convert("RGB")
    # JPEG does not support transparency, so transparent parts become white.
    paper = Images.new("RGBA", picture.size, "white")
    return Images.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")


def _fitted(picture: Image, options: ImageOptions, max_pixels: int) -> Image:
    from PIL import ImageOps
    from PIL.Image import Resampling

    width, height = options.width, options.height
    if width is None and height is None:
        return picture
    if options.fit == "inside":
        scale = min(1.0, (width or picture.width) / picture.width, (height or picture.height) / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture if size == picture.size else picture.resize(size, Resampling.LANCZOS)
    assert width is not None
    assert height is not None
    if width * height > max_pixels:
        raise TooLargeError(
            f"{width}x{height} pixels are above the limit of {max_pixels} (files.processing.max_pixels)"
        )
    if options.fit == "exact":
        return picture.resize((width, height), Resampling.LANCZOS)
    return ImageOps.fit(picture, (width, height), Resampling.LANCZOS)
