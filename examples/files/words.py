"""A custom file processor: counts words, and writes the text in capitals.

Add the module to `imports` (the platform must be able to import it), then submit a `file_process` task with the
processor `words`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from celeriac import FileJob, SkipRetry, processor


class WordsOptions(BaseModel):
    """The options of a submission; an invalid option is a 422 that names the field."""

    model_config = ConfigDict(extra="forbid")

    least_length: int = Field(1, ge=1, description="Shorter words do not count.")


@processor("words", options=WordsOptions)
def words(job: FileJob, options: WordsOptions) -> dict[str, Any]:
    """Count the words of a text."""
    try:
        lines = job.source.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as exc:
        raise SkipRetry("the file is not a UTF-8 text", code="unsupported_media") from exc
    count = 0
    with job.output("result.txt").open("w", encoding="utf-8") as result:
        for number, line in enumerate(lines):
            count += sum(len(word) >= options.least_length for word in line.split())
            result.write(line.upper() + "\n")
            job.progress(100 * number / len(lines), "counting")
    return {"words": count, "lines": len(lines)}
