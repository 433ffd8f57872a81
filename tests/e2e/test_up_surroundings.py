"""`celeriac up` where the machine is not as one hopes: odd folders, permissions, limits and variables."""

from __future__ import annotations

import os
import stat
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest

from celeriac import AsyncClient
from tests.kit.command_line import CELERIAC, celeriac
from tests.kit.up.running_up import RunningUp

PROGRAM = "import os, time; print('umask', oct(os.umask(0))); time.sleep(600)"


def open_to_others(folder: Path) -> dict[str, str]:
    """Return what other users may do with what is in a folder, links apart."""
    return {
        str(path): stat.filemode(path.lstat().st_mode)
        for path in folder.rglob("*")
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    }


def in_shell(before: str) -> tuple[str, ...]:
    """Return a command line that does something in a shell, and then becomes `celeriac`."""
    return ("sh", "-c", f'{before} && exec "$0" "$@"', *CELERIAC)


@pytest.mark.parametrize("umask", [0o777, 0o000], ids=oct)
async def test_what_the_platform_makes_is_for_its_user_only(tmp_path: Path, umask: int) -> None:
    data = tmp_path / "data"
    # As an earlier version left it.
    (data / "uploads").mkdir(parents=True, mode=0o755)
    (data / "celeriac.db").touch(mode=0o644)
    (tmp_path / "c.yaml").write_text("up: {processes: {own: 'python own.py'}}\nfiles: {storage_path: kept}\n")
    (tmp_path / "own.py").write_text(PROGRAM)
    with RunningUp(data, "--config", "c.yaml", cwd=tmp_path, before=partial(os.umask, umask)) as up:
        await up.ready()
        # The operator's own programs keep the umask that they were started with.
        await up.said(f"umask {oct(umask)}")
        async with httpx.AsyncClient(base_url=up.run_json["http"], timeout=60) as http:
            made = await http.put("/api/v1/files/a.txt", content=b"x" * 1000)
        async with AsyncClient(up.run_json["http"]) as client:
            payload = {"processor": "compress", "file_id": made.json()["file_id"]}
            assert await (await client.submit("file_process", payload)).result(timeout=60)
        assert open_to_others(data) == {}
        assert open_to_others(tmp_path / "kept") == {}
        assert await up.stop() == 0


async def test_up_runs_with_few_open_files_and_without_the_usual_variables(tmp_path: Path) -> None:
    folder = tmp_path / "data ä 🎉 %41#&;x=y"
    odd = {"TZ": "No/Where", "TMPDIR": "/nowhere", "PYTHONOPTIMIZE": "2", "LC_ALL": "xx_YY"}
    with RunningUp(folder, cwd=tmp_path, command=in_shell("ulimit -n 256 && unset HOME"), **odd) as up:
        await up.said("is ready.", timeout_s=90)
        async with AsyncClient(up.run_json["http"]) as client:
            handles = await client.submit_many([{"type": "celeriac.demo", "payload": {"seconds": 0.01}}] * 300)
            for handle in handles:
                assert await handle.result(timeout=60)
        assert "Traceback" not in up.text
        assert await up.stop() == 0


@pytest.mark.parametrize("kind", ["file", "below a file", "loop", "too long", "read-only"])
async def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    folder = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "x",
        "loop": tmp_path / "loop",
        "too long": tmp_path / ("l" * 300),
        "read-only": Path("/proc/nothing"),
    }[kind]
    code, _, err = await celeriac("up", "--port", "0", "--grpc-port", "0", "--data-dir", str(folder), cwd=tmp_path)
    assert code == 2
    assert "Traceback" not in err
    assert "is a file" in err if kind == "file" else err.count("\n") == 1 and "cannot use the data folder" in err


async def test_a_current_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f"cd {gone} && rmdir {gone}"
    with RunningUp(tmp_path / "data", command=in_shell(shell), PYTHONPATH=os.pathsep.join(sys.path)) as up:
        assert await up.ended() == 1
        assert "does not exist any more" in up.text
        assert "Traceback" not in up.text
