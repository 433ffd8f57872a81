"""Processor `probe`: facts about a file of sound, video or pictures."""

from __future__ import annotations

from typing import Any

from celeriac.tasks.types.processors import FileJob, NoOptions, processor
from celeriac_tasks.files.media import media_facts
from celeriac_tasks.files.pictures.opening import picture_facts
from celeriac_tasks.files.refusals import UnsupportedMediaError


@processor("probe", options=NoOptions, requires="celeriac[files]", weight=0.5)
def probe(job: FileJob, options: NoOptions) -> dict[str, Any]:
    """Return `format`, `duration_s`, `size_bytes`, `bitrate_bps` and `streams`; for a picture, its format and size."""
    del options
    job.progress(0, "probing")
    try:
        return media_facts(job)
    except UnsupportedMediaError as no_media:
        try:
            return picture_facts(job)
        except UnsupportedMediaError:
            raise no_media from None
