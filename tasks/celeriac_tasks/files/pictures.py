"""Opens pictures safely: only self-contained formats, and only up to a size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celeriac.tasks.types.processors import FileJob, JobLimits
from celeriac_tasks.files.refusals import DamagedMediaError, TooLargeError, UnsupportedMediaError

if TYPE_CHECKING:
    from PIL.Image import Image

#: PostScript, PDF and metafiles are left out because they run programs; so are formats that are rarely maintained.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO", "PPM", "AVIF")


@contextmanager
def opened(path: Path, limits: JobLimits) -> Iterator[Image]:
    """Open a picture without reading its pixels; raises `UnsupportedMediaError` or `TooLargeError`."""
    from PIL import Image as Images

    Images.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Images.DecompressionBombWarning)
            picture = Images.open(path, formats=_FORMATS)
    except (Images.DecompressionBombWarning, Images.DecompressionBombError) as exc:
        raise TooLargeError(
            f"the picture has more pixels than the limit of {limits.max_pixels} (files.processing.max_pixels)"
        ) from exc
    except MemoryError:
        raise
    except Exception as exc:  # Pillow's parsers raise many kinds of errors
        raise UnsupportedMediaError(f"the file is not a picture in a supported format ({', '.join(_FORMATS)})") from exc
    with picture:
        yield picture


@contextmanager
def reading() -> Iterator[None]:
    """Raise `DamagedMediaError` if the pixels of a picture cannot be read."""
    from PIL import Image as Images

    try:
        yield
    except (MemoryError, TooLargeError):
        raise
    except Images.DecompressionBombError as exc:
        raise TooLargeError(str(exc)) from exc
    except Exception as exc:
        raise DamagedMediaError(f"the picture is truncated or damaged: {exc}") from exc


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
