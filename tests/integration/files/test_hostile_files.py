"""Files that are broken, mislabelled or meant to do harm: each fails its task with a code, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.errors import TaskError
from tests.kit.files.file_runs import FileRun
from tests.kit.files.media_files import HOSTILE, MAX_PIXELS


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_bad_file_fails_with_a_clear_code(kind: str, tmp_path: Path) -> None:
    make, processor, code = HOSTILE[kind]
    folder = tmp_path / "videos"
    folder.mkdir()
    original = make(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(TaskError) as caught:
        await FileRun(original, max_pixels=MAX_PIXELS)(processor)
    assert caught.value.code == code, caught.value.message
    assert not caught.value.retryable
    assert 10 < len(caught.value.message) < 600
    assert "\n" not in caught.value.message
    assert "root:" not in caught.value.message, "a secret shows"
    assert sorted(folder.iterdir()) == before, "the folder is as it was"
