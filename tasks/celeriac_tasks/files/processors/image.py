"""Processor `image`: turns a picture upright, resizes it and converts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celeriac.tasks.types.file_options import ImageOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.pictures.colour_tags import colour_chunks, png_info, without_chunks
from celeriac_tasks.files.pictures.colours import in_rgb, raw_mode_of
from celeriac_tasks.files.pictures.metadata import encoded_exif, notes_of, orientation_of, turned
from celeriac_tasks.files.pictures.opening import opened, reading
from celeriac_tasks.files.refusals import BadOptionError, TooLargeError

if TYPE_CHECKING:
    from PIL.Image import Image

#: The output format for each input format, by Pillow's name; all other input formats become PNG.
_TARGETS: Final = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
_SUFFIXES: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}
#: The longest edge that a format can have (pixels).
_LONGEST_EDGES: Final = {"jpeg": 65500, "webp": 16383}


@processor("image", options=ImageOptions, requires="celeriac[files]")
def image(job: FileJob, options: ImageOptions) -> dict[str, Any]:
    """Write `result.jpg` (`.png`, `.webp`); returns `width`, `height`, `format`, `notes`, and facts of the original.

    It takes the first frame of an animation. `notes` says what of the picture could not be kept.
    """
    notes: list[str] = []
    with opened(job.source, job.limits) as picture:
        with reading():
            source_format, source_size = picture.format or "", picture.size
            notes += notes_of(picture, job.source)
            raw_mode = raw_mode_of(picture)
            chunks = {} if picture.info.get("icc_profile") else colour_chunks(job.source)
            job.progress(10, "reading")
            if (edges := _draft_edges(options)) is not None:
                picture.draft("RGB", edges)  # Pillow can decode a JPEG at a smaller size
            picture.load()
            exif = None if options.strip_metadata else picture.getexif()
            orientation = orientation_of(picture)
        pixels, profile = in_rgb(picture, raw_mode, notes)
    upright = turned(pixels, orientation)
    target_format = options.format or _TARGETS.get(source_format, "png")
    job.progress(50, "converting")
    extras: dict[str, Any] = {}
    if profile is not None:
        extras["icc_profile"] = profile
    elif chunks and target_format == "png":
        extras["pnginfo"] = png_info(chunks)
    elif chunks:
        upright = without_chunks(upright, chunks, target_format, notes)
    full_size = (source_size[1], source_size[0]) if orientation > 4 else source_size
    result = _fitted(_on_paper(upright, target_format, notes), full_size, options, job.limits.max_pixels)
    _check_edges(result, target_format)
    if exif is not None and (encoded := encoded_exif(exif, result.size, target_format, notes)) is not None:
        extras["exif"] = encoded
    if target_format != "png":
        extras["quality"] = options.quality
    if target_format == "jpeg":
        extras |= {"progressive": True, "optimize": True}
    target = job.output(f"result.{_SUFFIXES[target_format]}")
    result.info.clear()  # Pillow writes some of what it has read, even if it is not asked to
    result.save(target, format=target_format.upper(), **extras)
    return {
        "width": result.width,
        "height": result.height,
        "format": target_format,
        "size_bytes": target.stat().st_size,
        "notes": notes,
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


def _on_paper(picture: Image, target_format: str, notes: list[str]) -> Image:
    """Return the picture as the format can hold it: a JPEG does not support transparency."""
    from PIL import Image as Images

    if target_format != "jpeg" or picture.mode != "RGBA":
        return picture
    if picture.getchannel("A").getextrema()[0] != 255:
        notes.append("its transparent parts became white, because a jpeg has no transparency")
    paper = Images.new("RGBA", picture.size, "white")
    return Images.alpha_composite(paper, picture).convert("RGB")


def _check_edges(picture: Image, target_format: str) -> None:
    longest = _LONGEST_EDGES.get(target_format)
    if longest is not None and max(picture.size) > longest:
        raise BadOptionError(
            f"a {target_format} has at most {longest} pixels on each side, but the result has"
            f" {picture.width}x{picture.height}: set a smaller width or height, or the format png"
        )


def _fitted(picture: Image, full_size: tuple[int, int], options: ImageOptions, max_pixels: int) -> Image:
    """Return the picture in the size of the options; `full_size` is that of the whole original."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    width, height = options.width, options.height
    if width is None and height is None:
        return picture
    if options.fit == "inside":
        across, down = full_size
        scale = min(1.0, (width or across) / across, (height or down) / down)
        size = (max(1, round(across * scale)), max(1, round(down * scale)))
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
