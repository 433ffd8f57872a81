"""A task type: the most frequent words of a text, counted line by line."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, Field

from celeriac import Context, SkipRetry, task


class Text(BaseModel):
    """The text to count, and how many of the words to return."""

    text: str
    top: int = Field(3, ge=1)


@task("wordcount", group="texts", max_retries=2, timeout_s=30)
def wordcount(payload: Text, ctx: Context) -> dict[str, int]:
    """Count the words of a text."""
    lines = payload.text.splitlines()
    if not lines:
        raise SkipRetry("the text is empty", code="empty_text")  # another attempt would not help
    words: Counter[str] = Counter()
    for number, line in enumerate(lines):
        ctx.progress(100 * number / len(lines), "counting", f"line {number + 1} of {len(lines)}")
        words.update(line.lower().split())
    return dict(words.most_common(payload.top))
