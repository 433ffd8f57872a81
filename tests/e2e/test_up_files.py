"""The quickstart of docs/files.md, step by step, on a running `celeriac up`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import httpx

from tests.kit.command_line import REPOSITORY, celeriac, clean_environment
from tests.kit.up.running_up import RunningUp

EXAMPLES = REPOSITORY / "examples" / "files"


async def example(name: str, *arguments: str) -> str:
    """Run an example program and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / name), *arguments, stdout=asyncio.subprocess.PIPE, env=clean_environment()
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out
    return out.decode().strip()


async def test_a_video_that_is_handed_over_becomes_an_mp4_and_a_text_is_counted(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / "words.py", project)
    (project / "celeriac.yaml").write_text("imports: [words]\n")
    text = tmp_path / "some.txt"
    text.write_text("one two three\n")
    movie = await example("make_video.py", str(tmp_path / "holiday.mkv"), "--seconds", "3")
    with RunningUp(project / "data", cwd=project) as up:
        await up.ready()
        target = up.run_json["grpc"].partition("//")[2] or up.run_json["grpc"]

        created, ended = (await example("create_task.py", movie, "--target", target)).splitlines()
        task_id, (status, result) = created.split()[1], ended.split(" ", 1)
        assert status == "COMPLETED", ended
        made = Path(result)
        assert (made.name, made.parent.name) == ("result.mp4", task_id)
        assert {path.name for path in made.parent.iterdir()} == {"original.mp4", "result.mp4", "thumbnail.jpg"}
        assert "holiday.mkv" not in os.listdir(tmp_path), "it was handed over"

        async with httpx.AsyncClient(timeout=60, base_url=up.run_json["http"]) as client:
            record = (await client.get(f"/api/v1/tasks/{task_id}")).json()
            assert record["result"]["facts"]["probe"]["streams"][0]["codec"] == "h264"

        payload = json.dumps({"processor": "words", "path": str(text)})
        code, out, err = await celeriac(
            "submit",
            "file_process",
            "--payload",
            payload,
            "--watch",
            "--json",
            "--data-dir",
            str(up.data_dir),
            cwd=project,
        )
        assert code == 0, err
        assert '"words":3' in out.replace(" ", "")
        assert text.exists()


async def test_an_upload_becomes_a_task_and_its_result_is_downloaded(tmp_path: Path) -> None:
    movie = await example("make_video.py", str(tmp_path / "holiday.mkv"), "--seconds", "2")
    with RunningUp(tmp_path / "data", cwd=tmp_path) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=up.run_json["http"], timeout=30) as client:
            content = await asyncio.to_thread(Path(movie).read_bytes)
            upload = (await client.post("/api/v1/files", files={"file": ("holiday.mkv", content)})).json()
            assert upload["size"] == len(content)
            payload = {"file_id": upload["file_id"], "options": {"transcode": {"height": 180}}}
            task_id = (await client.post("/api/v1/tasks", json={"type": "file_process", "payload": payload})).json()[
                "task_id"
            ]
            code, _, err = await celeriac("watch", task_id, "--data-dir", str(up.data_dir), cwd=tmp_path)
            assert code == 0, err
            whole = await client.get(f"/api/v1/tasks/{task_id}/file")
            assert whole.headers["content-type"] == "video/mp4"
            part = await client.get(f"/api/v1/tasks/{task_id}/file", headers={"Range": "bytes=4-7"})
            assert (part.status_code, part.content) == (206, b"ftyp")
            assert (await client.get(f"/api/v1/tasks/{task_id}/original")).content == content
