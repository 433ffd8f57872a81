"""Processor `image`: a picture turned upright, resized, converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celeriac.tasks.types.file_options import ImageOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.pictures import opened, reading
from celeriac_tasks.files.refusals import TooLargeError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Formats that are written, by the name that Pillow has for those that are read; anything else becomes PNG.
_TARGETS: Final = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
_SUFFIXES: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@processor("image", options=ImageOptions, requires="pillow")
def image(job: FileJob, options: ImageOptions) -> dict[str, Any]:
    """Write `result.jpg` (`.png`, `.webp`); returns `width`, `height`, `format` and the original's.

    Of an animation it takes the first frame.
    """
    from PIL import ImageOps

    with opened(job.source, job.limits) as picture, reading():
        source_format, source_size = picture.format or "", picture.size
        job.progress(10, "reading")
        if (edges := _draft_edges(options)) is not None:
            picture.draft("RGB", edges)  # a JPEG can be read smaller at once
        picture.load()
        exif = None if options.strip_metadata else picture.getexif()
        profile = picture.info.get("icc_profile")
        upright = ImageOps.exif_transpose(picture)
    if exif is not None:
        exif.pop(0x0112, None)  # Orientation: it is upright now
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
    # Twice the longest edge, both ways, for it may be turned yet.
    return (2 * max(edges), 2 * max(edges)) if edges and options.fit != "exact" else None


def _in_colours(picture: Image, target_format: str) -> Image:
    """Return the picture in a mode that the format can hold."""
    from PIL import Image as Images

    transparent = picture.has_transparency_data
    if target_format != "jpeg":
        return picture.convert("RGBA" if transparent else "RGB")
    if not transparent:
        return picture.convert("RGB")
    # JPEG knows no transparency: what shows through is white.
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
