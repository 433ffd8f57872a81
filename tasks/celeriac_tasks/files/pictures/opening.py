"""Opens pictures safely: only self-contained formats, and only up to a size."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import TaskError
from celeriac.tasks.types.processors import FileJob, JobLimits
from celeriac_tasks.files.refusals import DamagedMediaError, TooLargeError, UnsupportedMediaError

if TYPE_CHECKING:
    from PIL.Image import Image

#: By Pillow's name; JPEG includes MPO. PostScript, PDF and metafiles are left out because they run programs; so are
#: formats that are rarely maintained.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
#: What Pillow must be built with to read a format that it knows.
_FEATURES: Final = {"JPEG": "jpg", "PNG": "zlib", "WEBP": "webp", "AVIF": "avif"}


#: Brands of single pictures; those of a sequence (`avis`, `hevc`, `msf1`) are left out, because it is a video.
_STILL_BRANDS: Final = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1")


@cache
def accepted_formats() -> tuple[str, ...]:
    """Return the formats that are accepted and that this Pillow can read."""
    from PIL import Image as Images
    from PIL import features

    Images.init()
    return tuple(
        name for name in _FORMATS if name in Images.OPEN and (name not in _FEATURES or features.check(_FEATURES[name]))
    )


@contextlib.contextmanager
def opened(path: Path, limits: JobLimits) -> Iterator[Image]:
    """Open a picture without reading its pixels; raises `UnsupportedMediaError` or `TooLargeError`."""
    from PIL import Image as Images

    Images.MAX_IMAGE_PIXELS = limits.max_pixels
    with contextlib.ExitStack() as held:
        yield _opened(path, limits, held)


def _opened(path: Path, limits: JobLimits, held: contextlib.ExitStack) -> Image:
    from PIL import Image as Images

    try:
        # Pillow maps a file that it opens by its name into memory, and mixes up the rows of a TIFF that is turned.
        file = held.enter_context(path.open("rb"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", Images.DecompressionBombWarning)
            return held.enter_context(Images.open(file, formats=accepted_formats()))
    except (Images.DecompressionBombWarning, Images.DecompressionBombError) as exc:
        raise TooLargeError(
            f"the picture has more pixels than the limit of {limits.max_pixels} (files.processing.max_pixels)"
        ) from exc
    except MemoryError:
        raise
    except Exception as exc:  # Pillow's parsers raise many kinds of errors
        raise UnsupportedMediaError(
            f"the file is not a picture in a supported format ({', '.join(accepted_formats())}), or its kind of pixels"
            " is not supported"
        ) from exc


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise `DamagedMediaError` if the pixels of a picture cannot be read."""
    from PIL import Image as Images

    try:
        yield
    except (MemoryError, TaskError):
        raise
    except Images.DecompressionBombError as exc:
        raise TooLargeError(str(exc)) from exc
    except Exception as exc:
        raise DamagedMediaError(f"the picture is truncated or damaged: {exc}") from exc


def is_still(path: Path) -> bool:
    """Return whether the file is a still picture in a container that ffmpeg reads as a video: AVIF or HEIF."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS


def size_of(path: Path, limits: JobLimits) -> tuple[int, int]:
    """Return the width and height of a picture."""
    with opened(path, limits) as picture:
        return picture.size


def picture_facts(job: FileJob) -> dict[str, Any]:
    """Return `format`, `width`, `height`, `mode`, `frames` and `size_bytes` of a picture."""
    with opened(job.source, job.limits) as picture, reading():
        return {
            "format": (picture.format or "").lower(),
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "frames": getattr(picture, "n_frames", 1),
            "size_bytes": job.source.stat().st_size,
        }
