"""`compress` and `checksum` keep every byte of any file, whatever its name and shape, and refuse one that changes."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest
import zstandard

from celeriac.errors import TaskError
from celeriac.tasks.types.file_options import ChecksumOptions, CompressOptions
from celeriac.tasks.types.processors import is_output_name
from celeriac_tasks.files.processors.checksum import checksum
from celeriac_tasks.files.processors.compress import compress
from tests.kit.files.file_runs import FileRun, job_of

MIB = 1024**2
NAMES = [
    "original",
    "original.",
    "a.tar.gz",
    ".hidden",
    "a.é",
    "a.x y",
    "a.\n",
    "a." + "x" * 60,
    os.fsdecode(b"a.\xff"),
]


def content_of(kind: str) -> bytes:
    noise = os.urandom(200_000)
    return {
        "one byte": b"\0", "noise": noise, "gz of gz": gzip.compress(gzip.compress(noise)),
        "exactly one block": bytes(MIB), "a byte more than a block": bytes(MIB + 1), "lines": b"a line\r\n" * 1000,
    }[kind]  # fmt: skip


def check(path: Path, folder: Path, algorithm: str, content: bytes) -> None:
    job = job_of(path, folder)
    facts = compress(job, CompressOptions.model_validate({"algorithm": algorithm}))
    [name] = job.outputs
    assert is_output_name(name)
    packed = (folder / name).read_bytes()
    unpacked = zstandard.ZstdDecompressor().decompress(packed) if algorithm == "zstd" else gzip.decompress(packed)
    assert unpacked == content
    assert (facts["size_bytes"], facts["compressed_bytes"]) == (len(content), len(packed))


@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
@pytest.mark.parametrize(
    "kind", ["one byte", "noise", "gz of gz", "exactly one block", "a byte more than a block", "lines"]
)
def test_every_content_comes_back(tmp_path: Path, kind: str, algorithm: str) -> None:
    path, content = tmp_path / "original.bin", content_of(kind)
    path.write_bytes(content)
    os.utime(path, (1, -1))
    check(path, tmp_path, algorithm, content)
    assert checksum(job_of(path, tmp_path), ChecksumOptions())["sha256"] == hashlib.sha256(content).hexdigest()
    assert (path.read_bytes(), path.stat().st_mtime) == (content, -1)


@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_works(tmp_path: Path, name: str, algorithm: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(b"content" * 100)
    check(path, tmp_path, algorithm, b"content" * 100)


@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
def test_a_sparse_file_is_all_zeros(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "original.img"
    path.touch()
    os.truncate(path, 16 * MIB)
    check(path, tmp_path, algorithm, bytes(16 * MIB))


@pytest.mark.parametrize("change", ["grows", "shrinks"])
@pytest.mark.parametrize("processor", ["checksum", "zstd", "gzip"])
def test_a_file_that_changes_meanwhile_is_not_vouched_for(tmp_path: Path, processor: str, change: str) -> None:
    path = tmp_path / "original.bin"
    path.write_bytes(bytes(3 * MIB))
    changed = 4 * MIB if change == "grows" else 2 * MIB
    job = job_of(path, tmp_path, report=lambda *_: os.truncate(path, changed))
    options = CompressOptions.model_validate({"algorithm": "gzip" if processor == "checksum" else processor})
    with pytest.raises((TaskError, zstandard.ZstdError)):
        _ = checksum(job, ChecksumOptions()) if processor == "checksum" else compress(job, options)


@pytest.mark.parametrize("room", [0, -1])
async def test_an_output_of_exactly_the_limit_fits(tmp_path: Path, room: int) -> None:
    (tmp_path / "original.bin").write_bytes(os.urandom(3 * MIB))
    [packed] = (await FileRun(tmp_path / "original.bin")("compress"))["files"].values()
    run = FileRun(tmp_path / "original.bin", max_output_bytes=packed["size"] + room)
    if room == 0:
        await run("compress")
        return
    with pytest.raises(TaskError) as caught:
        await run("compress")
    assert caught.value.code == "too_large"
