"""Processor `compress`: lossless compression of any file."""

from __future__ import annotations

import gzip
from typing import IO, Any, Final

from celeriac.tasks.types.file_options import CompressOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.refusals import check_unchanged

_BLOCK_BYTES: Final = 1024 * 1024
_SUFFIXES: Final = {"zstd": ".zst", "gzip": ".gz"}
_LEVELS: Final = {"zstd": 3, "gzip": 6}
_LONGEST_SUFFIX: Final = 16


@processor("compress", options=CompressOptions, requires="celeriac[files]")
def compress(job: FileJob, options: CompressOptions) -> dict[str, Any]:
    """Write `result.EXTENSION.zst` (or `.gz`); returns the sizes before and after, and their ratio."""
    suffix = job.source.suffix if job.source.suffix.isascii() and len(job.source.suffix) <= _LONGEST_SUFFIX else ""
    suffix = "".join(letter for letter in suffix if letter.isalnum() or letter == ".")
    target = job.output(f"result{suffix}{_SUFFIXES[options.algorithm]}")
    size = job.source.stat().st_size
    read = 0
    level = options.level or _LEVELS[options.algorithm]
    with (
        job.source.open("rb") as source,
        target.open("wb") as raw,
        _writer(raw, options.algorithm, level, size) as compressed,
    ):
        while block := source.read(_BLOCK_BYTES):
            compressed.write(block)
            read += len(block)
            job.progress(100 * read / max(size, read), "compressing")
        check_unchanged(size, read)
    after = target.stat().st_size
    return {
        "algorithm": options.algorithm,
        "level": level,
        "size_bytes": read,
        "compressed_bytes": after,
        "ratio": round(read / after, 3),
    }


def _writer(raw: IO[bytes], algorithm: str, level: int, size: int) -> Any:
    if algorithm == "gzip":
        # Without a name and a time, the same file always gives the same bytes.
        return gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=raw, mtime=0)
    import zstandard

    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    return compressor.stream_writer(raw, size=size, closefd=False)
