"""Processor `checksum`: digests of a file."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from celeriac.tasks.types.file_options import ChecksumOptions
from celeriac.tasks.types.processors import FileJob, processor
from celeriac_tasks.files.refusals import check_unchanged

_BLOCK_BYTES: Final = 1024 * 1024


@processor("checksum", options=ChecksumOptions)
def checksum(job: FileJob, options: ChecksumOptions) -> dict[str, Any]:
    """Return `size_bytes` and each digest by the name of its algorithm, as lower-case hex."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in options.algorithms}
    size = job.source.stat().st_size
    read = 0
    with job.source.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            for digest in digests.values():
                digest.update(block)
            read += len(block)
            job.progress(100 * read / max(size, read), "reading")
    check_unchanged(size, read)
    return {"size_bytes": read, **{name: digest.hexdigest() for name, digest in digests.items()}}
