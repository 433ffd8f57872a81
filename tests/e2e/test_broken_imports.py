"""A module of `imports` that cannot be imported: one sentence with file and line, and nothing is started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.command_line import celeriac

#: What is imported, and when, is the subject.
pytestmark = pytest.mark.fresh_python

#: What is wrong with the module, by what is said of it.
BROKEN = {
    r"importing mytasks failed in mytasks\.py, line 2: SyntaxError: .*": "x = 1\ndef (:\n",
    r"importing mytasks failed in mytasks\.py, line 1: ModuleNotFoundError: No module named 'no_such_package'": (
        "import no_such_package\n"
    ),
    r"importing mytasks failed in mytasks\.py, line 3: TypeError: .*max_retry.*": (
        "from celeriac import task\n\n@task(max_retry=1)\ndef a(): pass\n"
    ),
    r"importing mytasks failed in mytasks\.py, line 6: two task types are named 'a'.*": (
        "from celeriac import task\n\n@task\ndef a(): pass\n\n@task('a')\ndef b(): pass\n"
    ),
    r"importing mytasks failed in mytasks\.py, line 2: RuntimeError: no key is set": (
        "def key():\n    raise RuntimeError('no key is set')\nkey()\n"
    ),
    r"importing mytasks failed in mytasks\.py, line 1: SystemExit: 3": "raise SystemExit(3)\n",
    r"importing mytasks failed in helping\.py, line 1: ZeroDivisionError: .*": "import helping\n",
    r"imports: there is no module 'mytasks': .*": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "celeriac.yaml").write_text("imports: mytasks\n")
    (tmp_path / "helping.py").write_text("1 / 0\n")
    return tmp_path


@pytest.mark.parametrize("said", BROKEN)
async def test_up_says_what_is_wrong_and_starts_nothing(folder: Path, said: str) -> None:
    if BROKEN[said]:
        (folder / "mytasks.py").write_text(BROKEN[said])
    code, out, err = await celeriac("up", "--port", "0", "--grpc-port", "0", cwd=folder)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"celeriac: {said}\n", err), err
    assert not (folder / ".celeriac" / "run.json").exists()
    assert not list((folder / ".celeriac").rglob("*.aof"))


@pytest.mark.parametrize("command", [["worker"], ["api", "--port", "0", "--grpc-port", "0"], ["beat"]])
async def test_each_process_says_the_same(folder: Path, valkey_url: str, command: list[str]) -> None:
    (folder / "mytasks.py").write_text("x = 1\ndef (:\n")
    code, _, err = await celeriac(*command, cwd=folder, REDIS_URL=valkey_url, CELERIAC_LOG_FORMAT="console")
    assert code == 2
    assert re.search(r"^celeriac: importing mytasks failed in mytasks\.py, line 2: SyntaxError: [^\n]*$", err, re.M)
    assert "Traceback" not in err
    assert "importlib" not in err


async def test_a_module_of_an_adopted_project_is_named_too(tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "proj.py").write_text(
        f"from celery import Celery\napp = Celery('proj', broker='{valkey_url}', include=['jobs'])\n"
    )
    (tmp_path / "jobs.py").write_text("import no_such_package\n")
    code, _, err = await celeriac("worker", "-A", "proj", cwd=tmp_path, CELERIAC_LOG_FORMAT="console")
    assert code == 2
    assert "celeriac: importing proj failed in jobs.py, line 1: ModuleNotFoundError" in err
    assert "Traceback" not in err
